"""Whether parts that were found are the parts that things have."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int, Integer

from selfsight.data.source import Source
from selfsight.measure.metrics.agreement import adjusted_rand, normalised_mutual_information
from selfsight.measure.metrics.overlap import confusion
from selfsight.measure.results import Score

__all__ = ["part_map", "score_parts"]

DRAWS = 200
"""Of pictures, for the interval."""


def part_map(parts: Integer[np.ndarray, "height width"], boxes: Float[np.ndarray, "object 5"]) -> Int[np.ndarray, "height width"]:
    """The number of the kind of part at each pixel, from 1; 0 where none is: what is part p of an object of class c has ``2 c + p``.

    Args:
        parts: ``2 k - 1`` and ``2 k`` are the two parts of object k (``worlds.shapes``).
        boxes: of the objects, the class last.
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
    """Agreement of found with true parts over the pixels of things, all pictures in one table; None where no parts are known.

    As Choudhury et al. 2021 (arXiv:2111.06349) judge: pixels of which the truth says that nothing is there do not count; where nothing was
    found in a thing, that is a part like others. 95 % intervals over pictures.

    Args:
        at: the number of the part at each pixel of a picture of some (height, width), from 1; 0: none.
        source: the data set.
        parts: how many there may be, without none.
        sizes: (height, width) of each picture as the data set gives it.
        seed: of the intervals.

    Returns:
        ``nmi`` and ``ari``.
    """
    truth = source.truth(np.arange(len(source)))
    if truth.parts is None or truth.boxes is None:
        return None
    kinds = 1 + 2 * max(len(truth.classes), 1 + max((int(boxes[:, 4].max()) for boxes in truth.boxes if len(boxes)), default=0))
    tables = []
    for row, (known, boxes, (height, width)) in enumerate(zip(truth.parts, truth.boxes, sizes, strict=True)):
        real = part_map(np.asarray(known)[:height, :width], boxes)
        tables.append(confusion(at(row, (height, width)), np.where(real > 0, real, 255), parts + 1, kinds))
    every = np.stack(tables)
    draws = np.random.default_rng(seed).integers(len(every), size=(DRAWS, len(every)))
    found = {}
    for name, agreement in (("nmi", normalised_mutual_information), ("ari", adjusted_rand)):
        low, high = np.quantile([agreement(every[some].sum(0)) for some in draws], (0.025, 0.975))
        found[name] = Score(agreement(every.sum(0)), float(low), float(high))
    return found
