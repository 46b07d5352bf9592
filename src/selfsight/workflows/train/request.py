"""A training request. Torch-free, so that the command line can read it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from selfsight.core.errors import UsageError

__all__ = ["TrainRequest"]

PRECISIONS = ("auto", "bf16", "fp32")
LEAST = {"size": 8, "batch": 2, "epochs": 0, "steps": 0, "limit": 1, "accumulate": 1, "workers": 0, "save_every": 1}
"""Smallest valid values."""


@dataclass(frozen=True)
class TrainRequest:
    """Requested options of a training run; ``None``: chosen automatically.

    Attributes:
        data: name of a data set (see ``open_source``).
        method: name of the method.
        backbone: name of the backbone.
        size: side of the training images in pixels.
        batch: images per step, over all processes.
        epochs: passes over the data; 0 makes an untrained run.
        steps: number of steps, instead of epochs.
        minutes: time budget, instead of epochs.
        seed: seed of all random choices.
        limit: use a random subset of this size.
        init: initial weights: a run or ``timm:NAME``.
        options: options of the method.
        training: options of its training recipe.
        accumulate: gradient accumulation: parts per batch.
        precision: auto, bf16 or fp32.
        device: auto, cpu, cuda or mps.
        workers: processes that read images; 0: one thread.
        compile: compile the method's forward pass.
        save_every: steps between checkpoints.
    """

    data: str
    method: str = "simclr"
    backbone: str | None = None
    size: int | None = None
    batch: int | None = None
    epochs: float | None = None
    steps: int | None = None
    minutes: float | None = None
    seed: int = 0
    limit: int | None = None
    init: str | None = None
    options: Mapping[str, Any] | None = None
    training: Mapping[str, Any] | None = None
    accumulate: int = 1
    precision: str = "auto"
    device: str = "auto"
    workers: int = 0
    compile: bool = False
    save_every: int = 500

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            UsageError: a number is too small, or the precision does not exist.
        """
        for name, least in LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise UsageError(
                    f"{name} is {value:g}, and must be at least {least}.", f"Set it with --{name.replace('_', '-')}, or omit it."
                )
        if self.minutes is not None and self.minutes <= 0:
            raise UsageError(f"{self.minutes:g} minutes are no time to train.", "Set --minutes above 0; --epochs 0 makes an untrained run.")
        if self.precision not in PRECISIONS:
            raise UsageError(f"There is no precision {self.precision!r}.", f"Choose one of {', '.join(PRECISIONS)}.")
