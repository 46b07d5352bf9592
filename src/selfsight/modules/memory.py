"""A bank of one embedding a sample."""

from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize

from selfsight.core.clock import Clock, key
from selfsight.core.distribute import all_gather_with_grad
from selfsight.core.method import Extract, Method
from selfsight.core.part import Part
from selfsight.modules.table import SampleTable

__all__ = ["BeginsFull", "Memory"]


class Memory(SampleTable, Part):  # pyright: ignore[reportIncompatibleMethodOverride]
    """One unit-length embedding a sample (Wu et al. 2018, arXiv:1805.01978): ``v ← m v + (1 - m) z``, back at unit length.

    What is noted during forward enters after the step, from all processes. It takes four bytes a number of every sample.

    Args:
        dim: length of an embedding.
        keep: m; 0 keeps the last embedding.
    """

    rows: Tensor
    grown = "rows"

    def __init__(self, dim: int, *, keep: float = 0.5) -> None:
        super().__init__()
        self.keep = keep
        self.register_buffer("rows", torch.zeros(0, dim))
        self._noted: list[tuple[Tensor, Tensor]] = []

    def set(self, index: Int[Tensor, " sample"], rows: Float[Tensor, "sample dim"]) -> None:
        """Samples ``index`` are remembered as ``rows``; samples not named as zeros."""
        table = torch.zeros(int(index.max()) + 1, rows.shape[1], dtype=self.rows.dtype, device=rows.device)
        table[index] = normalize(rows).to(table.dtype)
        self.rows = table

    def drawn(self, count: int, clock: Clock) -> Float[Tensor, "row dim"] | None:
        """``count`` of the embeddings, with replacement, the same on every process; nothing for 0."""
        if not count:
            return None
        generator = torch.Generator().manual_seed(key(clock.seed, clock.step, 0xBA))
        return self.rows[torch.randint(len(self.rows), (count,), generator=generator).to(self.rows.device)]

    @torch.no_grad()
    def note(self, index: Int[Tensor, " batch"], rows: Float[Tensor, "batch dim"]) -> None:
        """These embeddings enter after the step."""
        self._noted.append((all_gather_with_grad(index), all_gather_with_grad(normalize(rows.detach()))))

    @torch.no_grad()
    def after_step(self, clock: Clock) -> None:
        for index, rows in self._noted:
            mixed = self.keep * self.rows[index] + (1 - self.keep) * rows.to(self.rows.dtype)
            self.rows[index] = normalize(mixed)
        self.discard()

    def discard(self) -> None:
        self._noted = []


class BeginsFull(Method):
    """A method whose memory begins as what the untrained network says of every sample."""

    memory: Memory
    projector: nn.Module

    def due(self, clock: Clock) -> bool:
        """Once, before the first step."""
        return clock.step == 0

    def relabel(self, extract: Extract, clock: Clock) -> Iterable[nn.Module]:
        """Fill the memory."""
        self.memory.set(*extract(self.remembers))
        return []

    def remembers(self, images: Float[Tensor, "batch channel *size"]) -> Float[Tensor, "batch dim"]:
        """What is remembered of images."""
        return self.projector(self.backbone(images).pooled)
