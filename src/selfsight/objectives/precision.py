"""Run losses in float32 or float64 regardless of autocast (mixed precision: Micikevicius et al. 2017, arXiv:1710.03740)."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

__all__ = ["at_least_single", "in_full_precision"]

P = ParamSpec("P")
T = TypeVar("T")
_HALVES = (torch.float16, torch.bfloat16)


def in_full_precision(function: Callable[P, T]) -> Callable[P, T]:
    """Decorator that disables autocast and casts half-precision tensor arguments to float32; float64 is unchanged."""

    @wraps(function)
    def inner(*args: P.args, **kwargs: P.kwargs) -> T:
        tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        device = tensors[0].device.type if tensors else "cpu"
        with torch.autocast(device, enabled=False):
            return function(*(_raised(value) for value in args), **{name: _raised(value) for name, value in kwargs.items()})  # pyright: ignore[reportCallIssue]

    return inner


def at_least_single(tensor: Tensor) -> Tensor:
    """Cast a half-precision tensor to float32; other dtypes are unchanged."""
    return tensor.float() if tensor.dtype in _HALVES else tensor


def _raised(value: object) -> object:
    return at_least_single(value) if isinstance(value, Tensor) else value
