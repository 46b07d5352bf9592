"""A linear probe."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from selfsight.core.readout import Readout
from selfsight.measure.results import Features, Scores, proportion

__all__ = ["Probe", "fit_probe", "held_out", "linear"]

PENALTIES = tuple(10.0**power for power in range(1, -6, -1))
"""Weights of the squared norm that are tried, in the loss ``mean cross-entropy + penalty/2 |W|²``."""


PART = 8192
"""Rows whose logits are held at a time."""


@dataclass(frozen=True)
class Probe:
    """Logits ``W (x - mean) / scale + b``."""

    weight: Float[Tensor, "class dim"]
    bias: Float[Tensor, " class"]
    mean: Float[Tensor, " dim"]
    scale: Float[Tensor, " dim"]

    def __call__(self, rows: Float[np.ndarray, "sample dim"]) -> Int[np.ndarray, " sample"]:
        """The class of each row."""
        given = torch.from_numpy(np.array(rows, dtype=np.float32)).to(self.mean)
        return ((given - self.mean) / self.scale @ self.weight.T + self.bias).argmax(1).numpy()


def fit_probe(
    rows: Float[np.ndarray, "sample dim"],
    labels: Int[np.ndarray, " sample"],
    classes: int,
    penalty: float,
    *,
    standardise: bool = True,
    rounds: int = 300,
    tolerance: float = 1e-6,
    start: Probe | None = None,
) -> Probe:
    """Multinomial logistic regression by L-BFGS: minimises ``mean cross-entropy + penalty/2 |W|²``, biases free.

    With ``penalty = 1 / (C n)`` this is scikit-learn's objective.
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
    """The loss; its gradient ``(softmax - one-hot)ᵀ x / n + penalty W`` is left with the weights. A part of the rows at a time, as caches hold."""
    loss, slope, shift = x.new_zeros(()), torch.zeros_like(weight), torch.zeros_like(bias)
    for rows, labels in zip(x.split(PART), y.split(PART), strict=True):
        logs = torch.addmm(bias, rows, weight.T).log_softmax(1)
        loss -= logs.gather(1, labels[:, None]).sum()
        chances = logs.exp_()
        chances[torch.arange(len(labels)), labels] -= 1
        slope.addmm_(chances.T, rows)
        shift += chances.sum(0)
    weight.grad = slope.div_(len(x)).add_(weight, alpha=penalty)
    bias.grad = shift.div_(len(x))
    return loss / len(x) + penalty / 2 * weight.square().sum()


def linear(features: Features, *, seed: int = 0) -> Scores:
    """The share of test samples that multinomial logistic regression on standardised frozen features gets right.

    The penalty is chosen on a fifth of the training part, stratified by the seed, then the probe is fitted to all of it.
    """
    train, labels, test, truth = features.known
    classes = int(max(labels.max(), truth.max())) + 1
    held = held_out(labels, seed)
    best, chosen, probe, worse = -1.0, PENALTIES[0], None, 0
    for penalty in PENALTIES:  # strong to weak, each from the one before; two in a row that are worse end the search
        probe = fit_probe(train[~held], labels[~held], classes, penalty, rounds=100, start=probe)
        score = float((probe(train[held]) == labels[held]).mean())
        worse = 0 if score > best else worse + 1
        if score > best:
            best, chosen = score, penalty
        if worse == 2:
            break
    probe = fit_probe(train, labels, classes, chosen)
    score = proportion(probe(test) == truth)
    words = (
        f"multinomial logistic regression on standardised frozen features, L-BFGS; penalty {chosen:g} chosen among "
        f"{len(PENALTIES)} on a stratified fifth of the training part"
    )
    arrays = {name: getattr(probe, name).numpy() for name in ("weight", "bias", "mean", "scale")}
    return Scores({"top1": score}, words, Readout("linear", "output", arrays, features.classes, {"penalty": chosen, "top1": score.value}))


def held_out(labels: np.ndarray, seed: int) -> np.ndarray:
    """A fifth of each class; a class of one or two samples stays in the part that is fitted."""
    held, generator = np.zeros(len(labels), dtype=bool), np.random.default_rng(seed)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        count = len(rows) // 5 if len(rows) >= 5 else int(len(rows) > 2)
        held[generator.permutation(rows)[:count]] = True
    if not held.any():
        held[:: max(len(labels) // 5, 2)] = True
    return held
