"""Chance for view recipes: every number is drawn on the CPU, for the whole global batch, from seed, step and a path."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from selfsight.core.clock import Clock, key

__all__ = ["KeyedRandom"]


@dataclass(frozen=True)
class KeyedRandom:
    """Random numbers for the ``n`` images of a global batch at one moment.

    ``path`` tells views and operations apart: each has a stream of its own, so that adding an operation
    to a recipe leaves what the others draw unchanged.
    """

    n: int
    clock: Clock
    path: tuple[int, ...] = ()

    def at(self, *steps: int) -> "KeyedRandom":
        """The dice of a view, or of an operation of a view."""
        return KeyedRandom(self.n, self.clock, self.path + steps)

    def generator(self) -> torch.Generator:
        """A generator seeded by the moment and the path."""
        return torch.Generator().manual_seed(key(self.clock.seed, self.clock.step, *self.path))

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Float[Tensor, "batch ..."]:
        """Uniform numbers in [low, high), one row an image."""
        return low + (high - low) * torch.rand(self.n, *shape, generator=self.generator())

    def normal(self, *shape: int) -> Float[Tensor, "batch ..."]:
        """Standard normal numbers, one row an image."""
        return torch.randn(self.n, *shape, generator=self.generator())
