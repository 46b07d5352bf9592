"""Average precision of boxes of several classes as in COCO (Lin et al. 2014, arXiv:1405.0312; reference code ``cocoeval``).

In each image the 100 most confident boxes of a class are matched by falling confidence: each takes the unmatched true box of that class
with the largest IoU, if that is at least t. Over all images, by falling confidence::

    P(k) = correct among the first k / k        R(k) = correct among the first k / true boxes
    AP_t = 1/101 Σ max { P(k) : R(k) >= r }     over r = 0, .01, …, 1; 0 where no R(k) reaches r

AP is the mean over t = .50, .55, …, .95 and over the classes that occur; AP50 and AP75 are those at one t. A crowd (a true box around many
objects) can be matched by any number of boxes, its overlap is the fraction of the predicted box inside it, and neither it nor its matches
count.
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
"""Maximum number of boxes that count per class and image."""
DRAWS = 200
Boxes = Sequence[np.ndarray]


@dataclass(frozen=True)
class _Found:
    """Predicted boxes of one class over all images, by falling confidence.

    Attributes:
        image: image of each box.
        right: at each threshold, whether a box is correct.
        void: at each threshold, whether a box is ignored.
        objects: number of true boxes of each image.
    """

    image: Int[np.ndarray, " box"]
    right: Bool[np.ndarray, "threshold box"]
    void: Bool[np.ndarray, "threshold box"]
    objects: Int[np.ndarray, " image"]

    def precision(self, times: Float[np.ndarray, " image"] | None = None) -> Float[np.ndarray, " threshold"]:
        """AP at each threshold, NaN without objects; ``times`` is the multiplicity of each image in a bootstrap sample."""
        multiplicity = np.ones(len(self.objects)) if times is None else times
        objects = float((self.objects * multiplicity).sum())
        if not objects:
            return np.full(len(self.right), np.nan)
        weights = multiplicity[self.image]
        right, wrong = (self.right * weights).cumsum(1), (~(self.right | self.void) * weights).cumsum(1)
        seen = right + wrong
        precision = np.divide(right, seen, out=np.zeros_like(seen), where=seen > 0)
        highest = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        padded = np.concatenate([highest, np.zeros((len(highest), 1))], 1)
        recall = right / objects
        return np.array(
            [curve[np.searchsorted(reached, RECALLS, side="left")].mean() for curve, reached in zip(padded, recall, strict=True)]
        )


def _taken(
    boxes: Float[np.ndarray, "box 4"], objects: Float[np.ndarray, "object 4"], crowd: Bool[np.ndarray, " object"]
) -> tuple[Bool[np.ndarray, "threshold box"], Bool[np.ndarray, "threshold box"]]:
    """Match boxes of one image and class, sorted by falling confidence: which are correct at each threshold, and which are ignored."""
    order = np.argsort(crowd, kind="stable")
    objects, crowd = objects[order], crowd[order]
    overlaps = box_overlaps(boxes, objects)
    if crowd.any():
        low, high = np.maximum(boxes[:, None, :2], objects[crowd, :2]), np.minimum(boxes[:, None, 2:], objects[crowd, 2:])
        area = (boxes[:, 2:] - boxes[:, :2]).prod(1)[:, None]
        overlaps[:, crowd] = (high - low).clip(min=0).prod(2) / np.where(area > 0, area, 1)
    correct, ignored = (np.zeros((len(THRESHOLDS), len(boxes)), dtype=bool) for _ in range(2))
    for level, threshold in enumerate(np.minimum(THRESHOLDS, 1 - 1e-10)):
        free = np.ones(len(objects), dtype=bool)
        for box, row in enumerate(overlaps):
            fits = free & (row >= threshold)
            single = fits & ~crowd
            choice = single if single.any() else fits
            if choice.any():
                best = len(row) - 1 - int(np.where(choice, row, -1)[::-1].argmax())  # the last of equal overlaps
                free[best] &= bool(crowd[best])
                (ignored if crowd[best] else correct)[level, box] = True
    return correct, ignored


def _class_found(found: Boxes, truth: Boxes, crowds: Boxes | None, kind: int) -> _Found:
    """All boxes of one class."""
    scores, images, correct, ignored, objects = [], [], [], [], []
    for image, (boxes, real) in enumerate(zip(found, truth, strict=True)):
        predicted = boxes[boxes[:, 4] == kind]
        predicted = predicted[np.argsort(-predicted[:, 5], kind="stable")[:MOST]].astype(float)
        of_kind = real[:, 4] == kind
        crowd = np.zeros(int(of_kind.sum()), dtype=bool) if crowds is None else np.asarray(crowds[image], dtype=bool)[of_kind]
        is_correct, is_ignored = _taken(predicted[:, :4], real[of_kind, :4].astype(float), crowd)
        scores.append(predicted[:, 5])
        images.append(np.full(len(predicted), image))
        correct.append(is_correct)
        ignored.append(is_ignored)
        objects.append(int((~crowd).sum()))
    order = np.argsort(-np.concatenate(scores), kind="stable")
    joined = np.concatenate(correct, 1)[:, order], np.concatenate(ignored, 1)[:, order]
    return _Found(np.concatenate(images)[order], *joined, np.array(objects))


def average_precision(found: Boxes, truth: Boxes, classes: int, *, crowds: Boxes | None = None) -> Float[np.ndarray, "threshold class"]:
    """AP of each class at each of ``THRESHOLDS``; NaN for classes without objects.

    Args:
        found: predicted boxes (box, 6) of each image: left, top, right, bottom in pixels, class, score.
        truth: true boxes (object, 5) of each image: left, top, right, bottom in pixels, class.
        classes: number of classes.
        crowds: for each image, which true boxes are crowds; none by default.
    """
    return np.stack([_class_found(found, truth, crowds, kind).precision() for kind in range(classes)], 1)


def score_detections(found: Boxes, truth: Boxes, classes: int, *, crowds: Boxes | None = None, seed: int = 0) -> dict[str, Score]:
    """``AP``, ``AP50`` and ``AP75`` with bootstrap intervals over images.

    The AP of a bootstrap sample is larger than that of all images on average, so the interval is shifted by the mean difference.

    Args:
        found: predicted boxes (box, 6) of each image; see ``average_precision``.
        truth: true boxes (object, 5) of each image.
        classes: number of classes.
        crowds: for each image, which true boxes are crowds; none by default.
        seed: seed of the intervals.

    Raises:
        DataError: no image has an object.
    """
    classes_found = [_class_found(found, truth, crowds, kind) for kind in range(classes)]
    classes_found = [boxes for boxes in classes_found if boxes.objects.sum()]
    if not classes_found:
        raise DataError("None of the images has a true box with a class.", "Use ground truth with objects of these images.")

    def means(times: np.ndarray | None) -> np.ndarray:
        table = np.stack([boxes.precision(times) for boxes in classes_found])
        table = table[~np.isnan(table[:, 0])]
        return np.array([table.mean(), table[:, 0].mean(), table[:, 5].mean()]) if len(table) else np.zeros(3)

    value = means(None)
    generator, count = np.random.default_rng(seed), len(truth)
    drawn = [means(np.bincount(generator.integers(count, size=count), minlength=count).astype(float)) for _ in range(DRAWS)]
    low, high = value + np.quantile(drawn, (0.025, 0.975), axis=0) - np.mean(drawn, 0)
    return {
        name: Score(float(score), max(float(lower), 0.0), min(float(upper), 1.0))
        for name, score, lower, upper in zip(("AP", "AP50", "AP75"), value, low, high, strict=True)
    }
