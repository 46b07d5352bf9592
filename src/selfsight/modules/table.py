"""Tables with one row per sample of a data set."""

from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor, nn

from selfsight.core.errors import UsageError

__all__ = ["SampleTable", "uniform_hash"]


def uniform_hash(index: Int[Tensor, " batch"], salt: int = 0) -> Float[Tensor, " batch"]:
    """A uniform number in [0, 1) for each sample, by a 32-bit mixing hash of index and salt; the same on every process.

    Args:
        index: samples (N,).
        salt: selects independent numbers.
    """
    mixed = (index * 2_654_435_761 + salt % 2**31 * 40_503) % 2**32
    for factor in (2_246_822_519, 3_266_489_917):
        mixed = (mixed ^ mixed >> 15) * factor % 2**32
    return (mixed ^ mixed >> 16).double() / 2**32


class SampleTable(nn.Module):
    """Buffers whose first dimension is the data set's size; loading a state changes it to the saved one."""

    grown: ClassVar[str]

    def __getitem__(self, index: Int[Tensor, " batch"]) -> Num[Tensor, "batch ..."]:
        table: Tensor = getattr(self, self.grown)
        if not len(table):
            raise UsageError("The table of samples is empty.", "Call the method's relabel once before its first step.")
        return table[index]

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        saved = state_dict.get(prefix + self.grown)
        if saved is not None:
            setattr(self, self.grown, torch.empty_like(saved, device=getattr(self, self.grown).device))
        super()._load_from_state_dict(state_dict, prefix, *rest)
