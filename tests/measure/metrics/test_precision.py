"""Average precision compared with cocoeval, the definition, and known values."""

import numpy as np
import pytest

from selfsight.core.errors import DataError
from selfsight.measure.metrics.precision import THRESHOLDS, average_precision, score_detections

BY_PYCOCOTOOLS = [
    (0.220472, 0.351523, 0.255042),
    (0.209009, 0.341123, 0.262101),
    (0.162072, 0.359829, 0.127804),
    (0.225420, 0.437649, 0.191079),
]
"""AP, AP50 and AP75 of ``pictures`` of the first seeds by pycocotools 2.0.11 (crowds as ``iscrowd``)."""


def pictures(seed: int) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Twenty images of up to four objects of three classes, each detected up to three times, and false positives; scores have ties."""
    rng, found, truth, crowds = np.random.default_rng(seed), [], [], []

    def boxes(count: int) -> np.ndarray:
        corner = rng.integers(0, 50, (count, 2))
        return np.concatenate([corner, corner + rng.integers(5, 40, (count, 2)), rng.integers(0, 3, (count, 1))], 1).astype(float)

    for _ in range(20):
        real = boxes(rng.integers(0, 5))
        truth.append(real)
        crowds.append(rng.random(len(real)) < 0.2)
        rows = [boxes(rng.integers(0, 4))]
        rows += [(one + np.r_[rng.integers(-2, 3, 4), 0])[None] for one in real for _ in range(rng.integers(0, 4))]
        every = np.concatenate(rows)
        found.append(np.concatenate([every, rng.integers(0, 20, (len(every), 1)) / 20], 1))
    return found, truth, crowds


@pytest.mark.parametrize("seed", range(4))
def test_equals_cocoeval(seed):
    found, truth, crowds = pictures(seed)
    scores = score_detections(found, truth, 3, crowds=crowds)
    assert [scores[name].value for name in ("AP", "AP50", "AP75")] == pytest.approx(BY_PYCOCOTOOLS[seed], abs=1e-6)
    assert all(score.low <= score.value <= score.high for score in scores.values())


def literal(found: list[np.ndarray], truth: list[np.ndarray], kind: int, least: float) -> float:
    """The definition, object by object, without crowds."""
    every = sorted(
        ((-box[5], picture, place) for picture, boxes in enumerate(found) for place, box in enumerate(boxes) if box[4] == kind),
        key=lambda one: one[0],
    )
    free = [[row for row in boxes if row[4] == kind] for boxes in truth]
    objects, right, points = sum(len(one) for one in free), 0, []

    def shared(one: np.ndarray, other: np.ndarray) -> float:
        wide = max(min(one[2], other[2]) - max(one[0], other[0]), 0) * max(min(one[3], other[3]) - max(one[1], other[1]), 0)
        return wide / ((one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1]) - wide)

    for count, (_, picture, place) in enumerate(every, 1):
        fits = [(shared(found[picture][place], other), number) for number, other in enumerate(free[picture])]
        best = max(fits, default=(0.0, -1))
        if best[0] >= least:
            free[picture].pop(best[1])
            right += 1
        points.append((right / objects, right / count))
    return float(np.mean([max((p for r, p in points if r >= recall), default=0.0) for recall in np.linspace(0, 1, 101)]))


def test_equals_the_definition():
    found, truth, _ = pictures(7)
    table = average_precision(found, truth, 3)
    for level in (0, 4, 9):
        assert table[level] == pytest.approx([literal(found, truth, kind, THRESHOLDS[level] - 1e-9) for kind in range(3)], abs=1e-9)


def test_cases_with_known_values():
    truth = [np.array([[0, 0, 10, 10, 0], [20, 20, 30, 30, 1.0]]), np.array([[5, 5, 15, 15, 0.0]])]
    perfect = [np.concatenate([one, np.ones((len(one), 1))], 1) for one in truth]
    assert score_detections(perfect, truth, 3)["AP"].value == 1
    assert np.isnan(average_precision(perfect, truth, 3)[:, 2]).all()
    twice = [np.concatenate([one, one - [0, 0, 0, 0, 0, 0.5]]) for one in perfect]
    assert average_precision(twice, truth, 2)[:, 0] == pytest.approx(1)  # all were found before the first false alarm
    half = [perfect[0], np.zeros((0, 6))]
    assert average_precision(half, truth, 2)[0] == pytest.approx([51 / 101, 1])  # recall of a half: 0, .01, …, .50
    wide = [np.array([[0, 0, 10, 15, 0, 1.0]]), np.zeros((0, 6))]  # overlap 2/3
    assert (average_precision(wide, [truth[0][:1], np.zeros((0, 5))], 1)[:, 0] == (THRESHOLDS <= 2 / 3)).all()
    with pytest.raises(DataError, match="true box"):
        score_detections(perfect, [np.zeros((0, 5))] * 2, 2)
