"""Optimisers, with weight decay and adaptation left off biases, norms and prototypes."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from selfsight.core.card import Training

__all__ = ["LARS", "make_optimiser"]


class LARS(Optimizer):
    """Layer-wise adaptive rate scaling (You et al. 2017, arXiv:1708.03888), as SimCLR and its successors use it.

    For a tensor w with gradient g: ``g ← g + decay w``, ``g ← g η |w| / |g|`` where both norms are positive, then
    momentum: ``v ← momentum v + g``, ``w ← w - lr v``. Groups with ``adapt = False`` take plain momentum steps without decay.

    Args:
        groups: parameters, or groups of them with ``decay`` and ``adapt``.
        lr: learning rate.
        momentum: momentum.
        trust: η.
    """

    def __init__(self, groups: Iterable[Any], lr: float, *, momentum: float = 0.9, decay: float = 0.0, trust: float = 0.001) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": decay, "trust": trust, "adapt": True})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step."""
        if closure is not None:
            raise ValueError("LARS takes no closure: compute the gradient before calling step().")
        for group in self.param_groups:
            moved = [parameter for parameter in group["params"] if parameter.grad is not None]
            if moved:
                self._move(moved, group)

    def _move(self, moved: list[Tensor], group: dict[str, Any]) -> None:
        gradients = [parameter.grad for parameter in moved if parameter.grad is not None]
        if group["adapt"]:
            gradients = torch._foreach_add(gradients, moved, alpha=group["weight_decay"])
            sizes, slopes = torch._foreach_norm(moved), torch._foreach_norm(gradients)
            ratios = [
                torch.where((size > 0) & (slope > 0), group["trust"] * size / slope, 1.0) for size, slope in zip(sizes, slopes, strict=True)
            ]
            gradients = torch._foreach_mul(gradients, ratios)
        velocities = [self.state[parameter].setdefault("velocity", torch.zeros_like(parameter)) for parameter in moved]
        torch._foreach_mul_(velocities, group["momentum"])
        torch._foreach_add_(velocities, gradients)
        torch._foreach_add_(moved, velocities, alpha=-group["lr"])


def _groups(method: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Up to four groups: what decays, and biases, norms, tokens, positions and prototypes, which do not; each moving or steady in its rate."""
    modules = list(method.modules())
    spared = {id(own) for module in modules if getattr(module, "undecayed", False) for own in module.parameters(recurse=False)}
    steady = {id(own) for module in modules if getattr(module, "steady", False) for own in module.parameters()}
    sorted_by: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in method.named_parameters():
        if parameter.requires_grad:
            small = parameter.ndim < 2 or name.endswith(("_token", "_tokens", "pos_embed", "blank"))
            kind = (id(parameter) in steady, small or id(parameter) in spared)
            sorted_by.setdefault(kind, []).append(parameter)
    return [
        {"params": moved, "weight_decay": 0.0 if small else decay, "adapt": not small, "steady": even}
        for (even, small), moved in sorted(sorted_by.items())
    ]


def make_optimiser(method: nn.Module, training: Training) -> Optimizer:
    """The optimiser of a training recipe; the plan sets its learning rate before every step.

    Modules with ``steady = True`` keep the highest rate from the first step to the last (SimSiam's predictor), those with
    ``undecayed = True`` do not decay.
    """
    groups = _groups(method, training.decay)
    if training.optimiser == "adamw":
        return AdamW(groups, lr=training.rate, betas=training.betas)
    if training.optimiser == "lars":
        return LARS(groups, lr=training.rate, momentum=training.momentum)
    return SGD(groups, lr=training.rate, momentum=training.momentum)
