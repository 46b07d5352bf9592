"""Comparison of two networks by the nearest neighbours of images. Torch-free."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float, Int

__all__ = ["mutual_knn", "nearest_rows"]

SAMPLE, NEAR, PART = 3000, 10, 1000
"""Sample size, evenly spaced; neighbours per image; batch size."""
LOWEST, HIGHEST, NEAREST = 24, 6, 6
"""Number of images with the lowest and the highest agreement in the result, and neighbours of each."""


def mutual_knn(left: Float[np.ndarray, "item dim"], right: Float[np.ndarray, "item dim2"]) -> dict[str, Any]:
    """Fraction of an image's nearest neighbours that two networks share (mutual k-NN; Huh et al. 2024, arXiv:2405.07987).

    With ``N(i)`` the 10 images of largest cosine: ``|N_left(i) ∩ N_right(i)| / 10``, on at most 3,000 images. Chance level is
    ``10 / (n - 1)``. The published code clips the largest values first; here features are not changed, so that neighbours are those that the
    page of an image shows.

    Args:
        left: features ``(N, D)`` of the first network.
        right: features ``(N, D2)`` of the second network.

    Returns:
        ``mean``, ``chance`` (``None`` for fewer than two images) and ``of`` (number of images); ``differ`` and ``agree``: images with the
        fewest and the most shared neighbours, each a row with ``shared`` and the nearest neighbours in both networks.
    """
    if len(left) < 2:
        return {"mean": None, "chance": None, "of": len(left), "differ": [], "agree": []}
    rows = np.linspace(0, len(left) - 1, min(len(left), SAMPLE)).astype(np.int64)
    near = min(NEAR, len(rows) - 1)
    both = [np.concatenate([found for _, found, _ in nearest_rows(vectors[rows], near, PART)]) for vectors in (left, right)]
    shared = (both[0][:, :, None] == both[1][:, None, :]).any(2).mean(1)
    order = np.argsort(shared, kind="stable")

    def entry(index: int) -> dict[str, Any]:
        sides = {side: rows[found[index, :NEAREST]].tolist() for side, found in zip(("left", "right"), both, strict=True)}
        return {"row": int(rows[index]), "shared": round(float(shared[index]), 3), **sides}

    return {
        "mean": round(float(shared.mean()), 4),
        "chance": round(near / max(len(rows) - 1, 1), 4),
        "of": len(rows),
        "differ": [entry(index) for index in order[:LOWEST].tolist()],
        "agree": [entry(index) for index in order[::-1][:HIGHEST].tolist()],
    }


def nearest_rows(
    vectors: Float[np.ndarray, "item dim"], near: int, part: int
) -> Iterator[tuple[int, Int[np.ndarray, "row near"], Float[np.ndarray, "row near"]]]:
    """Nearest neighbours of every item by cosine similarity, nearest first, without the item itself, in batches.

    Args:
        vectors: features ``(N, D)``.
        near: number of neighbours.
        part: batch size.

    Yields:
        Index of the first item of the batch; rows of the neighbours; similarities.
    """
    unit = np.asarray(vectors, dtype=np.float32)
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True).clip(min=1e-12)
    near = min(near, len(unit) - 1)
    for start in range(0, len(unit), part):
        similarity = unit[start : start + part] @ unit.T
        similarity[np.arange(len(similarity)), start + np.arange(len(similarity))] = -np.inf
        nearest = np.argpartition(-similarity, max(near - 1, 0), axis=1)[:, :near]
        order = np.argsort(-np.take_along_axis(similarity, nearest, 1), axis=1, kind="stable")
        rows = np.take_along_axis(nearest, order, 1)
        yield start, rows, np.take_along_axis(similarity, rows, 1)
