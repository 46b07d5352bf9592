"""Average precision: known values, scikit-learn, a reference implementation; and image retrieval."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

import selfsight
from selfsight.backbones.table import build_backbone
from selfsight.core.errors import DataError
from selfsight.core.representation import Representation
from selfsight.data.views.image.geometry import Crop
from selfsight.data.views.image.recipes import View
from selfsight.measure.probes.retrieve import average_precision, detect_copies, rank, retrieve
from selfsight.measure.results import Features

BOTH = ("step", "trapezoid")


def ranked(*rows: str) -> torch.Tensor:
    return torch.tensor([[letter == "x" for letter in row] for row in rows])


def test_average_precision_of_one_relevant_image_at_rank_two():
    assert average_precision(ranked(".x.."), "step").item() == 0.5
    assert average_precision(ranked(".x.."), "trapezoid").item() == 0.25
    for form in BOTH:
        assert average_precision(ranked("x..."), form).item() == 1
        assert average_precision(ranked("xx.."), form).item() == 1
    assert average_precision(ranked("x.x.")).item() == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(ranked("x.x."), "trapezoid").item() == pytest.approx((1 + (1 / 2 + 2 / 3) / 2) / 2)


def slow_trapezoid(row: np.ndarray) -> float:
    """The landmark benchmarks' loop over the ranks of relevant images."""
    places = np.flatnonzero(row)
    total = 0.0
    for number, place in enumerate(places):
        before = 1.0 if place == 0 else number / place
        total += (before + (number + 1) / (place + 1)) / 2 / len(places)
    return total


@pytest.mark.parametrize("seed", range(5))
def test_both_forms_equal_published_code(seed):
    chance = np.random.default_rng(seed)
    rows = chance.random((6, 40)) < 0.2
    rows[:, chance.integers(40)] = True
    scores = -np.arange(40.0)
    step, trapezoid = (average_precision(torch.from_numpy(rows), form).numpy() for form in BOTH)
    np.testing.assert_allclose(step, [average_precision_score(row, scores) for row in rows])
    np.testing.assert_allclose(trapezoid, [slow_trapezoid(row) for row in rows])
    assert (trapezoid <= step + 1e-12).all()


def test_ranking_by_cosine_ignores_queries_without_relevant_images():
    rows = np.array([[1, 0], [0, 1], [1, 1], [-1, 0]], dtype=np.float32)
    queries = np.array([[2, 0.1], [0, 3], [5, 5]], dtype=np.float32)
    right = np.array([[0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]], dtype=bool)
    for chunk in (1, 2, 256):
        found = rank(queries, rows, lambda some: right[some], chunk=chunk)
        assert found.step.tolist() == [0.5, 1.0]
        assert found.first.tolist() == [1, 0]
    scores = found.scores()
    assert scores["map"].value == 0.75
    assert scores["map_trapezoid"].value == 0.625
    assert [scores[f"recall_{k}"].value for k in (1, 5, 10)] == [0.5, 1, 1]
    assert scores["map"].low <= 0.75 <= scores["map"].high
    with pytest.raises(DataError, match="No query has a relevant image"):
        rank(queries, rows, lambda some: right[some] & False)


def test_retrieval_by_class():
    chance = np.random.default_rng(0)
    train_labels, test_labels = chance.integers(0, 3, 90), chance.integers(0, 3, 30)
    train, test = (10 * np.eye(3)[labels] + chance.standard_normal((len(labels), 3)) for labels in (train_labels, test_labels))
    found = retrieve(Features(train.astype(np.float32), test.astype(np.float32), train_labels, test_labels))
    assert all(score.value == pytest.approx(1) for score in found.values.values())
    noise = chance.standard_normal((90, 3)).astype(np.float32), chance.standard_normal((30, 3)).astype(np.float32)
    assert retrieve(Features(*noise, train_labels, test_labels)).values["map"].value == pytest.approx(1 / 3, abs=0.1)
    few = retrieve(Features(*noise, train_labels, test_labels), queries=7, database_size=20)
    assert few.protocol.startswith("7 test samples as queries among 20")


def test_copies_find_their_originals():
    torch.manual_seed(0)
    phi = Representation(build_backbone("resnet_tiny", size=32), mean=(0.5,) * 3, std=(0.25,) * 3, size=32, name="tiny", spec="resnet_tiny")
    source = selfsight.open("world:shapes?count=60&size=32")
    same = detect_copies(phi, source, queries=20, change=View(Crop((1.0, 1.0), (1.0, 1.0)), flip=0.0)).values
    assert same["recall_1"].value == same["map"].value == 1
    strong = detect_copies(phi, source, queries=20)
    assert 1 / 60 < strong.values["map"].value < 0.9
    assert strong.values["map_trapezoid"].value <= strong.values["map"].value
    assert "copies of 20 images as queries for their originals among 60" in strong.protocol
    assert strong == detect_copies(phi, source, queries=20)
    with pytest.raises(DataError, match="1 image"):
        detect_copies(phi, selfsight.open("world:shapes?count=1&size=32"))
