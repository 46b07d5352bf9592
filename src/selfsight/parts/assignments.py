"""Which cluster each sample was put in."""

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from selfsight.core.errors import UsageError

__all__ = ["Assignments"]


class Assignments(nn.Module):
    """One cluster number a sample, by its index in the source; the table grows with the data set and is saved with the method."""

    labels: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("labels", torch.zeros(0, dtype=torch.long))

    def set(self, index: Int[Tensor, " sample"], labels: Int[Tensor, " sample"]) -> None:
        """Samples ``index`` belong to clusters ``labels``; samples not named belong to none (-1)."""
        table = torch.full((int(index.max()) + 1,), -1, dtype=torch.long, device=labels.device)
        table[index] = labels
        self.labels = table

    def __getitem__(self, index: Int[Tensor, " batch"]) -> Int[Tensor, " batch"]:
        if not len(self.labels):
            raise UsageError("No sample has been assigned yet.", "Call the method's relabel once before its first step.")
        return self.labels[index]

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        saved = state_dict.get(f"{prefix}labels")
        if saved is not None:
            self.labels = torch.empty_like(saved, device=self.labels.device)  # the saved table has its own length
        super()._load_from_state_dict(state_dict, prefix, *rest)
