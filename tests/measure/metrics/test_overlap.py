"""Overlap of boxes, masks and segments with known values."""

import numpy as np
import pytest
from PIL import Image

import selfsight
from selfsight.core.errors import DataError
from selfsight.data.source import VOID
from selfsight.measure.metrics.overlap import (
    MaskScores,
    box_of,
    box_overlaps,
    confusion,
    corloc,
    f_beta,
    matched,
    mean_iou,
    overlap,
    score_boxes,
    score_masks,
)


def test_iou_of_boxes():
    left = np.array([[0, 0, 4, 4], [0, 0, 2, 2], [5, 5, 5, 5]], dtype=float)
    right = np.array([[0, 0, 4, 2], [2, 2, 6, 6]], dtype=float)
    np.testing.assert_allclose(box_overlaps(left, right), [[0.5, 4 / 28], [0.5, 0.0], [0.0, 0.0]])


def test_corloc_threshold_and_missing_boxes():
    truth = [np.array([[0, 0, 4, 4, 1]]), np.array([[0, 0, 4, 4, 1]]), np.array([[0, 0, 4, 4, 1]]), np.zeros((0, 5))]
    found = [np.array([[0, 0, 4, 2, 0.9]]), np.zeros((0, 5)), np.array([[9, 9, 10, 10, 0.9], [0, 0, 4, 4, 0.1]]), np.zeros((0, 5))]
    score = corloc(found, truth)
    assert score.value == pytest.approx(1 / 3)  # half of the union exactly; nothing found; the first box counts; no object: no picture
    assert score.low <= score.value <= score.high


def test_f_measure_weights_precision_more():
    assert float(f_beta(np.array([1.0]), np.array([0.5]))[0]) == pytest.approx(0.8125)
    assert float(f_beta(np.array([0.0]), np.array([0.0]))[0]) == 0


def test_maximum_f_is_of_the_mean_curve():
    generator = np.random.default_rng(0)
    each, together = [], MaskScores()
    for high in (0.4, 0.9):
        truth = np.zeros((20, 20), dtype=bool)
        truth[5:12, 5:12] = True
        found = np.clip(np.where(truth, high, 0.5 * high) + 0.02 * generator.standard_normal(truth.shape), 0, 1)
        alone = MaskScores()
        alone.add(found, truth)
        together.add(found, truth)
        each.append(alone.scores()["f"])
    assert together.scores()["f"] < np.mean(each) - 0.05


def test_a_perfect_mask_has_maximum_scores():
    truth = np.zeros((8, 8), dtype=bool)
    truth[2:5, 3:7] = True
    scores = MaskScores()
    scores.add(truth.astype(float), truth)
    assert scores.scores() == pytest.approx({"f": 1.0, "iou": 1.0, "accuracy": 1.0})
    assert overlap(~truth & truth, ~truth & truth) == 1
    assert overlap(truth, ~truth) == 0


def test_matching_by_pixels_differs_from_matching_by_iou():
    table = np.array([[51, 10], [40, 0]])
    assert mean_iou(table, "count") == pytest.approx(0.252, abs=5e-4)
    assert mean_iou(table, "iou") == pytest.approx(0.302, abs=5e-4)
    assert matched(table, "count").tolist() == [0, 1]
    assert matched(table, "iou").tolist() == [1, 0]


def test_tables_count_pixels_without_ignored_ones():
    found, truth = np.array([[0, 0, 1], [2, 1, 1]]), np.array([[0, 0, 1], [VOID, 1, 0]])
    assert confusion(found, truth, 3, 2).tolist() == [[2, 0], [1, 2], [0, 0]]
    assert matched(confusion(found, truth, 3, 2)).tolist() == [0, 1, -1]
    assert mean_iou(np.array([[5, 0, 0], [0, 3, 0]])) == 1.0  # a class that does not occur does not count


def test_boxes_of_masks():
    mask = np.zeros((6, 9), dtype=bool)
    assert box_of(mask).shape == (0, 4)
    mask[2:4, 3:8] = True
    assert box_of(mask).tolist() == [[3, 2, 8, 4]]


def test_corloc_of_true_boxes_and_without_annotations(tmp_path):
    source = selfsight.open("world:shapes?count=5&size=32")
    truth = source.truth(np.arange(5)).boxes
    assert truth is not None
    right, wrong = (score_boxes(boxes, source) for boxes in (lambda row: np.asarray(truth[row]), lambda row: np.zeros((0, 5))))
    assert right is not None
    assert wrong is not None
    assert (right.value, wrong.value) == (1, 0)
    assert score_boxes(lambda row: np.zeros((0, 5)), selfsight.open("photo:astronaut?count=4")) is None


def test_invisible_objects_do_not_count():
    hidden, seen = np.array([[0, 0, 0, 0, 1]]), np.array([[0, 0, 0, 0, 1], [0, 0, 4, 4, 1]])
    found = [np.array([[0, 0, 4, 4, 0.9]])] * 2
    assert corloc(found, [hidden, seen]).value == 1
    with pytest.raises(DataError, match="None of the images has a true box"):
        corloc(found, [hidden, hidden])


def test_padding_is_not_scored(tmp_path):
    masks = {}
    for name, (height, width) in (("one", (80, 160)), ("two", (160, 80)), ("three", (128, 128))):
        masks[name] = np.zeros((height, width), dtype=np.uint8)
        masks[name][height // 4 : height // 2, width // 4 : width // 2] = 255
        for folder, content in (("images", np.dstack([masks[name]] * 3)), ("masks", masks[name])):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(content).save(tmp_path / folder / f"{name}.png")
    source = selfsight.open(tmp_path / "images", truth=tmp_path / "masks", size=80)
    names, sizes = list(source.names), [tuple(int(side) for side in source.read(np.array([row])).extent[0]) for row in range(3)]

    def exact(row, size):
        mask = masks[names[row].removesuffix(".png")]
        down, across = (((np.arange(side) + 0.5) * whole / side).astype(int) for side, whole in zip(size, mask.shape, strict=True))
        return mask[down[:, None], across] > 0

    assert len({size[0] / size[1] for size in sizes}) == 3
    assert score_masks(exact, source, sizes) == pytest.approx({"f": 1.0, "iou": 1.0, "accuracy": 1.0}, abs=0.02)
    everywhere = score_masks(lambda row, size: np.ones(size), source, sizes)
    assert everywhere["iou"] == pytest.approx(1 / 16, abs=0.005)
