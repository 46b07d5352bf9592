"""The shape of an embedding: no label is needed."""

from collections.abc import Callable

import numpy as np
import torch

from selfsight.measure.results import Features, Score, Scores
from selfsight.objectives.spread import alignment, effective_rank, uniformity

__all__ = ["geometry"]

ROWS = 2000
"""Test samples at most; pairs grow with their square."""


def geometry(features: Features, *, seed: int = 0, draws: int = 20) -> Scores:
    """Alignment of two views of a picture, uniformity, effective rank (Wang & Isola 2020, arXiv:2005.10242; RankMe, arXiv:2210.02885).

    Lower alignment (0 to 4) and lower uniformity are better; effective rank lies between 1 and the length of the vector.
    """
    generator = np.random.default_rng(seed)
    rows = _some(features.test, generator)
    values = {
        "uniformity": _spread(rows, lambda some: float(uniformity(some)), generator, draws),
        "effective_rank": _spread(rows, lambda some: float(effective_rank(some)), generator, draws),
    }
    if features.twins is not None:
        left, right = (torch.from_numpy(np.array(part, dtype=np.float32)) for part in features.twins)
        pairs = torch.cat([left, right], 1)
        half = left.shape[1]
        values["alignment"] = _spread(pairs, lambda some: float(alignment(some[:, :half], some[:, half:])), generator, draws)
    words = (
        f"unit-length features of at most {ROWS} test samples; alignment over two random crops of each; intervals from {draws} half samples"
    )
    return Scores(values, words)


def _some(rows: np.ndarray, generator: np.random.Generator) -> torch.Tensor:
    chosen = generator.permutation(len(rows))[:ROWS]
    return torch.from_numpy(np.array(rows[np.sort(chosen)], dtype=np.float32))


def _spread(rows: torch.Tensor, measure: Callable[[torch.Tensor], float], generator: np.random.Generator, draws: int) -> Score:
    """A value, and an interval from half samples drawn without replacement: rows drawn twice would be each other's nearest pairs."""
    halves = [measure(rows[generator.permutation(len(rows))[: max(len(rows) // 2, 2)]]) for _ in range(draws)]
    value, centre = measure(rows), float(np.mean(halves))
    low, high = np.quantile(halves, (0.025, 0.975)) - centre  # a half sample's spread about its own mean is that of the whole
    return Score(value, value + float(low), value + float(high))
