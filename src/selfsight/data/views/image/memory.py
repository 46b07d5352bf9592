"""Memory of dead tensors, used again: on CPUs the first touch of fresh memory costs more than the arithmetic of a view."""

import weakref
from math import prod

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["lend"]

_IDLE = 24
_idle: list[np.ndarray] = []


def lend(*shape: int) -> Float[Tensor, "..."]:
    """An uninitialised float32 tensor on the CPU, in memory that an earlier one of this size left when the last of its users died.

    The tensor is an ordinary one: its memory is taken back only when no tensor shares it any more. A few idle pieces are kept.
    """
    size = prod(shape)
    place = next((number for number in reversed(range(len(_idle))) if len(_idle[number]) == size), None)
    base = np.empty(size, np.float32) if place is None else _idle.pop(place)
    held = base[:]
    weakref.finalize(held, _take_back, base).atexit = False
    return torch.from_numpy(held).view(shape)


def _take_back(base: np.ndarray) -> None:
    _idle.append(base)
    del _idle[:-_IDLE]
