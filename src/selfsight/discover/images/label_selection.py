"""Which pictures are most worth a label: one that stands for each cluster, those that are far from all chosen, those between two clusters."""

import numpy as np
from jaxtyping import Bool, Float, Int

__all__ = ["first_of_group", "select_for_labelling"]

SAMPLE = 5000
"""Pictures that are chosen from, drawn evenly."""


def select_for_labelling(
    vectors: Float[np.ndarray, "item dim"],
    clusters: Int[np.ndarray, " item"],
    nearness: Float[np.ndarray, " item"],
    twins: Float[np.ndarray, " item"],
    count: int = 30,
) -> list[tuple[int, str]]:
    """Rows and reasons, a third each: ``central`` (of the largest clusters), ``diverse``, ``doubtful``.

    Diverse: the farthest first (Gonzalez 1985): again and again the one whose nearest chosen one is least like it. Doubtful: the smallest
    difference of likeness to the two nearest clusters' means. Of duplicates the first stands for all.

    Args:
        vectors: what a network says of each picture.
        clusters, nearness: of each picture, and how near it is to its cluster's middle.
        twins: the number of its group of duplicates, NaN where it has none.
        count: how many are chosen, at most.
    """
    rows, unit = _sampled(vectors, twins)
    kinds, sizes = np.unique(clusters[rows], return_counts=True)
    middles = np.stack([unit[clusters[rows] == kind].mean(0) for kind in kinds])
    third = max(count // 3, 1)
    central = [int(np.where(clusters[rows] == kind, nearness[rows], -np.inf).argmax()) for kind in kinds[np.argsort(-sizes)][:third]]
    chosen = dict.fromkeys(central, "central")
    alike = (unit @ unit[central].T).max(1)
    for _ in range(min(third, len(rows) - len(chosen))):
        far = int(np.where(np.isin(np.arange(len(rows)), list(chosen)), np.inf, alike).argmin())
        chosen[far] = "diverse"
        alike = np.maximum(alike, unit @ unit[far])
    if len(kinds) > 1:
        likeness = np.sort(unit @ middles.T, axis=1)
        for place in np.argsort(likeness[:, -1] - likeness[:, -2], kind="stable").tolist():
            if len(chosen) >= min(count, len(rows)):
                break
            chosen.setdefault(place, "doubtful")
    return [(int(rows[place]), why) for place, why in chosen.items()][:count]


def first_of_group(groups: Float[np.ndarray, " item"]) -> Bool[np.ndarray, " item"]:
    """Which items are the first of their group, or in none (NaN)."""
    first = ~np.isfinite(groups)
    first[np.unique(groups, return_index=True)[1]] = True
    return first


def _sampled(
    vectors: Float[np.ndarray, "item dim"], twins: Float[np.ndarray, " item"]
) -> tuple[Int[np.ndarray, " row"], Float[np.ndarray, "row dim"]]:
    """Rows that are chosen from, duplicates once, and their vectors, centred and of length one."""
    rows = np.flatnonzero(first_of_group(twins))
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), SAMPLE)).astype(np.int64)]
    unit = np.asarray(vectors[rows], dtype=np.float32)
    unit = unit - unit.mean(0)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True).clip(min=1e-12)
    return rows, unit
