"""Linear support vector machines with few labelled samples per class.

The protocol of Goyal et al. 2019 (arXiv:1905.01235) for unit-length frozen features: one machine per class against all others, squared
hinge loss, positives with weight two, several draws of k samples per class. They choose the cost on the test part; here it is chosen by
cross-validation within the k samples, so that a score for k samples uses no other label.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.stats import t as student
from torch import Tensor
from torch.nn.functional import normalize

from selfsight.core.errors import DataError
from selfsight.measure.results import Features, Score, Scores

__all__ = ["Machines", "choose_cost", "fit_machines", "low_shot", "svm"]

COSTS = (0.01, 0.1, 1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 50.0, 100.0, 1000.0)
"""Costs of the protocol of Goyal et al. 2019."""
FEW_COSTS = (0.01, 0.1, 1.0, 10.0, 100.0)
SHOTS = (1, 2, 4, 8, 16, 32, 64, 96)
FOLDS = 3
MOST_SAMPLES = 400
"""Maximum number of training samples, over all classes, in ``svm``."""
MAX_TEST_SAMPLES = 2000
"""Maximum number of test samples."""


@dataclass(frozen=True)
class Machines:
    """Scores ``w · x + b`` of several machines, one column each.

    Attributes:
        weight: (D, M).
        bias: (M,).
        objective: value of each machine's objective (M,).
        above: bound (M,) on the objective's excess over its minimum, ``|gradient|² / 2``, as the objective is 1-strongly convex.
    """

    weight: Float[Tensor, "dim machine"]
    bias: Float[Tensor, " machine"]
    objective: Float[Tensor, " machine"]
    above: Float[Tensor, " machine"]

    def __call__(self, rows: Float[Tensor, "sample dim"]) -> Float[Tensor, "sample machine"]:
        """Scores of each row."""
        return rows.double() @ self.weight + self.bias


@torch.no_grad()
def fit_machines(
    rows: Float[Tensor, "sample dim"], positive: Bool[Tensor, "sample machine"], cost: Float[Tensor, " machine"] | float, *,
    weight: float = 2.0, tolerance: float = 1e-6, rounds: int = 50,
) -> Machines:  # fmt: skip
    """Linear support vector machines, all columns at once; each minimises liblinear's objective over w and b.

    ::

        ½ (|w|² + b²) + C Σ_i c_i max(0, 1 - y_i (w · x_i + b))²,    c_i = weight of a positive, 1 of a negative

    Newton's method with conjugate gradients (Keerthi & DeCoste 2005, JMLR 6); the objective is piecewise quadratic, so it converges
    in a few steps. Rows are first rotated to their principal axes (at most as many as samples), where the Hessian over all samples is diagonal and
    serves as preconditioner for the Hessian over samples inside the margin.

    Args:
        rows: features (N, D).
        positive: mask (N, M), whether a sample is a positive of a machine.
        cost: C, one for all machines or one each.
        weight: c of positives.
        tolerance: accepted relative excess of the objective over its minimum.
        rounds: maximum number of Newton steps.
    """
    x = torch.cat([rows.double(), rows.new_ones(len(rows), 1).double()], 1)
    axes, rotated, spread = _principal(x)
    problem = _Problem(rotated, positive, torch.as_tensor(cost, dtype=torch.float64, device=rows.device).expand(positive.shape[1]), weight)
    solution = rotated.new_zeros(rotated.shape[1], positive.shape[1])
    value, gradient, inside = problem.evaluate(solution)
    for _ in range(rounds):
        active = gradient.square().sum(0) / 2 > tolerance * value
        if not bool(active.any()):
            break
        step = problem.part(active).newton(gradient[:, active], inside[:, active], spread)
        solution[:, active], value[active], gradient[:, active], inside[:, active] = problem.part(active).search(
            solution[:, active], step, value[active], gradient[:, active]
        )
    weights = axes @ solution
    return Machines(weights[:-1], weights[-1], value, gradient.square().sum(0) / 2)


def _principal(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Principal axes (dim, axis), rows in these coordinates, and the sum of squares along each; optimal weights lie in their span."""
    if len(x) < x.shape[1]:
        values, left = torch.linalg.eigh(x @ x.T)
        kept = values > values[-1] * 1e-14
        length = values[kept].sqrt()
        axes = x.T @ left[:, kept] / length
        return axes, left[:, kept] * length, values[kept]
    values, axes = torch.linalg.eigh(x.T @ x)
    return axes, x @ axes, values.clamp(min=0)


