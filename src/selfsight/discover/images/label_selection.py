"""Selection of images for labelling: cluster centres, diverse images, and images between two clusters."""

import numpy as np
from jaxtyping import Bool, Float, Int

__all__ = ["first_of_group", "select_for_labelling"]

SAMPLE = 5000
"""Maximum number of candidates, evenly spaced."""


def select_for_labelling(
    vectors: Float[np.ndarray, "item dim"],
    clusters: Int[np.ndarray, " item"],
    nearness: Float[np.ndarray, " item"],
    twins: Float[np.ndarray, " item"],
    count: int = 30,
) -> list[tuple[int, str]]:
    """Select images for labelling: a third each ``central`` (of the largest clusters), ``diverse`` and ``doubtful``.

    Diverse: farthest-first traversal (Gonzalez 1985). Doubtful: the smallest difference of similarity to the two nearest cluster means. Of
    near-duplicates only the first is a candidate.

    Args:
        vectors: features ``(N, D)``.
        clusters: ``(N,)`` cluster of each image.
        nearness: ``(N,)`` cosine of each image with its cluster centre.
        twins: ``(N,)`` index of each image's group of near-duplicates, NaN where it has none.
        count: maximum number of images.

    Returns:
        Rows and reasons.
    """
    rows, unit = _sampled(vectors, twins)
    ids, sizes = np.unique(clusters[rows], return_counts=True)
    means = np.stack([unit[clusters[rows] == number].mean(0) for number in ids])
    third = max(count // 3, 1)
    central = [int(np.where(clusters[rows] == number, nearness[rows], -np.inf).argmax()) for number in ids[np.argsort(-sizes)][:third]]
    chosen = dict.fromkeys(central, "central")
    similarity = (unit @ unit[central].T).max(1)
    for _ in range(min(third, len(rows) - len(chosen))):
        farthest = int(np.where(np.isin(np.arange(len(rows)), list(chosen)), np.inf, similarity).argmin())
        chosen[farthest] = "diverse"
        similarity = np.maximum(similarity, unit @ unit[farthest])
    if len(ids) > 1:
        similarities = np.sort(unit @ means.T, axis=1)
        for candidate in np.argsort(similarities[:, -1] - similarities[:, -2], kind="stable").tolist():
            if len(chosen) >= min(count, len(rows)):
                break
            chosen.setdefault(candidate, "doubtful")
    return [(int(rows[candidate]), reason) for candidate, reason in chosen.items()][:count]


def first_of_group(groups: Float[np.ndarray, " item"]) -> Bool[np.ndarray, " item"]:
    """Whether each item is the first of its group, or has no group (NaN)."""
    first = ~np.isfinite(groups)
    first[np.unique(groups, return_index=True)[1]] = True
    return first


def _sampled(
    vectors: Float[np.ndarray, "item dim"], twins: Float[np.ndarray, " item"]
) -> tuple[Int[np.ndarray, " row"], Float[np.ndarray, "row dim"]]:
    """Candidate rows, without duplicates, and their centred unit-length vectors."""
    rows = np.flatnonzero(first_of_group(twins))
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), SAMPLE)).astype(np.int64)]
    unit = np.asarray(vectors[rows], dtype=np.float32)
    unit = unit - unit.mean(0)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True).clip(min=1e-12)
    return rows, unit
