"""Parts: modules that look after themselves."""

from abc import ABC, abstractmethod
from typing import Any

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


def parts_of(module: nn.Module) -> list[Part]:
    """All parts inside a module, in a fixed order."""
    return [part for part in module.modules() if isinstance(part, Part)]
