"""How near points come to where they should be."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from selfsight.core.errors import DataError
from selfsight.measure.results import Score, proportion

__all__ = ["PCK", "pck"]


@dataclass(frozen=True)
class PCK:
    """Percentage of correct keypoints (Yang & Ramanan 2013, IEEE PAMI 35), as fractions.

    Attributes:
        by_point: over all points of all pictures.
        by_picture: the mean over pictures of their shares; the two differ by several points where pictures have few or many.
    """

    by_point: Score
    by_picture: Score


def pck(
    found: Sequence[Float[np.ndarray, "point 2"]],
    truth: Sequence[Float[np.ndarray, "point 2"]],
    sides: Sequence[float],
    *,
    reach: float = 0.1,
    seed: int = 0,
) -> PCK:
    """A point is right within ``reach`` times the longer side of the object's box (PCK@0.1 by bounding box).

    Args:
        found, truth: x and y in pixels, by picture.
        sides: the longer side of each picture's object box in pixels; of the picture for PCK by picture size.
        reach: α.
        seed: of the intervals.

    Raises:
        DataError: there is no point.
    """
    right = [np.hypot(*(one - real).T) <= reach * side for one, real, side in zip(found, truth, sides, strict=True) if len(real)]
    if not right:
        raise DataError("There is no point whose place is known.", "Give truth with keypoints that are visible.")
    means = np.array([one.mean() for one in right])
    draws = np.random.default_rng(seed).choice(means, (1000, len(means))).mean(1)
    low, high = np.quantile(draws, (0.025, 0.975))
    return PCK(proportion(np.concatenate(right), seed), Score(float(means.mean()), float(low), float(high)))
