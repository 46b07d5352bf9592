"""What is remembered of every sample, by its index in the source: tables that grow with the data set."""

from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize

from selfsight.core.clock import Clock
from selfsight.core.distribute import everyone
from selfsight.core.errors import UsageError
from selfsight.core.part import Part

__all__ = ["Assignments", "Memory"]


class _Table(nn.Module):
    """Buffers whose first side is the data set's: a saved one brings its own length with it."""

    grown: ClassVar[str]

    def rows_of(self, index: Int[Tensor, " batch"]) -> Tensor:
        table: Tensor = getattr(self, self.grown)
        if not len(table):
            raise UsageError("Nothing is remembered of any sample yet.", "Call the method's relabel once before its first step.")
        return table[index]

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        saved = state_dict.get(prefix + self.grown)
        if saved is not None:
            setattr(self, self.grown, torch.empty_like(saved, device=getattr(self, self.grown).device))
        super()._load_from_state_dict(state_dict, prefix, *rest)


class Assignments(_Table):
    """One cluster number a sample; the table is saved with the method."""

    labels: Tensor
    grown = "labels"

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("labels", torch.zeros(0, dtype=torch.long))

    def set(self, index: Int[Tensor, " sample"], labels: Int[Tensor, " sample"]) -> None:
        """Samples ``index`` belong to clusters ``labels``; samples not named belong to none (-1)."""
        table = torch.full((int(index.max()) + 1,), -1, dtype=torch.long, device=labels.device)
        table[index] = labels
        self.labels = table

    def __getitem__(self, index: Int[Tensor, " batch"]) -> Int[Tensor, " batch"]:
        return self.rows_of(index)


class Memory(_Table, Part):  # pyright: ignore[reportIncompatibleMethodOverride]
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

    def __getitem__(self, index: Int[Tensor, " batch"]) -> Float[Tensor, "batch dim"]:
        return self.rows_of(index)

    @torch.no_grad()
    def note(self, index: Int[Tensor, " batch"], rows: Float[Tensor, "batch dim"]) -> None:
        """These embeddings enter after the step."""
        self._noted.append((everyone(index), everyone(normalize(rows.detach()))))

    @torch.no_grad()
    def after_step(self, clock: Clock) -> None:
        for index, rows in self._noted:
            mixed = self.keep * self.rows[index] + (1 - self.keep) * rows.to(self.rows.dtype)
            self.rows[index] = normalize(mixed)
        self.discard()

    def discard(self) -> None:
        self._noted = []
