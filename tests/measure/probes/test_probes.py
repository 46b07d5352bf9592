"""Probes compared with scikit-learn, on random data and edge cases."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from selfsight.bank.nearest import nearest
from selfsight.core.errors import DataError
from selfsight.measure.probes.cluster import cluster
from selfsight.measure.probes.geometry import geometry
from selfsight.measure.probes.knn import knn, vote
from selfsight.measure.probes.linear import PENALTIES, Probe, fit_probe, linear
from selfsight.measure.probes.table import PROBES
from selfsight.measure.results import Features, Score, bootstrap_table, proportion
from selfsight.objectives.spread import alignment, effective_rank, uniformity


def data(seed: int, count: int = 120, dim: int = 6, classes: int = 4, noise: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    chance = np.random.default_rng(seed)
    labels = chance.integers(0, classes, count)
    centres = np.random.default_rng(99).normal(size=(classes, dim))
    return (2 * centres[labels] + noise * chance.normal(size=(count, dim))).astype(np.float32), labels


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize(("count", "chunk"), [(1, 1024), (5, 7), (40, 1024)])
def test_nearest_are_exact(count, chunk):
    rows, asked = data(0)[0], data(1, 33)[0]
    cosines, places = nearest(asked, rows, count, chunk=chunk)
    slow = unit(asked.astype(np.float64)) @ unit(rows.astype(np.float64)).T
    order = np.argsort(-slow, axis=1)[:, :count]
    np.testing.assert_array_equal(places, order)
    np.testing.assert_allclose(cosines, np.take_along_axis(slow, order, 1), atol=1e-6)


def test_nearest_excludes_self_and_limits_the_count():
    rows = data(0, 9)[0]
    _, places = nearest(rows, rows, 20, exclude_self=True, chunk=4)
    assert places.shape == (9, 8)
    for row, found in enumerate(places):
        assert sorted(found.tolist()) == [other for other in range(9) if other != row]
    assert nearest(rows, rows, 1)[1][:, 0].tolist() == list(range(9))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("neighbours", [1, 5, 20])
def test_knn_vote_equals_scikit_learn(seed, neighbours):
    (train, labels), (test, _) = data(seed), data(seed + 100, 60)

    def weights(distances: np.ndarray) -> np.ndarray:  # of unit vectors: |a - b|² = 2 - 2 cos
        return np.exp((1 - distances**2 / 2) / 0.07)

    theirs = KNeighborsClassifier(neighbours, weights=weights, algorithm="brute").fit(unit(train), labels)
    np.testing.assert_array_equal(vote(train, labels, test, neighbours=neighbours), theirs.predict(unit(test)))


def test_knn_vote_with_ties():
    train, labels = data(0, 10)
    assert vote(train, np.zeros(10, dtype=np.int64), train).tolist() == [0] * 10  # one class
    assert vote(train, np.arange(10) * 7, train, neighbours=1).tolist() == (np.arange(10) * 7).tolist()  # singletons, gaps between
    assert vote(train, labels, train, neighbours=500).shape == (10,)  # more neighbours than samples
    tie = np.array([[1.0, 0.0], [1.0, 0.0]], dtype=np.float32)
    assert vote(tie, np.array([3, 1]), tie[:1], neighbours=2).tolist() == [1]  # the lower class, as scikit-learn's
    assert np.isfinite(vote(train * 0, labels, train)).all()


def test_knn_vote_at_low_and_high_temperature():
    (train, labels), (test, _) = data(0), data(1, 60)
    nearest_one = labels[nearest(test, train, 1)[1][:, 0]]
    np.testing.assert_array_equal(vote(train, labels, test, neighbours=20, temperature=1e-5), nearest_one)
    chosen = labels[nearest(test, train, 20)[1]]
    ballots = np.stack([(chosen == label).sum(1) for label in range(4)], 1)
    clear = np.sort(ballots, 1)[:, -1] > np.sort(ballots, 1)[:, -2]  # of classes with as many votes the nearer wins
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(vote(train, labels, test, neighbours=20, temperature=1e6)[clear], ballots.argmax(1)[clear])
    np.testing.assert_array_equal(vote(train, labels, test, neighbours=len(train), temperature=1e6), np.bincount(labels).argmax())


def test_knn_vote_with_duplicates_and_few_samples():
    (train, labels), (test, _) = data(0), data(1, 60)
    twice = np.concatenate([train, train]), np.concatenate([labels, labels])
    np.testing.assert_array_equal(vote(*twice, test, neighbours=40), vote(train, labels, test, neighbours=20))
    np.testing.assert_array_equal(vote(*twice, train, neighbours=2), labels)  # both of what is asked for are itself
    for count in (1, 7, 60):  # fewer than the hundred parts that published code makes
        np.testing.assert_array_equal(vote(train, labels, test[:count]), vote(train, labels, test)[:count])


def test_knn_ignores_unknown_labels():
    (train, labels), (test, truth) = data(0), data(1, 60)
    known = Features(train, test, labels, truth)
    half = truth.copy()
    half[::2] = -1
    value = float((vote(train, labels, test[1::2]) == truth[1::2]).mean())
    assert knn(Features(train, test, labels, half)).values["top1"].value == pytest.approx(value)
    assert knn(known).values["top1"].value == pytest.approx(float((vote(train, labels, test) == truth).mean()))


@pytest.mark.parametrize("penalty", [1e-3, 1e-1])
@pytest.mark.parametrize("classes", [2, 4])
def test_linear_probe_equals_scikit_learn(penalty, classes):
    (train, labels), (test, _) = data(0, 200, classes=classes), data(1, 200, classes=classes)
    ours = fit_probe(train, labels, classes, penalty, standardise=False, rounds=500)
    # scikit-learn has one logit for two classes, whose square weighs twice what those of our two halves do
    strength = penalty / 2 if classes == 2 else penalty
    theirs = LogisticRegression(C=1 / (strength * len(train)), tol=1e-9, max_iter=5000).fit(train.astype(np.float64), labels)
    expected = theirs.predict_proba(test)
    chances = (torch.from_numpy(test) @ ours.weight.T + ours.bias).softmax(1).numpy()
    np.testing.assert_allclose(chances, expected, atol=2e-3)
    first, second = np.sort(expected, axis=1)[:, :-3:-1].T
    sure = first - second > 0.01
    assert sure.mean() > 0.9
    np.testing.assert_array_equal(ours(test)[sure], theirs.predict(test)[sure])


def test_probe_standardises_and_can_be_used_again():
    train, labels = data(0)
    scaled = train * 1000 + 50
    plain, moved = fit_probe(train, labels, 4, 1e-2), fit_probe(scaled, labels, 4, 1e-2)
    np.testing.assert_array_equal(plain(train), moved(scaled))
    again = Probe(plain.weight, plain.bias, plain.mean, plain.scale)
    np.testing.assert_array_equal(again(train), plain(train))
    constant = np.concatenate([train, np.ones((len(train), 1), dtype=np.float32)], 1)
    assert np.isfinite(fit_probe(constant, labels, 4, 1e-2).weight.numpy()).all()


def test_linear_chooses_its_penalty_without_the_test_part():
    (train, labels), (test, truth) = data(0, 200), data(1, 100)
    found = linear(Features(train, test, labels, truth))
    assert found.readout is not None
    assert found.readout.facts["penalty"] in PENALTIES
    other = linear(Features(train, test[::-1].copy() * 5, labels, np.roll(truth, 3)))
    assert other.readout is not None
    np.testing.assert_array_equal(other.readout.arrays["weight"], found.readout.arrays["weight"])
    theirs = LogisticRegression(C=1.0, max_iter=2000).fit(train, labels).score(test, truth)
    assert found.values["top1"].value == pytest.approx(theirs, abs=0.06)


@pytest.mark.parametrize("labels", [[0] * 8, list(range(8)), [0, 0, 0, 0, 0, 0, 0, 5], [2, 2, 2, 2, 9, 9, 9, 9]])
def test_probes_with_unusual_labels(labels):
    rows = data(0, 8)[0]
    truth = np.array(labels)
    for probe in (knn, linear, cluster):
        for score in probe(Features(rows, rows, truth, truth)).values.values():
            assert np.isfinite([score.value, score.low, score.high]).all()
    if len(set(labels)) == 1:
        assert linear(Features(rows, rows, truth, truth)).values["top1"].value == 1


def test_cluster_finds_clouds():
    train, labels = data(0, 200, noise=0.05)
    test, truth = data(1, 100, noise=0.05)
    found = cluster(Features(train, test, labels * 3, truth * 3))
    assert {name: score.value for name, score in found.values.items()} == pytest.approx({"acc": 1, "nmi": 1, "ami": 1, "ari": 1})
    assert found.readout is not None
    assert found.readout.arrays["centroids"].shape == (4, 6)


def test_geometry_equals_the_objectives():
    rows, twins = data(0)[0], (data(1, 50)[0], data(2, 50)[0])
    found = geometry(Features(rows, rows, twins=twins)).values
    assert found["uniformity"].value == pytest.approx(float(uniformity(torch.from_numpy(rows))), rel=1e-5)
    assert found["effective_rank"].value == pytest.approx(float(effective_rank(torch.from_numpy(rows))), rel=1e-5)
    assert found["alignment"].value == pytest.approx(float(alignment(*map(torch.from_numpy, twins))), rel=1e-5)
    assert all(score.low <= score.value <= score.high for score in found.values())
    assert "alignment" not in geometry(Features(rows, rows)).values


def test_geometry_of_zero_features_is_the_worst():
    rows = data(0)[0]
    zero, found = geometry(Features(0 * rows, 0 * rows)).values, geometry(Features(rows, rows)).values
    assert zero["uniformity"].value == pytest.approx(0, abs=1e-6)
    assert zero["uniformity"].value > found["uniformity"].value + 1
    assert zero["effective_rank"].value == pytest.approx(1)


def test_interval_of_a_proportion_covers_the_true_value():
    chance = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        score = proportion(chance.random(150) < 0.7, seed=trial)
        assert score.low <= score.value <= score.high
        covered += score.low <= 0.7 <= score.high
    assert 0.90 <= covered / 200 <= 0.99
    assert proportion(np.ones(5, dtype=bool)) == Score(1.0, 1.0, 1.0)
    assert proportion(np.zeros(5, dtype=bool)) == Score(0.0, 0.0, 0.0)


def test_interval_of_a_table_equals_resampling():
    chance = np.random.default_rng(0)
    truth = chance.integers(0, 3, 300)
    guess = np.where(chance.random(300) < 0.8, truth, 0)
    table = np.zeros((3, 3), dtype=np.int64)
    np.add.at(table, (guess, truth), 1)

    def right(cells: np.ndarray) -> float:
        return float(np.trace(cells) / cells.sum())

    found = bootstrap_table(table, {"right": right}, draws=2000)["right"]
    rows = chance.integers(0, 300, (2000, 300))
    low, high = np.quantile((guess == truth)[rows].mean(1), (0.025, 0.975))
    assert found.value == right(table)
    assert found.low == pytest.approx(low, abs=0.01)
    assert found.high == pytest.approx(high, abs=0.01)


@pytest.mark.parametrize("probe", ["knn", "linear", "svm", "cluster", "retrieve", "geometry"])
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
@pytest.mark.parametrize("part", ["training", "test"])
def test_features_that_are_no_numbers_have_no_score(probe: str, wrong: float, part: str):
    train, test = np.random.default_rng(0).normal(size=(2, 30, 8)).astype(np.float32)
    labels = np.arange(30) % 3
    (train if part == "training" else test)[5, 2] = wrong
    with pytest.raises(DataError, match=f"1 of 30 {part} samples are NaN or infinite: row 5"):
        PROBES.load(probe)(Features(train, test, labels, labels, ("a", "b", "c")))


@pytest.mark.parametrize("part", ["training", "test"])
@pytest.mark.parametrize("probe", ["knn", "linear", "svm", "cluster", "retrieve"])
def test_parts_without_any_label_have_no_score(probe: str, part: str):
    rows, labels, none = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32), np.arange(12) % 3, np.full(12, -1)
    with pytest.raises(DataError, match=f"None of the 12 {part} samples has a label"):
        PROBES.load(probe)(
            Features(rows, rows, none if part == "training" else labels, none if part == "test" else labels, ("a", "b", "c"))
        )
