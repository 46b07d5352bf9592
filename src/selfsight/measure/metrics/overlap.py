"""Overlap of predictions with ground truth: boxes, masks and segments."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int, Integer
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from selfsight.core.errors import DataError
from selfsight.data.source import VOID, Source, Truth
from selfsight.measure.results import Score, proportion

__all__ = [
    "BETA",
    "MaskScores",
    "bootstrap_tables",
    "box_of",
    "box_overlaps",
    "class_iou",
    "class_map",
    "confusion",
    "contour_score",
    "corloc",
    "f_beta",
    "matched",
    "mean_iou",
    "overlap",
    "score_boxes",
    "score_masks",
    "score_segments",
]

BETA = 0.3
"""β² of the F-measure, the weight of recall relative to precision (Achanta et al. 2009, CVPR)."""
LEVELS = 255
Matching = Literal["count", "iou"]


def box_overlaps(left: Float[np.ndarray, "first 4"], right: Float[np.ndarray, "second 4"]) -> Float[np.ndarray, "first second"]:
    """Intersection over union of each pair of boxes; 0 where both are empty.

    Args:
        left: boxes (N, 4): left, top, right, bottom in pixels; right and bottom are exclusive.
        right: boxes (M, 4) in the same format.

    Returns:
        (N, M).
    """
    low = np.maximum(left[:, None, :2], right[None, :, :2])
    high = np.minimum(left[:, None, 2:], right[None, :, 2:])
    shared = (high - low).clip(min=0).prod(2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).clip(min=0).prod(1) for boxes in (left, right)]
    either = areas[0][:, None] + areas[1] - shared
    return np.divide(shared, either, out=np.zeros_like(shared, dtype=float), where=either > 0)


def corloc(found: Sequence[np.ndarray], truth: Sequence[np.ndarray], *, seed: int = 0) -> Score:
    """CorLoc: fraction of images whose first predicted box overlaps a true one with an IoU of 0.5 or more (Deselaers et al. 2010, ECCV).

    An image without prediction counts as wrong. Images without true boxes, or with empty ones only, are ignored.

    Args:
        found: predicted boxes (box, 4 or more) of each image: left, top, right, bottom in pixels, by falling confidence.
        truth: true boxes of each image in the same format.
        seed: seed of the bootstrap interval.

    Raises:
        DataError: no image has a true box.
    """
    valid = [real[(real[:, 2:4] > real[:, :2]).all(1)] for real in truth]
    good = [
        bool(len(boxes) and box_overlaps(boxes[:1, :4].astype(float), real[:, :4].astype(float)).max() >= 0.5)
        for boxes, real in zip(found, valid, strict=True)
        if len(real)
    ]
    if not good:
        raise DataError("None of the images has a true box.", "Use ground truth with objects of these images.")
    return proportion(np.array(good, dtype=bool), seed)


def score_boxes(boxes: Callable[[int], np.ndarray], source: Source) -> Score | None:
    """CorLoc of predicted boxes on a data set; None without true boxes or masks.

    Args:
        boxes: function that gives the boxes (box, 4 or more) predicted in the image of a row, by falling confidence.
        source: the data set.
    """
    truth = source.truth(np.arange(len(source)))
    if truth.boxes is not None:
        real = [np.asarray(boxes_of_image) for boxes_of_image in truth.boxes]
    elif truth.masks is not None:
        real = [np.concatenate([np.zeros((0, 4)), *(box_of(region) for region in _regions(np.asarray(mask)))]) for mask in truth.masks]
    else:
        return None
    return corloc([boxes(row) for row in range(len(source))], real)


Size = tuple[int, int]
At = Callable[[int, Size], np.ndarray]
"""Prediction at each pixel of an image, as a function of its row and its size (height, width)."""


def score_masks(at: At, source: Source, sizes: Sequence[Size]) -> dict[str, float] | None:
    """Saliency scores of predicted masks on a data set (see ``MaskScores``); None without true masks.

    Args:
        at: function that gives the mask (H, W), in [0, 1], predicted for a row and its size.
        source: the data set.
        sizes: (height, width) in pixels of each image as read; true masks have these pixels at their top left, the rest is padding.
    """
    truth, scores = source.truth(np.arange(len(source))), MaskScores()
    if truth.masks is None:
        return None
    for row, (mask, (height, width)) in enumerate(zip(truth.masks, sizes, strict=True)):
        real = np.asarray(mask)[:height, :width]
        scores.add(at(row, (height, width)).astype(float), real > 0, real != VOID)
    return scores.scores()


def score_segments(at: At, source: Source, kinds: int, sizes: Sequence[Size], *, seed: int = 0) -> Score | None:
    """Mean IoU of segment clusters matched one to one with classes (by IoU), background included.

    Args:
        at: function that gives the cluster (H, W), 0 to ``kinds``, of each pixel for a row and its size; 0 is background.
        source: the data set.
        kinds: number of clusters without background.
        sizes: (height, width) in pixels of each image as read, as for ``score_masks``.
        seed: seed of the bootstrap interval over images.

    Returns:
        The score; None if the data set has no masks or no classes of objects.
    """
    truth = source.truth(np.arange(len(source)))
    if truth.masks is None:
        return None
    maps = [class_map(truth, row, size) for row, size in enumerate(sizes)]
    classes = max(1 + len(truth.classes), 2, *(1 + int(each[each != VOID].max(initial=0)) for each in maps))
    if truth.boxes is None and classes == 2:
        return None
    tables = [confusion(at(row, size), maps[row], kinds + 1, classes) for row, size in enumerate(sizes)]
    return bootstrap_tables(np.stack(tables), mean_iou, seed)


def class_map(truth: Truth, row: int, size: Sequence[int] | np.ndarray) -> Int[np.ndarray, "height width"]:
    """Class at each pixel of an image, from 1, with 0 for background and ``VOID`` for pixels that do not count.

    Masks without boxes contain classes, those with boxes objects.

    Args:
        truth: ground truth with masks.
        row: row of the image.
        size: (height, width) in pixels of the image as read, at the mask's top left; the rest is padding.
    """
    assert truth.masks is not None
    mask = np.asarray(truth.masks[row])[: size[0], : size[1]]
    if truth.boxes is None:
        return mask.astype(np.int64)
    void = mask == VOID
    classes = np.concatenate([[0], np.asarray(truth.boxes[row])[:, 4].astype(np.int64) + 1])[np.where(void, 0, mask)]
    return np.where(void, VOID, classes)


def _regions(mask: Integer[np.ndarray, "height width"]) -> list[Bool[np.ndarray, "height width"]]:
    """The pixels of each number of a mask."""
    return [mask == number for number in np.unique(mask) if 0 < number < VOID]


def bootstrap_tables(tables: Int[np.ndarray, "image segment class"], measure: Callable[[np.ndarray], float], seed: int = 0) -> Score:
    """A measure of the summed contingency tables of images, with a bootstrap interval over images.

    Resampled tables have a higher mean IoU than the full one on average, because each is matched separately
    and missing classes do not count. The quantiles are therefore centred on the value.

    Args:
        tables: contingency table (segment, class) of each image.
        measure: function of a table.
        seed: seed of the interval.
    """
    drawn = np.random.default_rng(seed).integers(len(tables), size=(200, len(tables)))
    value, spread = measure(tables.sum(0)), np.array([measure(tables[drawn_rows].sum(0)) for drawn_rows in drawn])
    low, high = np.quantile(spread, (0.025, 0.975)) - spread.mean()
    return Score(value, value + float(low), value + float(high))


def box_of(mask: Bool[np.ndarray, "height width"]) -> Float[np.ndarray, "object 4"]:
    """Bounding box (1, 4) of a mask: left, top, right, bottom in pixels, the last two exclusive; (0, 4) for an empty mask."""
    down, across = np.nonzero(mask)
    return np.array([[across.min(), down.min(), across.max() + 1, down.max() + 1]] if len(down) else np.zeros((0, 4)), dtype=float)


def overlap(found: Bool[np.ndarray, "*size"], truth: Bool[np.ndarray, "*size"]) -> float:
    """Intersection over union of two masks; 1 if both are empty.

    Args:
        found: predicted mask.
        truth: true mask of the same shape.
    """
    either = int((found | truth).sum())
    return float((found & truth).sum() / either) if either else 1.0


def contour_score(found: Bool[np.ndarray, "height width"], truth: Bool[np.ndarray, "height width"], reach: float = 0.008) -> float:
    """Boundary F-measure ``2 P R / (P + R)`` (Perazzi et al. 2016, CVPR).

    P is the fraction of the predicted contour that lies near the true one, R the fraction of the true contour near the predicted one.

    Args:
        found: predicted mask (H, W).
        truth: true mask (H, W).
        reach: matching distance as a fraction of the image diagonal, rounded up to whole pixels.

    Returns:
        The score in [0, 1]; 1 if both contours are empty.
    """
    tolerance = math.ceil(reach * math.hypot(*truth.shape))
    lines = [_contour(mask) for mask in (found, truth)]
    if not all(line.any() for line in lines):
        return float(not any(line.any() for line in lines))
    distances = [np.asarray(ndimage.distance_transform_edt(~line)) for line in lines]
    precision, recall = (float((distances[1 - side][lines[side]] <= tolerance).mean()) for side in (0, 1))
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _contour(mask: Bool[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
    """Pixels that differ from their neighbour to the right, below, or both."""
    wide = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    return (mask != wide[:-1, 1:]) | (mask != wide[1:, :-1]) | (mask != wide[1:, 1:])


def f_beta(precision: np.ndarray, recall: np.ndarray, beta: float = BETA) -> np.ndarray:
    """``(1 + β²) P R / (β² P + R)``; 0 where both are 0.

    Args:
        precision: P in [0, 1].
        recall: R in [0, 1], of the same shape.
        beta: β² (not β).
    """
    denominator = beta * precision + recall
    return np.divide((1 + beta) * precision * recall, denominator, out=np.zeros_like(denominator, dtype=float), where=denominator > 0)


@dataclass
class MaskScores:
    """Saliency scores of maps in [0, 1] against true masks, added image by image.

    The F-measure is the maximum over 255 thresholds of the mean over images, as in TokenCut (the mean of each image's maximum, which
    other papers report, is never smaller). IoU and accuracy use the threshold 0.5 and are means over images.

    Attributes:
        curve: sum over images of the F-measure at each threshold.
        ious: IoU of each image.
        accuracies: pixel accuracy of each image.
    """

    curve: Float[np.ndarray, " level"] | None = None
    ious: list[float] | None = None
    accuracies: list[float] | None = None

    def add(
        self,
        found: Float[np.ndarray, "height width"],
        truth: Bool[np.ndarray, "height width"],
        counted: Bool[np.ndarray, "height width"] | None = None,
    ) -> None:
        """Add an image.

        Args:
            found: predicted map (H, W) in [0, 1].
            truth: true mask (H, W).
            counted: pixels (H, W) that count; None: all.
        """
        if counted is not None and not counted.all():
            found, truth = found[counted][None], truth[counted][None]
        levels = np.minimum((found * LEVELS).astype(int), LEVELS - 1)
        inside = np.bincount(levels[truth], minlength=LEVELS)[::-1].cumsum()[::-1]
        predicted = np.bincount(levels.ravel(), minlength=LEVELS)[::-1].cumsum()[::-1]
        precision = np.divide(inside, predicted, out=np.zeros(LEVELS), where=predicted > 0)
        recall = inside / max(int(truth.sum()), 1)
        self.curve = f_beta(precision, recall) + (0 if self.curve is None else self.curve)
        self.ious = [*(self.ious or []), overlap(found > 0.5, truth)]
        self.accuracies = [*(self.accuracies or []), float(((found > 0.5) == truth).mean())]

    def scores(self) -> dict[str, float]:
        """Return ``f``, ``iou`` and ``accuracy``; empty if no image was added."""
        if self.curve is None or not self.ious or not self.accuracies:
            return {}
        best = float(self.curve.max() / len(self.ious))
        return {"f": best, "iou": float(np.mean(self.ious)), "accuracy": float(np.mean(self.accuracies))}


def confusion(
    found: Int[np.ndarray, "*size"], truth: Int[np.ndarray, "*size"], segments: int, classes: int, ignore: int = VOID
) -> Int[np.ndarray, "segment class"]:
    """Contingency table: the number of pixels with each pair of segment and class. Tables of several images can be summed.

    Args:
        found: predicted segment of each pixel, 0 to ``segments - 1``.
        truth: true class of each pixel, 0 to ``classes - 1``, of the same shape.
        segments: number of segments.
        classes: number of classes.
        ignore: class whose pixels are not counted.
    """
    kept = truth != ignore
    pairs = found[kept].astype(np.int64) * classes + truth[kept]
    return np.bincount(pairs.ravel(), minlength=segments * classes).reshape(segments, classes)


def _ious(table: Int[np.ndarray, "segment class"]) -> Float[np.ndarray, "segment class"]:
    either = table.sum(1, keepdims=True) + table.sum(0, keepdims=True) - table
    return np.divide(table, either, out=np.zeros(table.shape), where=either > 0)


def matched(table: Int[np.ndarray, "segment class"], by: Matching = "iou") -> Int[np.ndarray, " segment"]:
    """Class of each segment under the optimal one-to-one matching (Kuhn 1955).

    Args:
        table: contingency table of segments and classes.
        by: whether the matching maximises the sum of IoU or of pixels.

    Returns:
        Class of each segment; -1 if unmatched.
    """
    rows, columns = linear_sum_assignment(_ious(table) if by == "iou" else table, maximize=True)
    found = np.full(len(table), -1)
    found[rows] = columns
    return found


def mean_iou(table: Int[np.ndarray, "segment class"], by: Matching = "iou") -> float:
    """Mean IoU over the occurring classes, each with the segment that is matched to it; a class without segment has IoU 0.

    Args:
        table: contingency table of segments and classes.
        by: criterion of the matching, see ``matched``.
    """
    classes = matched(table, by)
    ious, found = _ious(table), np.zeros(table.shape[1])
    for segment, matched_class in enumerate(classes):
        if matched_class >= 0:
            found[matched_class] = ious[segment, matched_class]
    return float(found[table.sum(0) > 0].mean())


def class_iou(table: Int[np.ndarray, "class class2"]) -> float:
    """Mean IoU over the occurring classes for predictions that are classes already (no matching)."""
    return float(np.diagonal(_ious(table))[table.sum(0) > 0].mean())
