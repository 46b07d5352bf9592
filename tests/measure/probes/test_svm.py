"""Support vector machines compared with scikit-learn, and low-shot curves."""

import numpy as np
import pytest
import torch
from sklearn.svm import LinearSVC

from selfsight.core.errors import DataError
from selfsight.measure.probes.svm import FOLDS, choose_cost, fit_machines, low_shot, svm
from selfsight.measure.results import Features


def data(seed: int, count: int, dim: int, classes: int = 4, apart: float = 0.5) -> tuple[torch.Tensor, torch.Tensor]:
    chance = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    centres = np.random.default_rng(99).standard_normal((classes, dim))
    rows = apart * centres[labels] + chance.standard_normal((count, dim))
    return torch.from_numpy(rows / np.linalg.norm(rows, axis=1, keepdims=True)), torch.from_numpy(labels)


def objective(rows: np.ndarray, positive: np.ndarray, weight: np.ndarray, bias: float, cost: float, scale: float = 2.0) -> float:
    sign = np.where(positive, 1, -1)
    short = np.maximum(0, 1 - sign * (rows @ weight + bias))
    return float((weight @ weight + bias**2) / 2 + cost * (np.where(positive, scale, 1) * short**2).sum())


@pytest.mark.parametrize("cost", [0.01, 1.0, 100.0])
@pytest.mark.parametrize(("count", "dim"), [(200, 8), (40, 100)])
def test_optimum_equals_liblinear(count, dim, cost):
    rows, labels = data(0, count, dim)
    positive = labels[:, None] == torch.arange(4)
    ours = fit_machines(rows, positive, cost, tolerance=1e-9)
    for machine in range(4):
        sign = np.where(positive[:, machine].numpy(), 1, -1)
        theirs = LinearSVC(C=cost, class_weight={1: 2, -1: 1}, tol=1e-8, max_iter=200_000, random_state=0).fit(rows.numpy(), sign)
        expected = objective(rows.numpy(), sign > 0, theirs.coef_[0], float(theirs.intercept_[0]), cost)
        mine = objective(rows.numpy(), sign > 0, ours.weight[:, machine].numpy(), float(ours.bias[machine]), cost)
        assert mine == pytest.approx(float(ours.objective[machine]), rel=1e-12)
        assert mine == pytest.approx(expected, rel=1e-6)
        assert mine <= expected * (1 + 1e-8)
        assert mine - float(ours.above[machine]) <= expected * (1 + 1e-12)


def test_excess_over_the_optimum_is_bounded():
    rows, labels = data(1, 120, 20)
    positive = labels[:, None] == torch.arange(4)
    rough, exact = (fit_machines(rows, positive, 10.0, tolerance=tolerance) for tolerance in (1e-2, 1e-12))
    assert (rough.objective >= exact.objective).all()
    assert (rough.objective - rough.above <= exact.objective).all()
    assert (exact.above <= 1e-12 * exact.objective).all()


def test_machines_are_independent():
    rows, labels = data(2, 60, 10)
    positive = labels[:, None] == torch.arange(4)
    costs = torch.tensor([0.1, 1.0, 10.0, 100.0], dtype=torch.float64)
    together = fit_machines(rows, positive, costs, tolerance=1e-10)
    for machine in range(4):
        alone = fit_machines(rows, positive[:, [machine]], float(costs[machine]), tolerance=1e-10)
        torch.testing.assert_close(together.weight[:, machine], alone.weight[:, 0], rtol=1e-4, atol=1e-5)
    scores = together(rows.float())
    assert scores.shape == (60, 4)


def test_a_positive_of_weight_two_counts_twice():
    rows, labels = data(3, 30, 5)
    positive = labels[:, None] == 0
    doubled = torch.cat([rows, rows[positive[:, 0]]]), torch.cat([positive, positive[positive[:, 0]]])
    weighted = fit_machines(rows, positive, 1.0, tolerance=1e-12)
    torch.testing.assert_close(weighted.weight, fit_machines(*doubled, 1.0, weight=1.0, tolerance=1e-12).weight, rtol=1e-4, atol=1e-6)


def test_cost_is_chosen_by_cross_validation():
    rows, labels = data(4, 120, 30, apart=0.3)
    costs = (0.001, 1.0, 1000.0)
    place = torch.arange(120) // 4  # the number of a sample in its class
    right = []
    for cost in costs:
        guesses = torch.empty(120, dtype=torch.long)
        for fold in range(FOLDS):
            held = place % FOLDS == fold
            machines = fit_machines(rows[~held], labels[~held, None] == torch.arange(4), cost)
            guesses[held] = machines(rows[held]).argmax(1)
        right.append(int((guesses == labels).sum()))
    assert choose_cost(rows, labels, 4, costs) == costs[int(np.argmax(right))]
    assert choose_cost(rows[:4], labels[:4], 4, costs) == 1.0  # one of each: nothing can be left out
    assert choose_cost(rows, labels, 4, (7.0,)) == 7.0


def features(seed: int = 0, count: int = 160, apart: float = 1.0) -> Features:
    (train, labels), (test, truth) = data(seed, count, 6, apart=apart), data(seed + 1, 100, 6, apart=apart)
    return Features(train.numpy().astype(np.float32), test.numpy().astype(np.float32), labels.numpy(), truth.numpy())


def test_accuracy_increases_with_samples():
    found = low_shot(features(), shots=(1, 4, 16, 64), draws=5, costs=(0.1, 1.0, 10.0))
    assert list(found.values) == ["top1_of_1", "top1_of_4", "top1_of_16"]  # no class has 64
    values = [score.value for score in found.values.values()]
    assert values == sorted(values)
    assert values[0] > 0.4
    assert all(0 <= score.low <= score.value <= score.high <= 1 for score in found.values.values())
    assert found == low_shot(features(), shots=(1, 4, 16, 64), draws=5, costs=(0.1, 1.0, 10.0))


def test_test_labels_are_not_used_for_selection():
    known = features()
    wrong = Features(known.train, known.test, known.train_labels, np.full(100, 3))
    right = low_shot(Features(known.train, known.test, known.train_labels, np.full(100, 0)), shots=(4,), draws=2)
    found = low_shot(wrong, shots=(4,), draws=2)
    assert found.values["top1_of_4"].value + right.values["top1_of_4"].value <= 1  # the same guesses are judged


def test_svm_settings_and_limits():
    found = svm(features(count=40))
    assert list(found.values) == ["top1_of_1", "top1_of_2", "top1_of_4", "top1_of_8"]
    many = np.arange(240) % 120
    rows = np.random.default_rng(0).standard_normal((240, 8)).astype(np.float32)
    assert list(svm(Features(rows, rows, many, many)).values) == ["top1_of_1", "top1_of_2"]
    with pytest.raises(DataError, match="No class has 50 samples"):
        low_shot(features(), shots=(50,))
