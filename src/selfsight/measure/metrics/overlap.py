"""How far what was found agrees with what is there: boxes, masks and segments."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from selfsight.core.errors import DataError
from selfsight.data.source import Source, Truth
from selfsight.measure.results import Score, proportion

__all__ = [
    "BETA",
    "MaskScores",
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
    "spread_of_tables",
]

BETA = 0.3
"""β², the weight of recall beside precision (Achanta et al. 2009, CVPR)."""
LEVELS = 255
Matching = Literal["count", "iou"]


def box_overlaps(left: Float[np.ndarray, "first 4"], right: Float[np.ndarray, "second 4"]) -> Float[np.ndarray, "first second"]:
    """Intersection over union of boxes (left, top, right, bottom; the last two excluded); 0 where both are empty."""
    low = np.maximum(left[:, None, :2], right[None, :, :2])
    high = np.minimum(left[:, None, 2:], right[None, :, 2:])
    shared = (high - low).clip(min=0).prod(2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).clip(min=0).prod(1) for boxes in (left, right)]
    either = areas[0][:, None] + areas[1] - shared
    return np.divide(shared, either, out=np.zeros_like(shared, dtype=float), where=either > 0)


def corloc(found: Sequence[np.ndarray], truth: Sequence[np.ndarray], *, seed: int = 0) -> Score:
    """The share of pictures in which the first box found overlaps a true one by half of their union or more (Deselaers et al. 2010, ECCV).

    A picture in which nothing was found is wrong; pictures without a true box, or with empty ones alone, do not count.

    Args:
        found: of each picture (box, 4 or more): left, top, right, bottom, the surest first.
        truth: the same of true boxes.
        seed: of the interval.

    Raises:
        DataError: no picture has a true box.
    """
    there = [real[(real[:, 2:4] > real[:, :2]).all(1)] for real in truth]
    good = [
        bool(len(boxes) and box_overlaps(boxes[:1, :4].astype(float), real[:, :4].astype(float)).max() >= 0.5)
        for boxes, real in zip(found, there, strict=True)
        if len(real)
    ]
    if not good:
        raise DataError("None of the pictures has a true box.", "Give truth that knows objects of these pictures.")
    return proportion(np.array(good, dtype=bool), seed)


def score_boxes(boxes: Callable[[int], np.ndarray], source: Source) -> Score | None:
    """CorLoc of the boxes of each picture of a data set, where its true boxes or masks are known.

    Args:
        boxes: those found in a picture (box, 4 or more), the surest first.
        source: the data set.
    """
    truth = source.truth(np.arange(len(source)))
    if truth.boxes is not None:
        real = [np.asarray(one) for one in truth.boxes]
    elif truth.masks is not None:
        real = [box_of(np.asarray(mask) > 0) for mask in truth.masks]
    else:
        return None
    return corloc([boxes(row) for row in range(len(source))], real)


Size = tuple[int, int]
At = Callable[[int, Size], np.ndarray]
"""What was found at each pixel of a picture: of its row, its height and width."""


def score_masks(at: At, source: Source, sizes: Sequence[Size]) -> dict[str, float] | None:
    """Scores of masks (0 to 1) of the objects of pictures, where their true masks are known; see ``MaskScores``.

    Args:
        at: the mask found in a picture.
        source: the data set.
        sizes: (height, width) of what it reads of each picture; true masks have these pixels at their top left, the rest is padding.
    """
    truth, judge = source.truth(np.arange(len(source))), MaskScores()
    if truth.masks is None:
        return None
    for row, (mask, (height, width)) in enumerate(zip(truth.masks, sizes, strict=True)):
        judge.add(at(row, (height, width)).astype(float), np.asarray(mask)[:height, :width] > 0)
    return judge.scores()


def score_segments(at: At, source: Source, kinds: int, sizes: Sequence[Size], *, seed: int = 0) -> Score | None:
    """Mean IoU of kinds matched to classes one to one (by IoU), ground among them, where masks of objects and their classes are known.

    Args:
        at: the kind at each pixel of a picture, 0 to ``kinds``.
        source: the data set.
        kinds: how many, without ground.
        sizes: (height, width) of what it reads of each picture, as for ``score_masks``.
        seed: of the interval, over draws of pictures.
    """
    truth = source.truth(np.arange(len(source)))
    if truth.masks is None or truth.boxes is None:
        return None
    classes = 1 + max(len(truth.classes), 1 + max((int(boxes[:, 4].max()) for boxes in truth.boxes if len(boxes)), default=0))
    tables = [confusion(at(row, size), class_map(truth, row, size), kinds + 1, classes) for row, size in enumerate(sizes)]
    return spread_of_tables(np.stack(tables), mean_iou, seed)


def class_map(truth: Truth, row: int, size: Sequence[int] | np.ndarray) -> Int[np.ndarray, "height width"]:
    """The class at each pixel of a picture, from 1, 0 for ground; without boxes all objects are of one class.

    Args:
        truth: with masks.
        row: of the picture.
        size: height and width of what is read of it, at the mask's top left; the rest is padding.
    """
    assert truth.masks is not None
    mask = np.asarray(truth.masks[row])[: size[0], : size[1]]
    if truth.boxes is None:
        return (mask > 0).astype(np.int64)
    return np.concatenate([[0], np.asarray(truth.boxes[row])[:, 4].astype(np.int64) + 1])[mask]


def spread_of_tables(tables: Int[np.ndarray, "picture segment class"], measure: Callable[[np.ndarray], float], seed: int = 0) -> Score:
    """A measure of the sum of pictures' tables; its interval is the spread over draws of pictures about their own mean, put about the value.

    Draws have a larger mean IoU than the whole on average: they are matched anew, and classes that they lack do not count.
    """
    drawn = np.random.default_rng(seed).integers(len(tables), size=(200, len(tables)))
    value, spread = measure(tables.sum(0)), np.array([measure(tables[some].sum(0)) for some in drawn])
    low, high = np.quantile(spread, (0.025, 0.975)) - spread.mean()
    return Score(value, value + float(low), value + float(high))


def box_of(mask: Bool[np.ndarray, "height width"]) -> Float[np.ndarray, "object 4"]:
    """The box around a mask; none around an empty one."""
    down, across = np.nonzero(mask)
    return np.array([[across.min(), down.min(), across.max() + 1, down.max() + 1]] if len(down) else np.zeros((0, 4)), dtype=float)


def overlap(found: Bool[np.ndarray, "*size"], truth: Bool[np.ndarray, "*size"]) -> float:
    """Intersection over union of two masks; 1 where both are empty."""
    either = int((found | truth).sum())
    return float((found & truth).sum() / either) if either else 1.0


def contour_score(found: Bool[np.ndarray, "height width"], truth: Bool[np.ndarray, "height width"], reach: float = 0.008) -> float:
    """F of contours (Perazzi et al. 2016, CVPR): ``2 P R / (P + R)``; a contour pixel is right within ``⌈reach · diagonal⌉`` px of another.

    P: the part of the found contour that lies near the true one; R: of the true one near the found. 1 where both are empty.
    """
    within = math.ceil(reach * math.hypot(*truth.shape))
    lines = [_contour(mask) for mask in (found, truth)]
    if not all(line.any() for line in lines):
        return float(not any(line.any() for line in lines))
    far = [np.asarray(ndimage.distance_transform_edt(~line)) for line in lines]
    precision, recall = (float((far[1 - one][lines[one]] <= within).mean()) for one in (0, 1))
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _contour(mask: Bool[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
    """Pixels that differ from the next to the right, below, or both."""
    wide = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    return (mask != wide[:-1, 1:]) | (mask != wide[1:, :-1]) | (mask != wide[1:, 1:])


def f_beta(precision: np.ndarray, recall: np.ndarray, beta: float = BETA) -> np.ndarray:
    """``(1 + β²) P R / (β² P + R)``, with ``beta`` for β²; 0 where both are."""
    below = beta * precision + recall
    return np.divide((1 + beta) * precision * recall, below, out=np.zeros_like(below, dtype=float), where=below > 0)


@dataclass
class MaskScores:
    """Scores of saliency maps in [0, 1] against masks, a picture at a time.

    F is the largest over 255 thresholds of the mean over pictures (as TokenCut has it; the mean of each picture's largest, which
    others print, is never smaller); IoU and accuracy are those of the map above a half, meant over pictures.
    """

    curve: Float[np.ndarray, " level"] | None = None
    ious: list[float] | None = None
    accuracies: list[float] | None = None

    def add(self, found: Float[np.ndarray, "height width"], truth: Bool[np.ndarray, "height width"]) -> None:
        """Count a picture in."""
        levels = np.minimum((found * LEVELS).astype(int), LEVELS - 1)
        inside = np.bincount(levels[truth], minlength=LEVELS)[::-1].cumsum()[::-1]
        all_of_it = np.bincount(levels.ravel(), minlength=LEVELS)[::-1].cumsum()[::-1]
        precision = np.divide(inside, all_of_it, out=np.zeros(LEVELS), where=all_of_it > 0)
        recall = inside / max(int(truth.sum()), 1)
        self.curve = f_beta(precision, recall) + (0 if self.curve is None else self.curve)
        self.ious = [*(self.ious or []), overlap(found > 0.5, truth)]
        self.accuracies = [*(self.accuracies or []), float(((found > 0.5) == truth).mean())]

    def scores(self) -> dict[str, float]:
        """``f``, ``iou``, ``accuracy``."""
        if self.curve is None or not self.ious or not self.accuracies:
            return {}
        best = float(self.curve.max() / len(self.ious))
        return {"f": best, "iou": float(np.mean(self.ious)), "accuracy": float(np.mean(self.accuracies))}


def confusion(
    found: Int[np.ndarray, "*size"], truth: Int[np.ndarray, "*size"], segments: int, classes: int, ignore: int = 255
) -> Int[np.ndarray, "segment class"]:
    """How many pixels have each pair of segment and class; tables of pictures can be added. ``ignore`` is a class that does not count."""
    kept = truth != ignore
    pairs = found[kept].astype(np.int64) * classes + truth[kept]
    return np.bincount(pairs.ravel(), minlength=segments * classes).reshape(segments, classes)


def _ious(table: Int[np.ndarray, "segment class"]) -> Float[np.ndarray, "segment class"]:
    either = table.sum(1, keepdims=True) + table.sum(0, keepdims=True) - table
    return np.divide(table, either, out=np.zeros(table.shape), where=either > 0)


def matched(table: Int[np.ndarray, "segment class"], by: Matching = "iou") -> Int[np.ndarray, " segment"]:
    """The class of each segment under the one-to-one matching of the largest sum of IoU or of pixels (Kuhn 1955); -1: of none."""
    rows, columns = linear_sum_assignment(_ious(table) if by == "iou" else table, maximize=True)
    found = np.full(len(table), -1)
    found[rows] = columns
    return found


def mean_iou(table: Int[np.ndarray, "segment class"], by: Matching = "iou") -> float:
    """Mean over classes that occur of the IoU of the segment that is matched to each; a class of no segment has 0."""
    classes = matched(table, by)
    ious, found = _ious(table), np.zeros(table.shape[1])
    for segment, one in enumerate(classes):
        if one >= 0:
            found[one] = ious[segment, one]
    return float(found[table.sum(0) > 0].mean())


def class_iou(table: Int[np.ndarray, "class class2"]) -> float:
    """Mean IoU over the classes that occur, where what was found has classes of its own and nothing is matched."""
    return float(np.diagonal(_ious(table))[table.sum(0) > 0].mean())
