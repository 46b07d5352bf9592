"""Queue of recent embeddings."""

import torch
from jaxtyping import Float
from torch import Tensor

from selfsight.core.clock import Clock
from selfsight.core.part import Part

__all__ = ["Queue"]


class Queue(Part):
    """First in, first out queue of unit-length embeddings, initially empty (He et al. 2019, arXiv:1911.05722).

    Rows that are noted during forward are added after the step, so that the current keys are not negatives. The paper's code starts with
    random rows: these are trivial negatives, embeddings collapse towards one point, and short runs recover late or not at all.

    Args:
        size: maximum number of embeddings.
        dim: length of an embedding.
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
        """A copy of the stored rows."""
        return self.rows[: int(self.seen)].clone()

    @property
    def full(self) -> bool:
        """Whether the queue has reached its size."""
        return int(self.seen) >= len(self.rows)

    def note(self, rows: Float[Tensor, "batch dim"]) -> None:
        """Add these rows after the step."""
        self._noted.append(rows.detach())

    @torch.no_grad()
    def after_step(self, clock: Clock) -> None:
        if not self._noted:
            return
        noted = torch.cat(self._noted)
        size, count = len(self.rows), len(noted)
        newest = noted[-size:].to(self.rows.dtype)
        positions = (int(self.cursor) + count - len(newest) + torch.arange(len(newest), device=self.rows.device)) % size
        self.rows[positions] = newest
        self.cursor.fill_((int(self.cursor) + count) % size)
        self.seen.add_(count)
        self.discard()

    def discard(self) -> None:
        self._noted = []
