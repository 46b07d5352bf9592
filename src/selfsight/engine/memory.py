"""Exhausted memory of a device: what to do with a smaller part of the batch."""

import torch
from torch import nn

from selfsight.core.errors import EnvironmentFault
from selfsight.core.method import Method

__all__ = ["is_out_of_memory", "memory_fault", "smaller_parts", "splitting_changes"]

WORDS = ("out of memory", "can't allocate memory", "not enough memory", "STATUS_ALLOC_FAILED")
"""How CUDA, MPS, the CPU and cuDNN name exhausted memory."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the memory of a device does not suffice."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in WORDS)


def memory_fault(images: int, reason: str, remedy: str = "") -> EnvironmentFault:
    """The error of a device whose memory does not suffice.

    Args:
        images: images in the batch, or in the smallest part of it that was tried.
        reason: the device's message.
        remedy: what to do; by default to make the network, the images or the batch smaller.
    """
    return EnvironmentFault(
        f"The memory of the device does not suffice for {images} images: {(reason.splitlines() or ['out of memory'])[0]}",
        remedy or "Use a smaller --size or --backbone, or --precision bf16; or end other programs on the device.",
    )


def splitting_changes(method: Method) -> str:
    """Why the gradient of a batch changes if it is computed in parts; empty if it does not.

    It does not where no layer takes statistics of the batch and the loss is a mean over samples.
    """
    reasons = ["batch norm takes the statistics of a part"] if _takes_statistics(method) else []
    reasons += ["the loss compares the images of a part only"] if method.card.coupled else []
    return " and ".join(reasons)


def _takes_statistics(method: nn.Module) -> bool:
    return any(isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.training for layer in method.modules())


def smaller_parts(method: Method, images: int, parts: int) -> int | None:
    """Number of parts of a batch after halving them; None if they are as small as they can be.

    The smallest part is one image, and two where splitting changes the gradient: neither batch norm nor a comparison works on one.

    Args:
        method: the method.
        images: images of this process.
        parts: number of parts that was too small.
    """
    least = 2 if splitting_changes(method) else 1
    more = min(2 * parts, images // least)
    return more if more > parts else None
