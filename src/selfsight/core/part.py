"""Parts: modules that look after themselves."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from selfsight.core.clock import Clock

__all__ = ["Chain", "Part", "parts_of"]


class Part(nn.Module, ABC):
    """A module with upkeep of its own: it notes during ``forward`` what it learns at the end of the step."""

    @abstractmethod
    def after_step(self, clock: Clock) -> None:
        """The optimiser has stepped: take what was noted during forward (a queue's keys, a centre's mean)."""

    def discard(self) -> None:
        """The step was skipped: forget what was noted."""


class Chain:
    """A network that runs through several modules. It owns nothing, so that a state dict holds every tensor once."""

    def __init__(self, *links: nn.Module) -> None:
        self.links = links

    def __call__(self, images: Tensor) -> Tensor:
        return run_chain(self.links, images)


def run_chain(links: Any, images: Tensor) -> Tensor:
    """Each link on the output of the one before; a backbone's features go on as their pooled vector."""
    value: Any = images
    for link in links:
        value = link(value)
        value = getattr(value, "pooled", value)
    return value


def run_each(links: Iterable[nn.Module], views: Sequence[Tensor]) -> list[Tensor]:
    """What the links say of every view, in order; the numbers are those of one view after another.

    Views of one size pass through a link together, in fewer and larger kernels, unless it compares the rows of a batch: batch norm
    is to see a view at a time, because joined views share statistics and learn differently.
    """
    values = list(views)
    for link in links:
        compares = any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in link.modules())
        runs = [[value] for value in values] if compares else [list(run) for _, run in groupby(values, lambda value: value.shape)]
        values = [said for run in runs for said in run_chain((link,), torch.cat(run) if len(run) > 1 else run[0]).chunk(len(run))]
    return values


def parts_of(module: nn.Module) -> list[Part]:
    """All parts inside a module, in a fixed order."""
    return [part for part in module.modules() if isinstance(part, Part)]
