"""A training request. Torch-free, so that the command line can read it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from numbers import Integral, Real
from typing import Any

from selfsight.core.errors import UsageError
from selfsight.core.names import look_up

__all__ = ["TrainRequest"]

PRECISIONS = ("auto", "bf16", "fp32")
LEAST = {"seed": 0, "size": 8, "batch": 2, "epochs": 0, "steps": 0, "limit": 1, "accumulate": 1, "workers": 0, "save_every": 1}
"""Smallest valid values."""
MOST = {"size": 8192, "workers": 1024}
"""Largest valid values."""
WHOLE = ("size", "batch", "steps", "seed", "limit", "accumulate", "workers", "save_every")
OPTIMISERS = ("sgd", "lars", "adamw")
RECIPE: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "optimiser": (f"one of {', '.join(OPTIMISERS)}", lambda value: value in OPTIMISERS),
    "rate": ("above 0", lambda value: finite(value) and value > 0),
    "reference_batch": ("a whole number, at least 1", lambda value: whole(value) and value >= 1),
    "decay": ("at least 0", lambda value: finite(value) and value >= 0),
    "warmup": ("from 0 to 1", lambda value: finite(value) and 0 <= value <= 1),
    "final": ("from 0 to 1", lambda value: finite(value) and 0 <= value <= 1),
    "clip": ("at least 0", lambda value: finite(value) and value >= 0),
    "momentum": ("at least 0 and below 1", lambda value: finite(value) and 0 <= value < 1),
    "betas": ("two numbers, at least 0 and below 1", lambda value: len(value) == 2 and all(finite(one) and 0 <= one < 1 for one in value)),
}
"""Fields of the training recipe: what a value must be, in words and as a function."""


def whole(value: object) -> bool:
    """Whether a value is a whole number; True and False are none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def finite(value: object) -> bool:
    """Whether a value is a number, not infinite and not NaN."""
    return isinstance(value, Real) and not isinstance(value, bool) and isfinite(value)


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
            UsageError: a number is not one, too small or too large; the precision or a field of the training recipe does not exist.
        """
        for name in (*WHOLE, "epochs", "minutes"):
            value, wanted = getattr(self, name), "a whole number" if name in WHOLE else "a finite number"
            if value is not None and not (whole(value) if name in WHOLE else finite(value)):
                raise UsageError(f"{name} is {value!r}, and must be {wanted}.", f"Set it with --{name.replace('_', '-')}, or omit it.")
        for name, least in LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise UsageError(
                    f"{name} is {value:g}, and must be at least {least}.", f"Set it with --{name.replace('_', '-')}, or omit it."
                )
        for name, most in MOST.items():
            if (getattr(self, name) or 0) > most:
                raise UsageError(
                    f"{name} is {getattr(self, name)}, and must be at most {most}.", f"Set it with --{name.replace('_', '-')}, or omit it."
                )
        self._check_recipe()
        if self.minutes is not None and self.minutes <= 0:
            raise UsageError(f"{self.minutes:g} minutes are no time to train.", "Set --minutes above 0; --epochs 0 makes an untrained run.")
        if self.precision not in PRECISIONS:
            raise UsageError(f"There is no precision {self.precision!r}.", f"Choose one of {', '.join(PRECISIONS)}.")

    def _check_recipe(self) -> None:
        for name, value in (self.training or {}).items():
            words, fits = RECIPE[look_up("option", name, RECIPE)]
            try:
                good = fits(value)
            except TypeError:
                good = False
            if not good:
                raise UsageError(f"training.{name} is {value!r}, and must be {words}.", f"Set it with --training.{name}, or omit it.")
