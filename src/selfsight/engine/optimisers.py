"""Optimisers, without weight decay and adaptation for biases, norms and prototypes."""

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from selfsight.core.card import Training

__all__ = ["LARS", "make_optimiser"]

_SPARED = ("_token", "_tokens", "pos_embed", "pos_embedding", "relative_position_bias_table", "blank")
"""Ends of the names of tokens and position tables, which have no weight decay; the longer ones are torchvision's."""


class LARS(Optimizer):
    """Layer-wise adaptive rate scaling (You et al. 2017, arXiv:1708.03888), as in SimCLR.

    For a tensor w with gradient g: ``g ← g + decay w``, ``g ← g η |w| / |g|`` if both norms are positive, then momentum:
    ``v ← momentum v + g``, ``w ← w - lr v``. Groups with ``adapt = False`` use plain momentum without decay.

    Args:
        groups: parameters, or groups of them with ``weight_decay`` and ``adapt``.
        lr: learning rate.
        momentum: momentum.
        decay: weight decay.
        trust: η.
    """

    def __init__(self, groups: Iterable[Any], lr: float, *, momentum: float = 0.9, decay: float = 0.0, trust: float = 0.001) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": decay, "trust": trust, "adapt": True})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step."""
        if closure is not None:
            raise ValueError("LARS takes no closure; compute the gradient before calling step().")
        for group in self.param_groups:
            moved = [parameter for parameter in group["params"] if parameter.grad is not None]
            if moved:
                self._move(moved, group)

    def _move(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if group["adapt"]:
            gradients = torch._foreach_add(gradients, parameters, alpha=group["weight_decay"])
            norms, gradient_norms = torch._foreach_norm(parameters), torch._foreach_norm(gradients)
            ratios = [
                torch.where((norm > 0) & (gradient_norm > 0), group["trust"] * norm / gradient_norm, 1.0)
                for norm, gradient_norm in zip(norms, gradient_norms, strict=True)
            ]
            gradients = torch._foreach_mul(gradients, ratios)
        velocities = [self.state[parameter].setdefault("velocity", torch.zeros_like(parameter)) for parameter in parameters]
        torch._foreach_mul_(velocities, group["momentum"])
        torch._foreach_add_(velocities, gradients)
        torch._foreach_add_(parameters, velocities, alpha=-group["lr"])


def _groups(method: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Up to four groups: with or without decay (biases, norms, tokens, positions, prototypes), with scheduled or constant learning rate."""
    no_weight_decay = _without_decay(method)
    constant_rate = {
        id(parameter) for module in method.modules() if getattr(module, "constant_rate", False) for parameter in module.parameters()
    }
    sorted_by: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in method.named_parameters():
        if parameter.requires_grad:
            small = parameter.ndim < 2 or name.endswith(_SPARED)
            group = (id(parameter) in constant_rate, small or id(parameter) in no_weight_decay)
            sorted_by.setdefault(group, []).append(parameter)
    return [
        {"params": parameters, "weight_decay": 0.0 if small else decay, "adapt": not small, "steady": constant}
        for (constant, small), parameters in sorted(sorted_by.items())
    ]


def _without_decay(method: nn.Module) -> set[int]:
    """Identities of the parameters that a module excludes from weight decay.

    ``no_weight_decay`` is either True, for the module's own parameters, or a method that returns names of parameters of the module or its
    children, as in timm.
    """
    found: set[int] = set()
    for module in method.modules():
        excluded = getattr(module, "no_weight_decay", False)
        if callable(excluded):
            names = {str(name) for name in cast(Iterable[str], excluded())}
            found |= {id(parameter) for name, parameter in module.named_parameters() if name in names}
        elif excluded:
            found |= {id(parameter) for parameter in module.parameters(recurse=False)}
    return found


def make_optimiser(method: nn.Module, training: Training) -> Optimizer:
    """The optimiser of a training recipe; the plan sets its learning rate before every step.

    Modules with ``constant_rate = True`` keep the maximum learning rate (SimSiam's predictor), those with ``no_weight_decay = True`` have no
    weight decay. Neither have parameters that a network names in its own ``no_weight_decay()``, such as the position tables of timm's models.

    Args:
        method: the method.
        training: optimiser, learning rate and weight decay.
    """
    groups = _groups(method, training.decay)
    if training.optimiser == "adamw":
        return AdamW(groups, lr=training.rate, betas=training.betas)
    if training.optimiser == "lars":
        return LARS(groups, lr=training.rate, momentum=training.momentum)
    return SGD(groups, lr=training.rate, momentum=training.momentum)
