"""Memory bank of one embedding per sample."""

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

__all__ = ["InitialisedMemory", "Memory"]


class Memory(SampleTable, Part):  # pyright: ignore[reportIncompatibleMethodOverride]
    """Memory bank of unit-length embeddings (Wu et al. 2018, arXiv:1805.01978): ``v ← m v + (1 - m) z``, normalised again.

    Embeddings that are noted during forward, on all processes, are written after the step. It takes 4 · dim bytes per sample.

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
        """Set the embeddings of samples; samples that are not named get zeros.

        Args:
            index: samples (N,).
            rows: their embeddings (N, D); normalised here.
        """
        table = torch.zeros(int(index.max()) + 1, rows.shape[1], dtype=self.rows.dtype, device=rows.device)
        table[index] = normalize(rows).to(table.dtype)
        self.rows = table

    def drawn(self, count: int, clock: Clock) -> Float[Tensor, "row dim"] | None:
        """Random embeddings with replacement, the same on every process; None for a count of 0.

        Args:
            count: number of embeddings.
            clock: seed and step.
        """
        if not count:
            return None
        generator = torch.Generator().manual_seed(key(clock.seed, clock.step, 0xBA))
        return self.rows[torch.randint(len(self.rows), (count,), generator=generator).to(self.rows.device)]

    @torch.no_grad()
    def note(self, index: Int[Tensor, " batch"], rows: Float[Tensor, "batch dim"]) -> None:
        """Update these embeddings after the step.

        Args:
            index: samples (N,).
            rows: their embeddings (N, D); normalised here.
        """
        self._noted.append((all_gather_with_grad(index), all_gather_with_grad(normalize(rows.detach()))))

    @torch.no_grad()
    def after_step(self, clock: Clock) -> None:
        for index, rows in self._noted:
            mixed = self.keep * self.rows[index] + (1 - self.keep) * rows.to(self.rows.dtype)
            self.rows[index] = normalize(mixed)
        self.discard()

    def discard(self) -> None:
        self._noted = []


class InitialisedMemory(Method):
    """A method whose memory bank is initialised with the untrained network's embeddings."""

    memory: Memory
    projector: nn.Module

    def due(self, clock: Clock) -> bool:
        """True before the first step only."""
        return clock.step == 0

    def relabel(self, extract: Extract, clock: Clock) -> Iterable[nn.Module]:
        self.memory.set(*extract(self.memory_embeddings))
        return []

    def memory_embeddings(self, images: Float[Tensor, "batch channel *size"]) -> Float[Tensor, "batch dim"]:
        """Embeddings of images for the memory bank."""
        return self.projector(self.backbone(images).pooled)
