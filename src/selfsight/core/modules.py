"""Lists of modules of one kind, typed."""

from collections.abc import Iterator
from typing import Any, Generic, TypeVar, cast

from torch import nn

__all__ = ["Modules"]

M = TypeVar("M", bound=nn.Module)


class Modules(nn.ModuleList, Generic[M]):
    """An ``nn.ModuleList`` whose members have one type; names in the state dict are the same."""

    def __iter__(self) -> Iterator[M]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return cast("Iterator[M]", super().__iter__())

    def __getitem__(self, number: int) -> M:  # pyright: ignore[reportIncompatibleMethodOverride]
        return cast("M", cast(Any, super()).__getitem__(number))