@dataclass(frozen=True)
class _Problem:
    """Rows, classes, costs and the weight of positives of some machines."""

    rows: Tensor
    positive: Tensor
    cost: Tensor
    weight: float

    def part(self, machines: Tensor) -> "_Problem":
        """The problem of some of the machines."""
        return _Problem(self.rows, self.positive[:, machines], self.cost[machines], self.weight)

    def evaluate(self, solution: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The objective, its gradient, and ``2 C c_i`` for samples inside the margin, 0 for others."""
        sign = torch.where(self.positive, 1.0, -1.0).double()
        violation = (1 - sign * (self.rows @ solution)).clamp(min=0)
        weight = torch.where(self.positive, self.weight, 1.0) * self.cost
        value = solution.square().sum(0) / 2 + (weight * violation.square()).sum(0)
        gradient = solution - 2 * self.rows.T @ (weight * sign * violation)
        return value, gradient, 2 * weight * (violation > 0)

    def newton(self, gradient: Tensor, inside: Tensor, spread: Tensor) -> Tensor:
        """``-H⁻¹ g`` of ``H = 1 + Xᵀ diag(inside) X`` by preconditioned conjugate gradients, to a tenth of the gradient or less."""
        scale = 1 / (1 + spread[:, None] * inside.mean(0))
        step, residual = torch.zeros_like(gradient), -gradient
        target = gradient.norm(dim=0) * torch.clamp(gradient.norm(dim=0).sqrt(), max=0.1)
        preconditioned = scale * residual
        direction, power = preconditioned.clone(), (residual * preconditioned).sum(0)
        for _ in range(200):
            if bool((residual.norm(dim=0) <= target).all()):
                break
            curved = direction + self.rows.T @ (inside * (self.rows @ direction))
            length = power / (direction * curved).sum(0).clamp(min=1e-300)
            step, residual = step + length * direction, residual - length * curved
            preconditioned = scale * residual
            after = (residual * preconditioned).sum(0)
            direction, power = preconditioned + after / power.clamp(min=1e-300) * direction, after
        return step

    def search(self, solution: Tensor, step: Tensor, value: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Backtracking line search for each machine over the step lengths 1, 1/2, 1/4, …; the solution and the values there."""
        length, slope = torch.ones_like(value), (gradient * step).sum(0)
        values = self.evaluate(solution + step)
        for _ in range(40):
            insufficient = values[0] > value + 1e-4 * length * slope + 1e-12 * value
            if not bool(insufficient.any()):
                break
            length = torch.where(insufficient, length / 2, length)
            values = self.evaluate(solution + length * step)
        return solution + length * step, *values


def choose_cost(
    rows: Float[Tensor, "sample dim"], labels: Int[Tensor, " sample"], classes: int, costs: Sequence[float], *, folds: int = FOLDS
) -> float:
    """The cost, one for all machines, with the highest cross-validated accuracy; the smallest of equals.

    Folds are stratified. If every class has a single sample, cross-validation is impossible and the cost is 1.

    Args:
        rows: features (N, D).
        labels: classes (N,), from 0.
        classes: number of classes.
        costs: candidates.
        folds: maximum number of folds.
    """
    order = labels.argsort(stable=True)
    starts = torch.bincount(labels, minlength=classes).cumsum(0) - torch.bincount(labels, minlength=classes)
    position = torch.empty_like(labels)
    position[order] = torch.arange(len(labels), device=labels.device) - starts[labels[order]]
    folds = min(folds, int(torch.bincount(labels).max()))
    if folds < 2 or len(costs) == 1:
        return 1.0 if len(costs) > 1 else costs[0]
    correct = torch.zeros(len(costs))
    for fold in range(folds):
        validation = position % folds == fold
        scores = _fit_all(rows[~validation], labels[~validation], classes, costs, tolerance=1e-3)(rows[validation])
        predicted = scores.unflatten(1, (len(costs), classes)).argmax(2)
        correct += (predicted == labels[validation][:, None]).sum(0).cpu()
    return costs[int(correct.argmax())]


def _fit_all(rows: Tensor, labels: Tensor, classes: int, costs: Sequence[float], tolerance: float = 1e-6) -> Machines:
    """A machine for every pair of cost and class."""
    positive = (labels[:, None] == torch.arange(classes, device=labels.device)).repeat(1, len(costs))
    cost_of_machine = torch.tensor(costs, dtype=torch.float64, device=rows.device).repeat_interleave(classes)
    return fit_machines(rows, positive, cost_of_machine, tolerance=tolerance)


def low_shot(
    features: Features, *, shots: Sequence[int] = SHOTS, draws: int = 5, costs: Sequence[float] = COSTS,
    max_test_samples: int = MAX_TEST_SAMPLES, seed: int = 0,
) -> Scores:  # fmt: skip
    """Accuracy after training on k samples of each class, for each k; mean over draws with Student's t interval.

    Args:
        features: labelled features.
        shots: values of k, ascending; smaller classes contribute all their samples, and a k that no class reaches is omitted.
        draws: random training sets per k.
        costs: candidates of the cost.
        max_test_samples: maximum number of test samples.
        seed: seed of the draws.

    Raises:
        DataError: no class has the smallest number of samples.
    """
    train, labels, test, truth = features.known
    generator = np.random.default_rng(seed)
    chosen = np.sort(generator.permutation(len(test))[:max_test_samples])
    test_rows, test_labels = _pair(test[chosen], truth[chosen])
    classes = int(max(labels.max(), truth.max())) + 1
    members = [np.flatnonzero(labels == label) for label in range(classes)]
    values: dict[str, Score] = {}
    for shot in shots:
        if shot > max(map(len, members)):
            break
        accuracies = []
        for _ in range(draws):
            rows = np.concatenate([generator.permutation(rows)[:shot] for rows in members])
            accuracies.append(_accuracy(_pair(train[rows], labels[rows]), (test_rows, test_labels), classes, costs))
        values[f"top1_of_{shot}"] = _over_draws(accuracies)
    if not values:
        raise DataError(f"No class has {shots[0]} samples.", "Use more training samples or smaller values of k.")
    protocol = (
        f"linear support vector machines (squared hinge) on unit-length frozen features of k samples of each class; cost chosen from {len(costs)} "
        f"values by {FOLDS}-fold cross-validation; mean of {draws} draws with Student's t interval; at most {max_test_samples} test samples"
    )
    return Scores(values, protocol)


def _accuracy(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], classes: int, costs: Sequence[float]) -> float:
    """Accuracy on the test pair of machines that are fitted to the training pair, with the best cost."""
    machines = _fit_all(*train, classes, [choose_cost(*train, classes, costs)])
    return float((machines(test[0]).argmax(1) == test[1]).double().mean())


def _pair(rows: np.ndarray, labels: np.ndarray) -> tuple[Tensor, Tensor]:
    """Unit-length rows and labels as tensors."""
    return normalize(torch.from_numpy(np.array(rows, dtype=np.float64))), torch.from_numpy(labels.astype(np.int64))


def _over_draws(found: Sequence[float]) -> Score:
    """Mean and 95 % interval, clipped to [0, 1]."""
    value, half_width = float(np.mean(found)), 0.0
    if len(found) > 1:
        half_width = float(student.ppf(0.975, len(found) - 1) * np.std(found, ddof=1) / np.sqrt(len(found)))
    return Score(value, max(value - half_width, 0.0), min(value + half_width, 1.0))


def svm(features: Features, *, seed: int = 0) -> Scores:
    """``low_shot`` with few settings: k from 1 to 32 while all classes together have at most 400 samples, five costs.

    Args:
        features: labelled features.
        seed: seed of the draws.
    """
    labels = features.known[1]
    classes = len(np.unique(labels))
    shots = [shot for shot in SHOTS[:6] if shot * classes <= MOST_SAMPLES] or [1]
    return low_shot(features, shots=shots, costs=FEW_COSTS, max_test_samples=1000, seed=seed)
