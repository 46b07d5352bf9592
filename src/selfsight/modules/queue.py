"""The last rows that were seen."""

import torch
from jaxtyping import Float
from torch import Tensor

from selfsight.core.clock import Clock
from selfsight.core.part import Part

__all__ = ["Queue"]


class Queue(Part):
    """First in, first out: at most ``size`` rows of unit length, at the start none (He et al. 2019, arXiv:1911.05722).

    What is noted during forward enters after the step, so that today's keys are not yet negatives. The paper's code begins
    with random rows; against those any image is easily told, all are drawn to one point, and short runs recover late or not at all.
    """

    rows: Tensor
    cursor: Tensor
    seen: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(size, dim))
        self.register_buffer("cursor", torch.zeros((), dtype=torch.long))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))
        self._noted: list[Tensor] = []

    def read(self) -> Float[Tensor, "rows dim"]:
        """A copy of the rows that there are."""
        return self.rows[: int(self.seen)].clone()

    @property
    def full(self) -> bool:
        """Whether there are as many rows as it can hold."""
        return int(self.seen) >= len(self.rows)

    def note(self, rows: Float[Tensor, "batch dim"]) -> None:
        """These rows enter after the step."""
        self._noted.append(rows.detach())

    @torch.no_grad()
    def after_step(self, clock: Clock) -> None:
        if not self._noted:
            return
        noted = torch.cat(self._noted)
        size, count = len(self.rows), len(noted)
        newest = noted[-size:].to(self.rows.dtype)
        places = (int(self.cursor) + count - len(newest) + torch.arange(len(newest), device=self.rows.device)) % size
        self.rows[places] = newest
        self.cursor.fill_((int(self.cursor) + count) % size)
        self.seen.add_(count)
        self.discard()

    def discard(self) -> None:
        self._noted = []
