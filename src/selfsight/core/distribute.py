"""Communication between processes.

The rule: *the mean over processes of the returned losses is the loss of the global batch, and every differentiable communication sums
gradients in its backward.* Averaging the gradients of all processes then gives the gradient of that loss. With one process each function
is the identity.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["all_gather_with_grad", "all_reduce_mean", "all_reduce_sum", "any_process", "local_rows", "rank", "world_size"]


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


class _AllGather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:  # noqa: ARG004 # pyright: ignore[reportIncompatibleMethodOverride]
        parts = [torch.empty_like(rows) for _ in range(world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004 # pyright: ignore[reportIncompatibleMethodOverride]
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient.chunk(world_size())[rank()]


class _AllReduceSum(torch.autograd.Function):
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


def all_gather_with_grad(rows: Tensor) -> Tensor:
    """Rows of all processes, in order: ``n`` rows become ``n * world_size``. Backward: gradients are summed, own rows returned."""
    return _AllGather.apply(rows) if world_size() > 1 else rows  # pyright: ignore[reportReturnType]


def all_reduce_sum(value: Tensor) -> Tensor:
    """The sum over processes, forward and backward."""
    return _AllReduceSum.apply(value) if world_size() > 1 else value  # pyright: ignore[reportReturnType]


def all_reduce_mean(value: Tensor) -> Tensor:
    """The mean over processes of a value computed from equally many rows on each."""
    return all_reduce_sum(value) / world_size()


def any_process(flag: bool) -> bool:  # noqa: FBT001
    """Whether the flag is true on any process."""
    if world_size() == 1:
        return flag
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    return bool(all_reduce_sum(torch.tensor(float(flag), device=device)) > 0)


def local_rows(rows: Tensor) -> Tensor:
    """This process's rows of a tensor of the global batch."""
    return rows.chunk(world_size())[rank()] if world_size() > 1 else rows
