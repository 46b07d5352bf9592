"""Cost of a backbone: parameters, multiply-adds, throughput."""

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from selfsight.core.layout import to_channels_last
from selfsight.core.representation import Backbone, blank_input
from selfsight.core.token_layout import TokenLayout

__all__ = ["Profile", "multiply_adds", "profile"]


@dataclass(frozen=True)
class Profile:
    """Cost of a backbone.

    Attributes:
        parameters: number of parameters.
        multiply_adds: multiply-adds of one image's forward pass.
        images_per_second: throughput of the forward pass.
    """

    parameters: int
    multiply_adds: int
    images_per_second: float


@torch.no_grad()
def multiply_adds(backbone: Backbone, size: int) -> int:
    """Multiply-adds of one square image: convolutions, linear layers and the matrix products of attention.

    A convolution costs ``out cells x out channels x kernel x in channels / groups``; a linear layer ``rows x in x out``; attention of n
    tokens of length d another ``2 n² d``. Norms, activations and pooling are not counted.

    Args:
        backbone: the network.
        size: side of the image in pixels.
    """
    counted = 0

    def convolution(layer: nn.Conv2d | nn.Conv3d, given: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
        nonlocal counted
        counted += output[0].numel() * layer.weight[0].numel()

    def linear(layer: nn.Linear, given: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
        nonlocal counted
        counted += output[0].numel() * layer.in_features

    def attention(layer: nn.Module, given: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
        nonlocal counted
        counted += 2 * given[0].shape[1] ** 2 * given[0].shape[2]

    handles, attention_layers = [], TokenLayout.of(backbone).qkv
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            handles.append(module.register_forward_hook(convolution))
        elif isinstance(module, nn.Linear):
            handles.append(module.register_forward_hook(linear))
        elif name in attention_layers:
            handles.append(module.register_forward_hook(attention))
    was_training = backbone.training
    try:
        backbone.eval()(blank_input(backbone, size))
    finally:
        backbone.train(was_training)
        for handle in handles:
            handle.remove()
    return counted


@torch.no_grad()
def profile(backbone: Backbone, size: int, *, batch: int = 32, seconds: float = 1.0, bf16: bool = False) -> Profile:
    """Count and time a backbone.

    Args:
        backbone: the network; set to evaluation mode.
        size: side of the images in pixels.
        batch: images per forward pass.
        seconds: minimum duration of the measurement.
        bf16: compute in bfloat16.
    """
    device = next(backbone.parameters()).device
    to_channels_last(backbone.eval())
    images = torch.randn_like(blank_input(backbone, size, batch))
    images = images.contiguous(memory_format=torch.channels_last) if images.ndim == 4 else images
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        backbone(images)
        started, passes = time.perf_counter(), 0
        while time.perf_counter() - started < seconds:
            backbone(images)
            passes += 1
        if device.type == "cuda":
            torch.cuda.synchronize()
        spent = time.perf_counter() - started
    return Profile(sum(p.numel() for p in backbone.parameters()), multiply_adds(backbone, size), passes * batch / spent)
