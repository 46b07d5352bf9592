"""Three words for several processes, and one for this process's share.

The rule: *the mean over processes of the returned losses is the loss of the global batch, and every differentiable
communication sums gradients in its backward.* Averaging the gradients of all processes is then the gradient of that loss.
With one process each word is the identity.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["anyone", "everyone", "mine", "rank", "shared_mean", "total", "world"]


def world() -> int:
    """The number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if world() > 1 else 0


class _Everyone(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:  # noqa: ARG004 # pyright: ignore[reportIncompatibleMethodOverride]
        parts = [torch.empty_like(rows) for _ in range(world())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004 # pyright: ignore[reportIncompatibleMethodOverride]
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient.chunk(world())[rank()]


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:  # noqa: ARG004 # pyright: ignore[reportIncompatibleMethodOverride]
        value = value.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(value)
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004 # pyright: ignore[reportIncompatibleMethodOverride]
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        return gradient


def everyone(rows: Tensor) -> Tensor:
    """The rows of all processes, in their order: ``n`` rows become ``n * world``. Backward: gradients summed, own rows kept."""
    return _Everyone.apply(rows) if world() > 1 else rows  # pyright: ignore[reportReturnType]


def total(value: Tensor) -> Tensor:
    """The sum over processes, forward and backward."""
    return _Total.apply(value) if world() > 1 else value  # pyright: ignore[reportReturnType]


def shared_mean(value: Tensor) -> Tensor:
    """The mean over processes of a value that each has computed from equally many rows."""
    return total(value) / world()


def anyone(flag: bool) -> bool:  # noqa: FBT001
    """Whether any process says yes."""
    if world() == 1:
        return flag
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    return bool(total(torch.tensor(float(flag), device=device)) > 0)


def mine(rows: Tensor) -> Tensor:
    """This process's rows of something that was made for the global batch."""
    return rows.chunk(world())[rank()] if world() > 1 else rows
