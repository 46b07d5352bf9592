"""What a backbone costs: parameters, multiply-adds, images a second."""

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from selfsight.core.representation import Backbone

__all__ = ["Profile", "multiply_adds", "profile"]


@dataclass(frozen=True)
class Profile:
    """Parameters; multiply-adds of one image's forward pass; images a second forward, at a batch."""

    parameters: int
    multiply_adds: int
    images_per_second: float


@torch.no_grad()
def multiply_adds(backbone: Backbone, size: int) -> int:
    """Multiply-adds of one square image: convolutions, linear layers and the products inside attention.

    A convolution costs ``out cells x out channels x kernel x in channels / groups``; a linear layer ``rows x in x out``;
    attention of n tokens of length d another ``2 n² d``. Norms, activations and pooling are not counted.
    """
    counted = 0

    def convolution(layer: nn.Conv2d, given: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
        nonlocal counted
        counted += output[0].numel() * layer.weight[0].numel()

    def linear(layer: nn.Linear, given: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
        nonlocal counted
        counted += output[0].numel() * layer.in_features

    def attention(layer: nn.Module, given: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
        nonlocal counted
        counted += 2 * given[0].shape[1] ** 2 * given[0].shape[2]

    handles = []
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            handles.append(module.register_forward_hook(convolution))
        elif isinstance(module, nn.Linear):
            handles.append(module.register_forward_hook(linear))
        elif hasattr(module, "qkv"):
            handles.append(module.register_forward_hook(attention))
    was = backbone.training
    try:
        backbone.eval()(next(backbone.parameters()).new_zeros(1, backbone.channels, size, size))
    finally:
        backbone.train(was)
        for handle in handles:
            handle.remove()
    return counted


@torch.inference_mode()
def profile(backbone: Backbone, size: int, *, batch: int = 32, seconds: float = 1.0, bf16: bool = False) -> Profile:
    """Count and time a backbone at an image size (pixels)."""
    device = next(backbone.parameters()).device
    backbone = backbone.eval().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    images = torch.randn(batch, backbone.channels, size, size, device=device).contiguous(memory_format=torch.channels_last)
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
