"""Agreement of discovered object parts with annotated parts."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int, Integer

from selfsight.data.source import VOID, Source
from selfsight.measure.metrics.agreement import adjusted_rand, normalised_mutual_information
from selfsight.measure.metrics.overlap import confusion
from selfsight.measure.results import Score

__all__ = ["part_map", "score_parts"]

DRAWS = 200
"""Bootstrap samples of images for the interval."""


def part_map(parts: Integer[np.ndarray, "height width"], boxes: Float[np.ndarray, "object 5"]) -> Int[np.ndarray, "height width"]:
    """Class of the part at each pixel, from 1, with 0 for none: part p (1 or 2) of an object of class c has ``2 c + p``.

    Args:
        parts: part (H, W) at each pixel; ``2 k - 1`` and ``2 k`` are the two parts of object k, counted from 1 (``worlds.shapes``).
        boxes: boxes (object, 5) of the objects, with the class last.
    """
    classes = np.repeat(np.asarray(boxes)[:, 4].astype(np.int64), 2)
    kinds = 2 * classes + 1 + np.arange(len(classes)) % 2
    return np.concatenate([[0], kinds])[parts]


def score_parts(
    at: Callable[[int, tuple[int, int]], Integer[np.ndarray, "height width"]],
    source: Source,
    parts: int,
    sizes: Sequence[tuple[int, int]],
    *,
    seed: int = 0,
) -> dict[str, Score] | None:
    """Agreement of discovered with annotated parts over the pixels of objects (Choudhury et al. 2021, arXiv:2111.06349).

    All images are counted in one table. Pixels outside of objects are ignored; pixels of objects without discovered part form a part of
    their own. Intervals are 95 % bootstrap intervals over images.

    Args:
        at: function that gives the part (H, W) of each pixel, from 1 with 0 for none, for a row and its size (height, width).
        source: the data set.
        parts: number of discovered parts, without none.
        sizes: (height, width) in pixels of each image as read.
        seed: seed of the intervals.

    Returns:
        ``nmi`` and ``ari``; None if the data set has no parts.
    """
    truth = source.truth(np.arange(len(source)))
    if truth.parts is None or truth.boxes is None:
        return None
    kinds = 1 + 2 * max(len(truth.classes), 1 + max((int(boxes[:, 4].max()) for boxes in truth.boxes if len(boxes)), default=0))
    tables = []
    for row, (parts_of_image, boxes, (height, width)) in enumerate(zip(truth.parts, truth.boxes, sizes, strict=True)):
        real = part_map(np.asarray(parts_of_image)[:height, :width], boxes)
        tables.append(confusion(at(row, (height, width)), np.where(real > 0, real, VOID), parts + 1, kinds))
    all_tables = np.stack(tables)
    draws = np.random.default_rng(seed).integers(len(all_tables), size=(DRAWS, len(all_tables)))
    found = {}
    for name, agreement in (("nmi", normalised_mutual_information), ("ari", adjusted_rand)):
        low, high = np.quantile([agreement(all_tables[rows].sum(0)) for rows in draws], (0.025, 0.975))
        found[name] = Score(agreement(all_tables.sum(0)), float(low), float(high))
    return found
