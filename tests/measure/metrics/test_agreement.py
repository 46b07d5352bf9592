"""Agreement of labelings, compared with scikit-learn."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from scipy.optimize import linear_sum_assignment
from sklearn import metrics

from selfsight.measure.metrics.agreement import (
    adjusted_mutual_information,
    adjusted_rand,
    contingency,
    matched_accuracy,
    normalised_mutual_information,
)

PAIRS = {
    "nmi": (normalised_mutual_information, metrics.normalized_mutual_info_score),
    "ami": (adjusted_mutual_information, metrics.adjusted_mutual_info_score),
    "ari": (adjusted_rand, metrics.adjusted_rand_score),
}


def hungarian(left: np.ndarray, right: np.ndarray) -> float:
    table = metrics.cluster.contingency_matrix(left, right)
    rows, columns = linear_sum_assignment(-table)
    return table[rows, columns].sum() / len(left)


def agree(left: np.ndarray, right: np.ndarray) -> None:
    table = contingency(left, right)
    assert matched_accuracy(table) == pytest.approx(hungarian(left, right))
    for name, (ours, theirs) in PAIRS.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scikit-learn wonders about labels that are all different
            expected = theirs(left, right)
        assert ours(table) == pytest.approx(expected, rel=1e-9, abs=1e-9), name


@given(seed=some.integers(0, 2**31), count=some.integers(2, 60), one=some.integers(1, 9), other=some.integers(1, 9))
@settings(max_examples=150, deadline=None)
def test_random_labelings(seed, count, one, other):
    chance = np.random.default_rng(seed)
    agree(chance.integers(0, one, count), chance.integers(0, other, count))


EDGES = {
    "one sample": ([0], [0]),
    "one class each": ([0, 0, 0], [5, 5, 5]),
    "one class against two": ([0, 0, 0, 0], [0, 0, 1, 1]),
    "two classes against one": ([0, 0, 1, 1], [3, 3, 3, 3]),
    "all singletons": ([0, 1, 2, 3], [7, 5, 6, 4]),
    "singletons against one": ([0, 1, 2, 3], [0, 0, 0, 0]),
    "singletons against two": ([0, 1, 2, 3], [0, 0, 1, 1]),
    "not consecutive": ([10, 10, -3, -3, 99], [7, 7, 1000, 1000, 5]),
    "the same": ([0, 1, 2, 0, 1, 2], [0, 1, 2, 0, 1, 2]),
    "renamed": ([0, 1, 2, 0, 1, 2], [2, 0, 1, 2, 0, 1]),
    "independent": ([0, 0, 1, 1], [0, 1, 0, 1]),
    "more clusters than classes": ([0, 1, 2, 3, 4, 5], [0, 0, 0, 1, 1, 1]),
    "nearly singletons": ([0, 1, 2, 3, 3], [0, 1, 2, 3, 4]),
}


@pytest.mark.parametrize("name", EDGES)
def test_edges(name):
    left, right = (np.array(labels) for labels in EDGES[name])
    agree(left, right)


def test_many_samples():
    chance = np.random.default_rng(0)
    truth = chance.integers(0, 10, 5000)
    guess = np.where(chance.random(5000) < 0.6, truth, chance.integers(0, 12, 5000))
    agree(guess, truth)


@pytest.mark.parametrize("name", PAIRS)
def test_empty_classes_change_nothing(name):
    ours, theirs = PAIRS[name]
    left, right = np.array([0, 0, 2, 2, 2]), np.array([1, 1, 1, 3, 3])
    table = np.zeros((5, 6), dtype=np.int64)
    np.add.at(table, (left, right), 1)  # with rows and columns of zeros, as bootstrap draws have
    assert ours(table) == pytest.approx(theirs(left, right))
    assert matched_accuracy(table) == pytest.approx(hungarian(left, right))


def test_known_scores():
    permuted = contingency(np.array([0, 1, 2, 2, 1]), np.array([2, 0, 1, 1, 0]))
    assert [measure(permuted) for measure in (matched_accuracy, normalised_mutual_information, adjusted_rand)] == pytest.approx([1, 1, 1])
    constant = contingency(np.zeros(10, dtype=int), np.array([0] * 6 + [1] * 3 + [2]))
    assert matched_accuracy(constant) == 0.6  # the share of the largest class
    assert [measure(constant) for measure in (normalised_mutual_information, adjusted_rand)] == pytest.approx([0, 0])
    table = np.array([[4, 1], [1, 4]])
    assert matched_accuracy(table) == 0.8
    assert adjusted_rand(table) == pytest.approx(0.28, abs=5e-3)
    assert normalised_mutual_information(table) == pytest.approx(0.2781, abs=5e-5)


def test_a_million_samples_do_not_overflow():
    chance = np.random.default_rng(0)
    truth = chance.integers(0, 10, 1_000_000)
    guess = np.where(chance.random(1_000_000) < 0.5, truth, chance.integers(0, 10, 1_000_000))
    large, small = contingency(guess, truth), contingency(guess[:10_000], truth[:10_000])
    for measure in (matched_accuracy, normalised_mutual_information, adjusted_mutual_information, adjusted_rand):
        assert measure(large) == pytest.approx(measure(small), abs=0.02)
    for measure in (matched_accuracy, normalised_mutual_information, adjusted_rand):
        assert measure(100_000 * large) == pytest.approx(measure(large), abs=1e-4)
    assert adjusted_rand(large) == pytest.approx(metrics.adjusted_rand_score(truth, guess), rel=1e-9)
    tens = contingency(guess[:100_000], truth[:100_000])
    assert adjusted_mutual_information(tens) == pytest.approx(
        metrics.adjusted_mutual_info_score(truth[:100_000], guess[:100_000]), rel=1e-9
    )
