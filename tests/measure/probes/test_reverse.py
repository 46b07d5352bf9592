"""Reverse probing of clusters with known information."""

import csv

import numpy as np
import pytest

import selfsight
from selfsight.core.errors import DataError, UsageError
from selfsight.data.source import Truth
from selfsight.data.truth import read_truth
from selfsight.measure.probes.reverse import Concepts, _quantise, concepts_of, reverse, reverse_by_clusters, reverse_without
from selfsight.measure.results import Features

CORNERS = np.array([[5.0, 0.0, 0.0, 0.0], [0.0, 5.0, 0.0, 0.0], [0.0, 0.0, 5.0, 0.0], [0.0, 0.0, 0.0, 5.0]])


def clouds(seed: int, codes: np.ndarray) -> np.ndarray:
    return (CORNERS[codes] + 0.05 * np.random.default_rng(seed).standard_normal((len(codes), 4))).astype(np.float32)


def bits(seed: int, count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.random.default_rng(seed).integers(0, 2, (2, count))
    return first, second


def two_bits(tell, count: int = 400) -> tuple[Features, Concepts]:
    """Features in clouds selected by a function of two bits, and the bits as concepts."""
    parts = [bits(seed, count) for seed in (0, 1)]
    concepts = Concepts(*(np.stack(part, 1).astype(np.float32) for part in parts), ("first", "second"), ("first", "second"))
    return Features(*(clouds(seed, tell(*part)) for seed, part in enumerate(parts))), concepts


def information(left: np.ndarray, right: np.ndarray) -> float:
    """Mutual information of two labelings in bits."""
    table = np.zeros((left.max() + 1, right.max() + 1))
    np.add.at(table, (left, right), 1 / len(left))
    outer = table.sum(1, keepdims=True) * table.sum(0)
    return float((table[table > 0] * np.log2(table[table > 0] / outer[table > 0])).sum())


def test_two_bits_are_measured_as_two_bits():
    found = reverse(*two_bits(lambda first, second: 2 * first + second), clusters=4).values
    entropy = information(*[np.array(2 * bits(1)[0] + bits(1)[1])] * 2)
    assert entropy == pytest.approx(2, abs=0.02)
    assert found["bits"].value == pytest.approx(entropy, abs=5e-3)
    assert found["bits"].value <= entropy
    for name in ("nmi", "nmi_mean", "ami", "top1"):
        assert found[name].value == pytest.approx(1, abs=5e-3), name
    assert found["shuffled_bits"].value <= 1e-6


def test_a_linear_classifier_cannot_predict_xor():
    found = reverse(*two_bits(lambda first, second: first ^ second), clusters=2).values
    assert abs(found["bits"].value) < 0.02
    assert abs(found["ami"].value) < 0.05
    first, second = bits(1)
    assert information(first ^ second, 2 * first + second) > 0.99  # it is all there


def test_combinations_of_concepts_count():
    both = reverse(*two_bits(lambda first, second: first & second), clusters=2).values["bits"].value
    lost = reverse_without(*two_bits(lambda first, second: first & second), clusters=2).values
    assert both == pytest.approx(0.81, abs=0.06)  # H of a quarter
    assert set(lost) == {"first", "second"}
    assert all(score.value == pytest.approx(0.5, abs=0.08) for score in lost.values())  # half the time nothing is known without it
    twice = two_bits(lambda first, second: first)
    assert reverse_without(*twice, clusters=2).values["second"].value == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("seed", range(4))
def test_bound_is_below_entropy_and_true_information(seed):
    chance = np.random.default_rng(seed)
    codes = [chance.integers(0, 6, 300) for _ in range(2)]
    noisy = [np.where(chance.random(300) < 0.7, part % 4, chance.integers(0, 4, 300)) for part in codes]
    rows = [clouds(seed + place, part % 4) + chance.normal(size=(300, 4)).astype(np.float32) for place, part in enumerate(codes)]
    features = Features(*rows, noisy[0], noisy[1])
    quantised = _quantise(features, None, 8, 0)
    told = reverse(features, clusters=8).values
    order = np.sort(np.random.default_rng(0).permutation(300))
    truth = information(quantised.test, noisy[1][order])
    entropy = information(quantised.test, quantised.test)
    assert 0 < told["bits"].value <= truth <= entropy
    assert told["nmi"].value == pytest.approx(told["bits"].value / entropy)
    assert told["bits"].low <= told["bits"].value <= told["bits"].high


def test_shuffled_concepts_have_no_information():
    quantised = _quantise(*two_bits(lambda first, second: 2 * first + second), 4, 0)
    found = [quantised.predict(shuffled=seed).scores()["bits"].value for seed in range(10)]
    assert max(found) < 0.01
    assert np.mean(found) <= 0


def test_sweep_over_clusters():
    found = reverse_by_clusters(*two_bits(lambda first, second: 2 * first + second), counts=(2, 4))
    assert set(found) == {2, 4}
    assert found[2].values["bits"].value < found[4].values["bits"].value
    assert "2 clusters" in found[2].protocol


def test_concepts_of_a_rendered_world():
    train, test = (selfsight.open(f"world:shapes?count=60&size=16&split={split}") for split in ("train", "test"))
    found = concepts_of(train.truth(np.arange(60)), test.truth(np.arange(60)))
    assert found is not None
    assert {"label", "texture_name", "hue", "x"} <= set(found.groups)
    assert "texture" not in found.groups  # the same as its name
    assert "objects" not in found.groups  # always one
    assert found.names[0] == "label=disc"
    assert found.train.shape == found.test.shape == (60, len(found.names))
    groups = np.array(found.groups)
    for group in set(found.groups):
        assert (found.train[:, groups == group].sum(1) == 1).all(), group
    assert found.groups.count("hue") == 4
    assert found.train[:, groups == "hue"].mean(0) == pytest.approx([0.25] * 4, abs=0.02)


def test_concepts_of_a_table(tmp_path):
    names = [f"{number}.png" for number in range(12)]
    with (tmp_path / "truth.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "colour", "size", "note"])
        writer.writerows([name, "red" if number % 2 else "blue", number % 3 if number else "", ""] for number, name in enumerate(names))
    truth = read_truth(tmp_path / "truth.csv", names).truth
    found = concepts_of(truth, truth)
    assert found is not None
    assert found.names == ("colour=blue", "colour=red", "size=0", "size=1", "size=2")
    assert found.train[0].tolist() == [1, 0, 0, 0, 0]  # its size is unknown
    assert found.train[5].tolist() == [0, 1, 0, 0, 1]
    assert concepts_of(Truth(), truth) is None


def test_unknown_values_of_the_test_part_are_unknown():
    train = Truth(attributes={"kind": np.array(["a", "b", "a"], dtype=object), "many": np.arange(100.0)[:3]})
    test = Truth(attributes={"kind": np.array(["b", "c", ""], dtype=object), "many": np.array([1.0, np.nan, 9.0])})
    found = concepts_of(train, test)
    assert found is not None
    assert found.test.tolist() == [[0, 1, 0, 1, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]


def test_invalid_arguments_are_rejected():
    rows = clouds(0, np.arange(20) % 4)
    with pytest.raises(DataError, match="needs labels or attributes"):
        reverse(Features(rows, rows))
    with pytest.raises(UsageError, match="not 1"):
        reverse(Features(rows, rows, np.arange(20) % 2, np.arange(20) % 2), clusters=1)
