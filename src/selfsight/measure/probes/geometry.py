"""Geometry of an embedding: alignment, uniformity, effective rank. Labels are not needed."""

from collections.abc import Callable

import numpy as np
import torch

from selfsight.core.errors import DataError
from selfsight.measure.results import Features, Score, Scores
from selfsight.objectives.spread import alignment, effective_rank, uniformity

__all__ = ["geometry"]

ROWS = 2000
"""Maximum number of test samples; the number of pairs is quadratic in it."""


def geometry(features: Features, *, seed: int = 0, draws: int = 20) -> Scores:
    """Alignment of two views of each image, uniformity, effective rank (Wang & Isola 2020, arXiv:2005.10242; RankMe, arXiv:2210.02885).

    Lower alignment (0 to 4) and lower uniformity are better; effective rank lies between 1 and the feature dimension.

    Args:
        features: features; alignment is measured if they have ``twins``.
        seed: seed of the samples and intervals.
        draws: half samples for the intervals.

    Returns:
        The scores; without uniformity and effective rank, which the protocol says, if there is one test sample.

    Raises:
        DataError: there is one test sample, and no ``twins``.
    """
    generator = np.random.default_rng(seed)
    rows = _sample(features.test, generator)
    few = len(rows) < 2
    if few and features.twins is None:
        raise DataError("Uniformity and effective rank need two test samples, and there is one.", "Use more test images (--test).")
    measures = {} if few else {"uniformity": uniformity, "effective_rank": effective_rank}
    values = {
        name: _spread(rows, lambda sample, measure=measure: float(measure(sample)), generator, draws) for name, measure in measures.items()
    }
    if features.twins is not None:
        left, right = (torch.from_numpy(np.array(part, dtype=np.float32)) for part in features.twins)
        pairs = torch.cat([left, right], 1)
        half = left.shape[1]
        values["alignment"] = _spread(pairs, lambda sample: float(alignment(sample[:, :half], sample[:, half:])), generator, draws)
    protocol = (
        f"unit-length features of at most {ROWS} test samples; alignment over two random crops of each; intervals from {draws} half samples"
    )
    return Scores(values, f"{protocol}; uniformity and effective rank need two test samples, and there is one" if few else protocol)


def _sample(rows: np.ndarray, generator: np.random.Generator) -> torch.Tensor:
    chosen = generator.permutation(len(rows))[:ROWS]
    return torch.from_numpy(np.array(rows[np.sort(chosen)], dtype=np.float32))


def _spread(rows: torch.Tensor, measure: Callable[[torch.Tensor], float], generator: np.random.Generator, draws: int) -> Score:
    """A value with an interval from half samples without replacement.

    With replacement, repeated rows would be each other's nearest neighbours.
    """
    halves = [measure(rows[generator.permutation(len(rows))[: max(len(rows) // 2, 2)]]) for _ in range(draws)]
    value, centre = measure(rows), float(np.mean(halves))
    low, high = np.quantile(halves, (0.025, 0.975)) - centre  # deviation of half samples from their own mean
    return Score(value, value + float(low), value + float(high))
