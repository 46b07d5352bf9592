"""Linear support vector machines with few labelled samples of each class.

The protocol of Goyal et al. 2019 (arXiv:1905.01235) for unit-length frozen features: one machine a class against all others, squared
hinge, positives weighing twice, several draws of k samples of each class. There the cost is the one that is best on the test part;
here it is chosen by cross-validation among the k samples themselves, so that a score of k samples has seen no other label.
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
"""Of the protocol."""
FEW_COSTS = (0.01, 0.1, 1.0, 10.0, 100.0)
SHOTS = (1, 2, 4, 8, 16, 32, 64, 96)
FOLDS = 3
GIVEN = 400
"""Samples of all classes together that the short form draws at most."""
JUDGED = 2000
"""Test samples at most."""


@dataclass(frozen=True)
class Machines:
    """Scores ``w · x + b`` of several machines, one a column.

    Attributes:
        weight, bias: of each machine.
        objective: what was minimised, of each.
        above: by how much that may be above its least value, ``|gradient|² / 2``, for the objective is as bent as ``|w|² / 2``.
    """

    weight: Float[Tensor, "dim machine"]
    bias: Float[Tensor, " machine"]
    objective: Float[Tensor, " machine"]
    above: Float[Tensor, " machine"]

    def __call__(self, rows: Float[Tensor, "sample dim"]) -> Float[Tensor, "sample machine"]:
        """The scores of each row."""
        return rows.double() @ self.weight + self.bias


@torch.no_grad()
def fit_machines(
    rows: Float[Tensor, "sample dim"],
    positive: Bool[Tensor, "sample machine"],
    cost: Float[Tensor, " machine"] | float,
    *,
    weight: float = 2.0,
    tolerance: float = 1e-6,
    rounds: int = 50,
) -> Machines:
    """Linear support vector machines, all columns at once: each minimises, over w and b, liblinear's objective.

    ::

        ½ (|w|² + b²) + C Σ_i c_i max(0, 1 - y_i (w · x_i + b))²,    c_i = weight of a positive, 1 of a negative

    Newton's method with conjugate gradients (Keerthi & DeCoste 2005, JMLR 6): the objective is piecewise quadratic, so that it ends
    after a few steps. Rows are first turned to their principal axes (at most as many as samples), where the Hessian over all samples
    is diagonal; that of the samples inside the margin is solved with it as preconditioner.

    Args:
        rows, positive: one a sample; which samples belong to which machine's class.
        cost: C, of all machines or of each.
        weight, rounds: of positives; Newton steps at most.
        tolerance: how far above its least value the objective may end, as a part of it.
    """
    x = torch.cat([rows.double(), rows.new_ones(len(rows), 1).double()], 1)
    axes, turned, spread = _principal(x)
    problem = _Problem(turned, positive, torch.as_tensor(cost, dtype=torch.float64, device=rows.device).expand(positive.shape[1]), weight)
    solution = turned.new_zeros(turned.shape[1], positive.shape[1])
    value, gradient, inside = problem.look(solution)
    for _ in range(rounds):
        active = gradient.square().sum(0) / 2 > tolerance * value
        if not bool(active.any()):
            break
        step = problem.part(active).newton(gradient[:, active], inside[:, active], spread)
        solution[:, active], value[active], gradient[:, active], inside[:, active] = problem.part(active).search(
            solution[:, active], step, value[active], gradient[:, active]
        )
    found = axes @ solution
    return Machines(found[:-1], found[-1], value, gradient.square().sum(0) / 2)


def _principal(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Axes (dim, axis), the rows seen along them, and the sum of squares along each; a weight across all axes would be zero."""
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
        """Some machines."""
        return _Problem(self.rows, self.positive[:, machines], self.cost[machines], self.weight)

    def look(self, solution: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The objective, its gradient, and ``2 C c_i`` of samples inside the margin, 0 of the others."""
        sign = torch.where(self.positive, 1.0, -1.0).double()
        short = (1 - sign * (self.rows @ solution)).clamp(min=0)
        weight = torch.where(self.positive, self.weight, 1.0) * self.cost
        value = solution.square().sum(0) / 2 + (weight * short.square()).sum(0)
        gradient = solution - 2 * self.rows.T @ (weight * sign * short)
        return value, gradient, 2 * weight * (short > 0)

    def newton(self, gradient: Tensor, inside: Tensor, spread: Tensor) -> Tensor:
        """``-H⁻¹ g`` of ``H = 1 + Xᵀ diag(inside) X``, by preconditioned conjugate gradients to a tenth of the gradient, less near the end."""
        scale = 1 / (1 + spread[:, None] * inside.mean(0))
        step, residual = torch.zeros_like(gradient), -gradient
        aim = gradient.norm(dim=0) * torch.clamp(gradient.norm(dim=0).sqrt(), max=0.1)
        ready = scale * residual
        direction, power = ready.clone(), (residual * ready).sum(0)
        for _ in range(200):
            if bool((residual.norm(dim=0) <= aim).all()):
                break
            bent = direction + self.rows.T @ (inside * (self.rows @ direction))
            length = power / (direction * bent).sum(0).clamp(min=1e-300)
            step, residual = step + length * direction, residual - length * bent
            ready = scale * residual
            after = (residual * ready).sum(0)
            direction, power = ready + after / power.clamp(min=1e-300) * direction, after
        return step

    def search(self, solution: Tensor, step: Tensor, value: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The longest of a step, a half, a quarter, … that lowers the objective enough, for each machine, and what is seen there."""
        length, slope = torch.ones_like(value), (gradient * step).sum(0)
        found = self.look(solution + step)
        for _ in range(40):
            short = found[0] > value + 1e-4 * length * slope + 1e-12 * value
            if not bool(short.any()):
                break
            length = torch.where(short, length / 2, length)
            found = self.look(solution + length * step)
        return solution + length * step, *found


def choose_cost(
    rows: Float[Tensor, "sample dim"], labels: Int[Tensor, " sample"], classes: int, costs: Sequence[float], *, folds: int = FOLDS
) -> float:
    """The cost, one for all machines, that gets most samples right when each fold in turn is left out; of equals the smallest.

    Classes are spread evenly over the folds. Where every class has but one sample nothing can be left out, and the cost is 1.
    """
    order = labels.argsort(stable=True)
    starts = torch.bincount(labels, minlength=classes).cumsum(0) - torch.bincount(labels, minlength=classes)
    place = torch.empty_like(labels)
    place[order] = torch.arange(len(labels), device=labels.device) - starts[labels[order]]
    folds = min(folds, int(torch.bincount(labels).max()))
    if folds < 2 or len(costs) == 1:
        return 1.0 if len(costs) > 1 else costs[0]
    right = torch.zeros(len(costs))
    for fold in range(folds):
        held = place % folds == fold
        scores = _fit_all(rows[~held], labels[~held], classes, costs, tolerance=1e-3)(rows[held])
        guess = scores.unflatten(1, (len(costs), classes)).argmax(2)
        right += (guess == labels[held][:, None]).sum(0).cpu()
    return costs[int(right.argmax())]


def _fit_all(rows: Tensor, labels: Tensor, classes: int, costs: Sequence[float], tolerance: float = 1e-6) -> Machines:
    """A machine for every cost and class."""
    positive = (labels[:, None] == torch.arange(classes, device=labels.device)).repeat(1, len(costs))
    each = torch.tensor(costs, dtype=torch.float64, device=rows.device).repeat_interleave(classes)
    return fit_machines(rows, positive, each, tolerance=tolerance)


def low_shot(
    features: Features, *, shots: Sequence[int] = SHOTS, draws: int = 5, costs: Sequence[float] = COSTS, judged: int = JUDGED, seed: int = 0
) -> Scores:
    """The share of test samples that machines get right after k samples of each class, for each k; means over draws.

    The interval is Student's for the mean over draws. A class of fewer than k samples gives all that it has; a k that no class can
    fill is left out.

    Raises:
        DataError: no class has so many samples.
    """
    train, labels, test, truth = features.known
    generator = np.random.default_rng(seed)
    chosen = np.sort(generator.permutation(len(test))[:judged])
    asked, right = normalize(torch.from_numpy(np.array(test[chosen], dtype=np.float64))), torch.from_numpy(truth[chosen].astype(np.int64))
    classes = int(max(labels.max(), truth.max())) + 1
    members = [np.flatnonzero(labels == label) for label in range(classes)]
    values: dict[str, Score] = {}
    for shot in shots:
        if shot > max(map(len, members)):
            break
        found = []
        for _ in range(draws):
            rows = np.concatenate([generator.permutation(rows)[:shot] for rows in members])
            given = normalize(torch.from_numpy(np.array(train[rows], dtype=np.float64)))
            known = torch.from_numpy(labels[rows].astype(np.int64))
            machines = _fit_all(given, known, classes, [choose_cost(given, known, classes, costs)])
            found.append(float((machines(asked).argmax(1) == right).double().mean()))
        values[f"top1_of_{shot}"] = _over_draws(found)
    if not values:
        raise DataError(f"No class has {shots[0]} samples.", "Give more training samples or ask for fewer.")
    words = (
        f"linear support vector machines (squared hinge) on unit-length frozen features of k samples of each class; cost of {len(costs)} by "
        f"{FOLDS}-fold cross-validation among these; mean of {draws} draws with Student's interval; at most {judged} test samples"
    )
    return Scores(values, words)


def _over_draws(found: Sequence[float]) -> Score:
    """Their mean and its 95 % interval, within 0 and 1."""
    value, half = float(np.mean(found)), 0.0
    if len(found) > 1:
        half = float(student.ppf(0.975, len(found) - 1) * np.std(found, ddof=1) / np.sqrt(len(found)))
    return Score(value, max(value - half, 0.0), min(value + half, 1.0))


def svm(features: Features, *, seed: int = 0) -> Scores:
    """``low_shot`` in short: k from 1 to 32, as long as all classes together have at most 400 samples; five costs."""
    labels = features.known[1]
    classes = len(np.unique(labels))
    shots = [shot for shot in SHOTS[:6] if shot * classes <= GIVEN] or [1]
    return low_shot(features, shots=shots, costs=FEW_COSTS, judged=1000, seed=seed)
