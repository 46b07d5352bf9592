import math

import numpy as np
import pytest

from selfsight.core.errors import DataError
from selfsight.data.classes import join_classes, number_classes, unseen_classes
from selfsight.data.readers.memory import ArraySource
from selfsight.data.source import Subset, Truth


@pytest.mark.parametrize(
    ("values", "labels", "classes"),
    [
        (["cow", "ant", None, "ant"], [1, 0, -1, 0], ("ant", "cow")),
        ([300_000_001, 10**18, 300_000_001], [0, 1, 0], ("300000001", str(10**18))),
        ([0.0, 2.0, math.nan], [0, 1, -1], ("0", "2")),
        (["0", "2", ""], [0, 1, -1], ("0", "2")),
        (["1.0", "3.0", "nan"], [0, 1, -1], ("1", "3")),
        ([10, 9, 2], [2, 1, 0], ("2", "9", "10")),
        ([-1, 1, 1, -1], [0, 1, 1, 0], ("-1", "1")),
        ([-1, 1, 2], [-1, 0, 1], ("1", "2")),
        ([True, False], [1, 0], ("False", "True")),
        (["1", "b"], [0, 1], ("1", "b")),
        ([None, None], [-1, -1], ()),
        (np.array([3, 5]).tolist(), [0, 1], ("3", "5")),
    ],
)
def test_values_that_occur_are_classes(values, labels, classes):
    truth = number_classes(values)
    assert truth.labels is not None
    assert (truth.labels.tolist(), truth.classes) == (labels, classes)


def test_fractions_are_no_classes():
    for values in ([0.5, 1.5, 0.7], ["0.5", "1"], [1.0, 2.5, None]):
        assert number_classes(values).labels is None


def test_named_numbers_are_classes_even_if_they_do_not_occur():
    truth = number_classes([2, 0, 7], {0: "ant", 1: "bee", 2: "cow"})
    assert truth.labels is not None
    assert (truth.labels.tolist(), truth.classes) == ([2, 0, 3], ("ant", "bee", "cow", "7"))
    assert number_classes([0, 1], {0: "same", 1: "same"}).classes == ("same (0)", "same (1)")


def source(labels: list[int], classes: tuple[str, ...], boxes: list[np.ndarray] | None = None) -> ArraySource:
    return ArraySource(np.zeros((len(labels), 3, 8, 8), dtype=np.uint8), Truth(labels=np.array(labels), classes=classes, boxes=boxes))


def test_classes_are_joined_by_name():
    boxes = [
        np.array([[0, 0, 2, 2, 1], [0, 0, 1, 1, 0]], dtype=np.float32),
        np.zeros((0, 5), dtype=np.float32),
        np.array([[0, 0, 1, 1, -1]], dtype=np.float32),
    ]
    train, test = join_classes(source([0, 1, 2], ("ant", "bee", "cow")), source([1, 0, -1], ("cow", "dog"), boxes))
    rows = np.array([2, 0, 1])
    truth = test.truth(rows)
    assert truth.labels is not None
    assert truth.boxes is not None
    assert truth.classes == train.truth(np.arange(3)).classes == ("ant", "bee", "cow", "dog")
    assert truth.labels.tolist() == [-1, 3, 2]
    assert [box[:, 4].tolist() for box in truth.boxes] == [[-1], [3, 2], []]
    assert truth.boxes[1][:, :4].tolist() == [[0, 0, 2, 2], [0, 0, 1, 1]]
    labels = train.truth(np.arange(3)).labels
    assert labels is not None
    assert labels.tolist() == [0, 1, 2]
    assert unseen_classes(train.truth(np.arange(3)), test.truth(np.arange(3))) == ("dog",)
    part = Subset(test, np.array([1])).truth(np.array([0])).labels
    assert part is not None
    assert part.tolist() == [2]
    assert test.fingerprint == source([1, 0, -1], ("cow", "dog"), boxes).fingerprint


def test_data_without_class_names_keep_their_numbers():
    train, test = source([0, 1], ()), source([1, 1], ("ant", "bee"))
    assert join_classes(train, test) == (train, test)


def test_data_without_a_common_class_are_rejected():
    with pytest.raises(DataError, match="share no class: 'ant'; 'bee'"):
        join_classes(source([0, 0], ("ant", "bee")), source([0, 0], ("bee",)))
