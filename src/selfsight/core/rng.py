"""Seeds of torch's global random generators, for what draws from them: initial weights, dropout, stochastic depth."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["seed_rng", "seeded_rng"]


def seed_rng(seed: int) -> None:
    """Seed the random generators of the CPU and of the accelerators in use.

    ``torch.manual_seed`` also formats the call stack for each kind of accelerator that is not in use, which takes longer than a step of a
    small network.

    Args:
        seed: at least 0, below 2^63.
    """
    torch.default_generator.manual_seed(seed)
    for accelerator in (torch.cuda, torch.xpu):
        if accelerator.is_initialized():
            accelerator.manual_seed_all(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)


@contextmanager
def seeded_rng(seed: int) -> Iterator[None]:
    """Seed the random generators inside a ``with`` block; the CPU's is restored afterwards.

    Args:
        seed: at least 0, below 2^63.
    """
    with torch.random.fork_rng(devices=[]):
        seed_rng(seed)
        yield
