"""Memory layout of weights."""

import torch
from torch import nn

__all__ = ["to_channels_last"]


def to_channels_last(module: nn.Module) -> None:
    """Store the weights of 2-D convolutions with channels last, in place, as most devices compute faster.

    ``module.to(memory_format=torch.channels_last)`` does so too, but fails on modules with 3-D convolutions.
    """
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.ndim == 4:
            tensor.data = tensor.data.to(memory_format=torch.channels_last)
