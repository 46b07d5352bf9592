"""Modules with state that is updated after a step."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from selfsight.core.clock import Clock

__all__ = ["Chain", "Part", "parts_of"]


class Part(nn.Module, ABC):
    """A module with its own update rule: it notes values during ``forward`` and applies them after the step."""

    @abstractmethod
    def after_step(self, clock: Clock) -> None:
        """Apply the values noted during forward (a queue's keys, a running mean); called after the optimiser's step."""

    def discard(self) -> None:
        """Discard the noted values; called if the step was skipped."""


class Chain:
    """A sequence of modules that owns none of them, so that a state dict contains every tensor once."""

    def __init__(self, *links: nn.Module) -> None:
        self.links = links

    def __call__(self, images: Tensor) -> Tensor:
        return run_chain(self.links, images)


def run_chain(links: Any, images: Tensor) -> Tensor:
    """Apply modules one after another; a backbone's features are passed on as their pooled vector.

    Args:
        links: the modules.
        images: input of the first one.
    """
    value: Any = images
    for link in links:
        value = link(value)
        value = getattr(value, "pooled", value)
    return value


def run_each(links: Iterable[nn.Module], views: Sequence[Tensor]) -> list[Tensor]:
    """Outputs of a sequence of modules for every view, equal to those of one view after another.

    Views of one size pass a module together, in fewer and larger kernels, unless it contains batch norm: joint statistics of several views
    would change training.

    Args:
        links: the modules.
        views: input of each view.
    """
    values = list(views)
    for link in links:
        has_batch_norm = any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in link.modules())
        runs = [[value] for value in values] if has_batch_norm else [list(run) for _, run in groupby(values, lambda value: value.shape)]
        values = [output for run in runs for output in run_chain((link,), torch.cat(run) if len(run) > 1 else run[0]).chunk(len(run))]
    return values


def parts_of(module: nn.Module) -> list[Part]:
    """All parts inside a module, in a fixed order."""
    return [part for part in module.modules() if isinstance(part, Part)]
