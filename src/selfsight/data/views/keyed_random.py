"""Random numbers of view recipes: drawn on the CPU for the whole global batch, keyed by seed, step and a path."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from selfsight.core.clock import Clock, key

__all__ = ["KeyedRandom"]


@dataclass(frozen=True)
class KeyedRandom:
    """Random numbers for the ``n`` images of a global batch at one step.

    Each path, such as an operation of a view, has its own random stream, so that adding an operation to a recipe does not change what the
    others draw.

    Attributes:
        n: number of images.
        clock: seed and step.
        path: identifies the view and the operation.
    """

    n: int
    clock: Clock
    path: tuple[int, ...] = ()

    def at(self, *steps: int) -> "KeyedRandom":
        """The random numbers of a sub-path: a view, or an operation of a view."""
        return KeyedRandom(self.n, self.clock, self.path + steps)

    def generator(self) -> torch.Generator:
        """A generator seeded by seed, step and path."""
        return torch.Generator().manual_seed(key(self.clock.seed, self.clock.step, *self.path))

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Float[Tensor, "batch ..."]:
        """Uniform numbers in [low, high), one row per image.

        Args:
            *shape: shape of a row.
            low: lower bound.
            high: upper bound.
        """
        return low + (high - low) * torch.rand(self.n, *shape, generator=self.generator())

    def normal(self, *shape: int) -> Float[Tensor, "batch ..."]:
        """Standard normal numbers, one row of the given shape per image."""
        return torch.randn(self.n, *shape, generator=self.generator())
