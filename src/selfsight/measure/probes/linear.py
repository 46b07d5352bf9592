"""Linear probe: multinomial logistic regression on frozen features."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from selfsight.core.errors import DataError
from selfsight.core.readout import Readout
from selfsight.measure.results import Features, Scores, proportion

__all__ = ["Probe", "fit_probe", "held_out", "linear"]

PENALTIES = tuple(10.0**power for power in range(1, -6, -1))
"""Candidate weights of the squared norm, in the loss ``mean cross-entropy + penalty/2 |W|²``."""


PART = 8192
"""Rows whose logits are in memory at a time."""


@dataclass(frozen=True)
class Probe:
    """Linear classifier with logits ``W (x - mean) / scale + b``."""

    weight: Float[Tensor, "class dim"]
    bias: Float[Tensor, " class"]
    mean: Float[Tensor, " dim"]
    scale: Float[Tensor, " dim"]

    def __call__(self, rows: Float[np.ndarray, "sample dim"]) -> Int[np.ndarray, " sample"]:
        """Predicted class of each row."""
        x = torch.from_numpy(np.array(rows, dtype=np.float32)).to(self.mean)
        return ((x - self.mean) / self.scale @ self.weight.T + self.bias).argmax(1).numpy()


def fit_probe(
    rows: Float[np.ndarray, "sample dim"], labels: Int[np.ndarray, " sample"], classes: int, penalty: float, *, standardise: bool = True,
    rounds: int = 300, tolerance: float = 1e-6, start: Probe | None = None,
) -> Probe:  # fmt: skip
    """Multinomial logistic regression by L-BFGS; minimises ``mean cross-entropy + penalty/2 |W|²``, without penalty on biases.

    With ``penalty = 1 / (C n)`` this is scikit-learn's objective.

    Args:
        rows: features (N, D).
        labels: classes (N,), from 0.
        classes: number of classes.
        penalty: weight of the squared norm.
        standardise: whether features are standardised by their mean and standard deviation.
        rounds: maximum number of iterations.
        tolerance: gradient tolerance of the solver.
        start: probe whose weights are the start; zeros by default.
    """
    x = torch.from_numpy(np.array(rows, dtype=np.float32))
    y = torch.from_numpy(np.array(labels, dtype=np.int64))
    mean = x.mean(0) if standardise else torch.zeros(x.shape[1])
    scale = x.std(0, correction=0).clamp(min=1e-6) if standardise else torch.ones(x.shape[1])
    x = (x - mean) / scale
    weight = (start.weight.clone() if start else torch.zeros(classes, x.shape[1])).requires_grad_()
    bias = (start.bias.clone() if start else torch.zeros(classes)).requires_grad_()
    solver = torch.optim.LBFGS(
        [weight, bias], max_iter=rounds, tolerance_grad=tolerance, tolerance_change=1e-9, history_size=20, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        with torch.no_grad():
            return _loss_and_slope(x, y, weight, bias, penalty)

    solver.step(closure)  # pyright: ignore[reportArgumentType]
    return Probe(weight.detach(), bias.detach(), mean, scale)


def _loss_and_slope(x: Tensor, y: Tensor, weight: Tensor, bias: Tensor, penalty: float) -> Tensor:
    """The loss; its gradient ``(softmax - one-hot)ᵀ x / n + penalty W`` is stored in the weights.

    Processes a cache-sized chunk of rows at a time.
    """
    loss, weight_gradient, bias_gradient = x.new_zeros(()), torch.zeros_like(weight), torch.zeros_like(bias)
    for rows, labels in zip(x.split(PART), y.split(PART), strict=True):
        log_probabilities = torch.addmm(bias, rows, weight.T).log_softmax(1)
        loss -= log_probabilities.gather(1, labels[:, None]).sum()
        residuals = log_probabilities.exp_()
        residuals[torch.arange(len(labels)), labels] -= 1
        weight_gradient.addmm_(residuals.T, rows)
        bias_gradient += residuals.sum(0)
    weight.grad = weight_gradient.div_(len(x)).add_(weight, alpha=penalty)
    bias.grad = bias_gradient.div_(len(x))
    return loss / len(x) + penalty / 2 * weight.square().sum()


def linear(features: Features, *, seed: int = 0) -> Scores:
    """Accuracy of multinomial logistic regression on standardised frozen features.

    The penalty is chosen on a stratified fifth of the training part, then the probe is fitted to all of it.

    Args:
        features: labelled features.
        seed: seed of the split.
    """
    train, labels, test, truth = features.known
    classes = int(max(labels.max(), truth.max())) + 1
    validation = held_out(labels, seed)
    best, chosen, probe, without_improvement = -1.0, PENALTIES[0], None, 0
    for penalty in PENALTIES:  # strong to weak, with warm start; stop after two candidates without improvement
        probe = fit_probe(train[~validation], labels[~validation], classes, penalty, rounds=100, start=probe)
        score = float((probe(train[validation]) == labels[validation]).mean())
        without_improvement = 0 if score > best else without_improvement + 1
        if score > best:
            best, chosen = score, penalty
        if without_improvement == 2:
            break
    probe = fit_probe(train, labels, classes, chosen)
    score = proportion(probe(test) == truth)
    protocol = (
        f"multinomial logistic regression on standardised frozen features, L-BFGS; penalty {chosen:g} chosen among "
        f"{len(PENALTIES)} on a stratified fifth of the training part"
    )
    arrays = {name: getattr(probe, name).numpy() for name in ("weight", "bias", "mean", "scale")}
    return Scores(
        {"top1": score}, protocol, Readout("linear", "output", arrays, features.classes, {"penalty": chosen, "top1": score.value})
    )


def held_out(labels: np.ndarray, seed: int) -> np.ndarray:
    """Validation mask: a stratified fifth of the samples; classes of one or two samples stay in the training split.

    Args:
        labels: classes (N,).
        seed: seed of the split.

    Returns:
        Mask (N,), True for validation samples.

    Raises:
        DataError: there are fewer than two samples.
    """
    if len(labels) < 2:
        raise DataError(f"A penalty cannot be chosen with {len(labels)} labelled training samples.", "Use at least two (--train).")
    validation, generator = np.zeros(len(labels), dtype=bool), np.random.default_rng(seed)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        count = len(rows) // 5 if len(rows) >= 5 else int(len(rows) > 2)
        validation[generator.permutation(rows)[:count]] = True
    if not validation.any():
        validation[:: max(len(labels) // 5, 2)] = True
    return validation
