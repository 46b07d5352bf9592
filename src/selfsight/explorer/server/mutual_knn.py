"""Two networks beside each other: about which pictures do they agree who is like whom? Torch-free."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float, Int

__all__ = ["mutual_knn", "nearest_rows"]

SAMPLE, NEAR, PART = 3000, 10, 1000
"""Pictures that are compared, drawn evenly; neighbours of each; pictures whose neighbours are looked for at a time."""
SHOWN, ALIKE, BESIDE = 24, 6, 6
"""Pictures about which networks differ most and agree most, and neighbours of each, that are told."""


def mutual_knn(left: Float[np.ndarray, "item dim"], right: Float[np.ndarray, "item dim2"]) -> dict[str, Any]:
    """How many of a picture's nearest neighbours two networks share (mutual k-NN; Huh et al. 2024, arXiv:2405.07987).

    With ``N(i)`` the 10 pictures of largest cosine: ``|N_left(i) ∩ N_right(i)| / 10``, on at most 3,000 pictures. Chance is
    ``10 / (n - 1)``. Their programme cuts off the largest values first; here vectors are as they are, so that neighbours are those that
    the page of a picture shows.

    Returns:
        ``mean``, ``chance`` (``None`` of fewer than two pictures) and ``of`` (pictures compared); ``differ`` and ``agree``: pictures
        with the fewest and most shared neighbours, each a row with ``shared`` and both networks' nearest.
    """
    if len(left) < 2:
        return {"mean": None, "chance": None, "of": len(left), "differ": [], "agree": []}
    rows = np.linspace(0, len(left) - 1, min(len(left), SAMPLE)).astype(np.int64)
    near = min(NEAR, len(rows) - 1)
    both = [np.concatenate([found for _, found, _ in nearest_rows(vectors[rows], near, PART)]) for vectors in (left, right)]
    shared = (both[0][:, :, None] == both[1][:, None, :]).any(2).mean(1)
    order = np.argsort(shared, kind="stable")

    def told(place: int) -> dict[str, Any]:
        sides = {side: rows[found[place, :BESIDE]].tolist() for side, found in zip(("left", "right"), both, strict=True)}
        return {"row": int(rows[place]), "shared": round(float(shared[place]), 3), **sides}

    return {
        "mean": round(float(shared.mean()), 4),
        "chance": round(near / max(len(rows) - 1, 1), 4),
        "of": len(rows),
        "differ": [told(place) for place in order[:SHOWN].tolist()],
        "agree": [told(place) for place in order[::-1][:ALIKE].tolist()],
    }


def nearest_rows(
    vectors: Float[np.ndarray, "item dim"], near: int, part: int
) -> Iterator[tuple[int, Int[np.ndarray, "row near"], Float[np.ndarray, "row near"]]]:
    """The most alike others of every item by cosine, the most alike first: some items at a time, with the number of the first."""
    unit = np.asarray(vectors, dtype=np.float32)
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True).clip(min=1e-12)
    near = min(near, len(unit) - 1)
    for start in range(0, len(unit), part):
        alike = unit[start : start + part] @ unit.T
        alike[np.arange(len(alike)), start + np.arange(len(alike))] = -np.inf
        some = np.argpartition(-alike, max(near - 1, 0), axis=1)[:, :near]
        order = np.argsort(-np.take_along_axis(alike, some, 1), axis=1, kind="stable")
        rows = np.take_along_axis(some, order, 1)
        yield start, rows, np.take_along_axis(alike, rows, 1)
