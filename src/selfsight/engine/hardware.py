"""Device, precision, memory layout and processes."""

import ctypes
import os
import sys
import warnings
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from selfsight.core.distribute import world_size
from selfsight.core.errors import EnvironmentFault
from selfsight.core.layout import to_channels_last
from selfsight.core.method import Method, Turns
from selfsight.modules.norm import unite_batch_norms

__all__ = ["Hardware", "choose_hardware", "fast_bf16", "find_device", "keep_memory", "lost_process_fault", "processes"]

Precision = Literal["bf16", "fp32"]


@dataclass(frozen=True)
class Hardware:
    """Device and numerical settings.

    Attributes:
        device: cpu, cuda or mps.
        precision: precision of the networks under autocast; losses are float32 at least.
        channels_last: memory layout of images.
        compile: whether the method's forward is compiled.
    """

    device: torch.device
    precision: Precision = "fp32"
    channels_last: bool = True
    compile: bool = False

    def place(self, method: Method) -> nn.Module:
        """Move a method to the device and wrap it for several processes; call this before the optimiser is made."""
        method.to(self.device)
        if self.channels_last:
            to_channels_last(method)
        placed: nn.Module = method
        if world_size() > 1:
            unite_batch_norms(method)
            ids = [self.device.index or 0] if self.device.type == "cuda" else None
            game = isinstance(method, Turns)
            with warnings.catch_warnings(action="ignore", category=FutureWarning):  # the new option copies buffers at the start
                placed = DistributedDataParallel(method, device_ids=ids, broadcast_buffers=False, find_unused_parameters=game)
        return torch.compile(placed) if self.compile else placed  # pyright: ignore[reportReturnType]

    def autocast(self) -> AbstractContextManager[Any]:
        """Context of a method's forward pass."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def move(self, tensor: Tensor) -> Tensor:
        """A tensor on the device."""
        return tensor.to(self.device, non_blocking=True)

    def layout(self, tensor: Tensor) -> Tensor:
        """A batch of images in the memory layout that is fast for convolutions."""
        is_images = self.channels_last and tensor.ndim == 4 and tensor.is_floating_point()
        return tensor.contiguous(memory_format=torch.channels_last) if is_images else tensor


def fast_bf16(device: torch.device) -> bool:
    """Whether bfloat16 is faster than float32 on the device."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    if device.type != "cpu":
        return False
    capability = torch.backends.cpu.get_cpu_capability()
    information = Path("/proc/cpuinfo")
    flags = information.exists() and "avx512_bf16" in information.read_text()
    return flags and capability.startswith("AVX512")


def keep_memory() -> bool:
    """Let this process keep memory that it frees (glibc only); returns whether that is in effect.

    By default every large tensor is a memory mapping that is released when freed, so each training step on a CPU allocates its activations
    anew with page faults, about a sixth of the step time of a small network.
    """
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    most, trim, pad = -4, -1, -2  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD of malloc.h
    return all([library.mallopt(most, 0), library.mallopt(trim, 2**31 - 1), library.mallopt(pad, 2**28)])


def find_device(device: str = "auto") -> torch.device:
    """A device by its name; auto: CUDA if available, else the CPU.

    Raises:
        EnvironmentFault: the device is not available.
    """
    available = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available, "cpu": lambda: True}
    name = device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    kind = name.split(":")[0]
    if kind not in available or not available[kind]():
        raise EnvironmentFault(f"There is no device {device!r} on this machine.", "Use --device auto, or see selfsight doctor.")
    return torch.device(name)


def choose_hardware(device: str = "auto", precision: str = "auto", *, compile: bool = False) -> Hardware:
    """The requested hardware, or the best available. On a CPU this process keeps the memory that it frees.

    Args:
        device: cpu, cuda, mps or auto.
        precision: bf16, fp32 or auto (bf16 if it is faster).
        compile: whether the method's forward is compiled.

    Raises:
        EnvironmentFault: the device is not available.
    """
    if device == "auto" and not torch.cuda.is_available() and torch.backends.mps.is_available():
        device = "mps"
    found = find_device(device)
    if found.type == "cuda":
        found = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(found)
    if found.type == "cpu":
        keep_memory()
    chosen: Precision = "bf16" if precision == "bf16" or (precision == "auto" and fast_bf16(found)) else "fp32"
    return Hardware(found, chosen, channels_last=True, compile=compile)


LOST = ("Connection reset", "Connection closed", "closed by peer", "Broken pipe", "Read error", "Timed out", "timed out", "NCCL")
"""How gloo and NCCL name a process that no longer answers."""


def lost_process_fault(error: BaseException) -> EnvironmentFault | None:
    """The error of a run of several processes of which one has ended; None if an error has another cause.

    Args:
        error: what a communication between processes has raised.
    """
    if world_size() == 1 or not isinstance(error, RuntimeError) or not any(words in str(error) for words in LOST):
        return None
    return EnvironmentFault(
        f"Another process of this run has ended or does not answer: {str(error).splitlines()[0]}",
        "See its own messages; then start all processes again with --resume.",
    )


class processes:  # noqa: N801
    """``with processes(device):`` joins the process group of torchrun, and leaves it at the end."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.joined = False

    def __enter__(self) -> None:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
            store, number, count = next(iter(dist.rendezvous("env://")))
            attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # torchrun's store keeps the addresses of processes that have ended
            store = dist.PrefixStore(f"attempt {attempt}", store)
            dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo", store=store, rank=number, world_size=count)
            self.joined = True

    def __exit__(self, *_: object) -> None:
        if self.joined:
            dist.destroy_process_group()
