"""Reservoir sample of a stream of rows."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

__all__ = ["MAX_ROWS", "ReservoirSample"]

MAX_ROWS = 50_000
"""Maximum number of rows."""


@dataclass
class ReservoirSample:
    """A uniform sample of at most ``MAX_ROWS`` rows of a stream, in stream order."""

    seed: int
    parts: list[tuple[Tensor, ...]] = field(default_factory=list)
    lots: Tensor = field(default_factory=lambda: torch.zeros(0))

    def __post_init__(self) -> None:
        self.generator = torch.Generator().manual_seed(self.seed)

    def add(self, *columns: Tensor) -> None:
        """Add rows, as columns that belong together, such as vectors and their labels."""
        self.parts.append(tuple(column.cpu() for column in columns))
        self.lots = torch.cat([self.lots, torch.rand(len(columns[0]), generator=self.generator)])
        if len(self.lots) > 2 * MAX_ROWS:
            self._thin()

    def rows(self) -> tuple[Tensor, ...]:
        """The sampled rows, by column; empty if nothing was added."""
        self._thin()
        return self.parts[0] if self.parts else ()

    def _thin(self) -> None:
        indices = self.lots.argsort()[:MAX_ROWS].sort().values
        self.parts = [tuple(torch.cat(column)[indices] for column in zip(*self.parts, strict=True))] if self.parts else []
        self.lots = self.lots[indices]
