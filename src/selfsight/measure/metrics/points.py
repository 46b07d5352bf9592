"""Keypoint accuracy."""

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
        by_keypoint: over all keypoints of all images.
        by_image: mean over images of the fraction in each; the two can differ by several percent if images have different numbers of
            keypoints.
    """

    by_keypoint: Score
    by_image: Score


def pck(
    found: Sequence[Float[np.ndarray, "point 2"]],
    truth: Sequence[Float[np.ndarray, "point 2"]],
    sides: Sequence[float],
    *,
    reach: float = 0.1,
    seed: int = 0,
) -> PCK:
    """PCK: a keypoint is correct within ``reach`` times the longer side of the object's box (PCK@0.1 by bounding box).

    Args:
        found: predicted keypoints (point, 2) of each image: x and y in pixels.
        truth: true keypoints of each image in the same format.
        sides: longer side of each image's object box in pixels; longer side of the image for PCK by image size.
        reach: α.
        seed: seed of the bootstrap intervals.

    Raises:
        DataError: there are no keypoints.
    """
    right = [
        np.hypot(*(predicted - real).T) <= reach * side for predicted, real, side in zip(found, truth, sides, strict=True) if len(real)
    ]
    if not right:
        raise DataError("There are no keypoints of known position.", "Use ground truth with visible keypoints.")
    means = np.array([image.mean() for image in right])
    draws = np.random.default_rng(seed).choice(means, (1000, len(means))).mean(1)
    low, high = np.quantile(draws, (0.025, 0.975))
    return PCK(proportion(np.concatenate(right), seed), Score(float(means.mean()), float(low), float(high)))
