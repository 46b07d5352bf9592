"""Reuse of released buffers: on CPUs the first write to newly allocated memory costs more than computing a view."""

import weakref
from math import prod

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["reuse_buffer"]

_IDLE = 24
_idle: list[np.ndarray] = []


def reuse_buffer(*shape: int) -> Float[Tensor, "..."]:
    """An uninitialised float32 tensor on the CPU, in a buffer released by an earlier tensor of this size if there is one.

    A buffer is reused only after all tensors that share it are garbage-collected. A limited number of released buffers is kept.
    """
    size = prod(shape)
    index = next((number for number in reversed(range(len(_idle))) if len(_idle[number]) == size), None)
    base = np.empty(size, np.float32) if index is None else _idle.pop(index)
    held = base[:]
    weakref.finalize(held, _take_back, base).atexit = False
    return torch.from_numpy(held).view(shape)


def _take_back(base: np.ndarray) -> None:
    _idle.append(base)
    del _idle[:-_IDLE]
