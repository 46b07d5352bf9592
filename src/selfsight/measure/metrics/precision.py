"""Average precision of boxes of several classes, as COCO counts it (Lin et al. 2014, arXiv:1405.0312; its program ``cocoeval``).

In each picture the surest hundred boxes of a class, the surest first, each take the true box of that class with the largest overlap that is
still free, where the overlap is t or more. Over all pictures, by falling score::

    P(k) = right of the first k / k             R(k) = right of the first k / true boxes
    AP_t = 1/101 Σ max { P(k) : R(k) >= r }     over r = 0, .01, …, 1; 0 where no R(k) reaches r

AP is the mean over t = .50, .55, …, .95 and over the classes that occur; AP50 and AP75 are those at one t. A crowd (a true box around many)
is found by any number of boxes, its overlap is the part of the found box inside it, and neither it nor they count.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from selfsight.core.errors import DataError
from selfsight.measure.metrics.overlap import box_overlaps
from selfsight.measure.results import Score

__all__ = ["MOST", "THRESHOLDS", "average_precision", "score_detections"]

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
MOST = 100
"""Boxes of a class and picture that count."""
DRAWS = 200
Boxes = Sequence[np.ndarray]


@dataclass(frozen=True)
class _Found:
    """The boxes found of one class over all pictures, the surest first.

    Attributes:
        picture: in which each was found.
        right, void: at each threshold, whether it found an object; whether it does not count.
        objects: how many each picture has.
    """

    picture: Int[np.ndarray, " box"]
    right: Bool[np.ndarray, "threshold box"]
    void: Bool[np.ndarray, "threshold box"]
    objects: Int[np.ndarray, " picture"]

    def precision(self, times: Float[np.ndarray, " picture"] | None = None) -> Float[np.ndarray, " threshold"]:
        """AP at each threshold, NaN without objects; ``times``: how many times each picture is counted."""
        counted = np.ones(len(self.objects)) if times is None else times
        objects = float((self.objects * counted).sum())
        if not objects:
            return np.full(len(self.right), np.nan)
        each = counted[self.picture]
        right, wrong = (self.right * each).cumsum(1), (~(self.right | self.void) * each).cumsum(1)
        seen = right + wrong
        precision = np.divide(right, seen, out=np.zeros_like(seen), where=seen > 0)
        highest = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        padded = np.concatenate([highest, np.zeros((len(highest), 1))], 1)
        recall = right / objects
        return np.array([line[np.searchsorted(reached, RECALLS, side="left")].mean() for line, reached in zip(padded, recall, strict=True)])


def _taken(
    boxes: Float[np.ndarray, "box 4"], objects: Float[np.ndarray, "object 4"], crowd: Bool[np.ndarray, " object"]
) -> tuple[Bool[np.ndarray, "threshold box"], Bool[np.ndarray, "threshold box"]]:
    """Which boxes of one picture and class, the surest first, are right at each threshold, and which do not count."""
    order = np.argsort(crowd, kind="stable")
    objects, crowd = objects[order], crowd[order]
    overlaps = box_overlaps(boxes, objects)
    if crowd.any():
        low, high = np.maximum(boxes[:, None, :2], objects[crowd, :2]), np.minimum(boxes[:, None, 2:], objects[crowd, 2:])
        area = (boxes[:, 2:] - boxes[:, :2]).prod(1)[:, None]
        overlaps[:, crowd] = (high - low).clip(min=0).prod(2) / np.where(area > 0, area, 1)
    right, void = (np.zeros((len(THRESHOLDS), len(boxes)), dtype=bool) for _ in range(2))
    for level, least in enumerate(np.minimum(THRESHOLDS, 1 - 1e-10)):
        free = np.ones(len(objects), dtype=bool)
        for box, row in enumerate(overlaps):
            fits = free & (row >= least)
            single = fits & ~crowd
            choice = single if single.any() else fits
            if choice.any():
                best = len(row) - 1 - int(np.where(choice, row, -1)[::-1].argmax())  # of equals, the last
                free[best] &= bool(crowd[best])
                (void if crowd[best] else right)[level, box] = True
    return right, void


def _class_found(found: Boxes, truth: Boxes, crowds: Boxes | None, kind: int) -> _Found:
    """All boxes of one class."""
    scores, pictures, right, void, objects = [], [], [], [], []
    for picture, (boxes, real) in enumerate(zip(found, truth, strict=True)):
        mine = boxes[boxes[:, 4] == kind]
        mine = mine[np.argsort(-mine[:, 5], kind="stable")[:MOST]].astype(float)
        of_kind = real[:, 4] == kind
        crowd = np.zeros(int(of_kind.sum()), dtype=bool) if crowds is None else np.asarray(crowds[picture], dtype=bool)[of_kind]
        good, not_counted = _taken(mine[:, :4], real[of_kind, :4].astype(float), crowd)
        scores.append(mine[:, 5])
        pictures.append(np.full(len(mine), picture))
        right.append(good)
        void.append(not_counted)
        objects.append(int((~crowd).sum()))
    order = np.argsort(-np.concatenate(scores), kind="stable")
    joined = np.concatenate(right, 1)[:, order], np.concatenate(void, 1)[:, order]
    return _Found(np.concatenate(pictures)[order], *joined, np.array(objects))


def average_precision(found: Boxes, truth: Boxes, classes: int, *, crowds: Boxes | None = None) -> Float[np.ndarray, "threshold class"]:
    """AP of each class at each of ``THRESHOLDS``; NaN for classes of which no picture has an object.

    Args:
        found: of each picture (box, 6): left, top, right, bottom, class, score.
        truth: of each picture (object, 5): left, top, right, bottom, class.
        classes: how many there are.
        crowds: of each picture, which true boxes are around many objects; none by default.
    """
    return np.stack([_class_found(found, truth, crowds, kind).precision() for kind in range(classes)], 1)


def score_detections(found: Boxes, truth: Boxes, classes: int, *, crowds: Boxes | None = None, seed: int = 0) -> dict[str, Score]:
    """``AP``, ``AP50`` and ``AP75``, with intervals over draws of pictures; arguments as for ``average_precision``.

    AP of a draw is larger than that of all pictures on average (of few objects the largest precision is), so the interval is moved by so much.

    Raises:
        DataError: no picture has an object.
    """
    every = [_class_found(found, truth, crowds, kind) for kind in range(classes)]
    every = [one for one in every if one.objects.sum()]
    if not every:
        raise DataError("None of the pictures has a true box with a class.", "Give truth that knows objects of these pictures.")

    def means(times: np.ndarray | None) -> np.ndarray:
        table = np.stack([one.precision(times) for one in every])
        table = table[~np.isnan(table[:, 0])]
        return np.array([table.mean(), table[:, 0].mean(), table[:, 5].mean()]) if len(table) else np.zeros(3)

    value = means(None)
    dice, count = np.random.default_rng(seed), len(truth)
    drawn = [means(np.bincount(dice.integers(count, size=count), minlength=count).astype(float)) for _ in range(DRAWS)]
    low, high = value + np.quantile(drawn, (0.025, 0.975), axis=0) - np.mean(drawn, 0)
    return {
        name: Score(float(one), max(float(least), 0.0), min(float(most), 1.0))
        for name, one, least, most in zip(("AP", "AP50", "AP75"), value, low, high, strict=True)
    }
