"""Schedules: values that depend on the progress of a run, as frozen dataclasses that can be saved and compared."""

from dataclasses import dataclass
from math import cos, pi

from selfsight.core.clock import Clock
from selfsight.core.errors import UsageError

__all__ = ["Constant", "Cosine", "Schedule", "Steps", "Warmup", "falls_due", "parse_schedule", "rise_and_fall"]


@dataclass(frozen=True)
class Constant:
    """A constant value."""

    value: float

    def __call__(self, clock: Clock) -> float:  # noqa: ARG002
        return self.value

    def __str__(self) -> str:
        return f"{self.value:g}"


@dataclass(frozen=True)
class Cosine:
    """Half a cosine wave from ``start`` to ``end`` over the run: ``end + (start - end) (1 + cos(pi p)) / 2``."""

    start: float
    end: float

    def __call__(self, clock: Clock) -> float:
        return self.end + (self.start - self.end) * (1 + cos(pi * clock.progress)) / 2

    def __str__(self) -> str:
        return f"{self.start:g}..{self.end:g}"


@dataclass(frozen=True)
class Warmup:
    """Linear from ``start`` to ``end`` over the first ``until`` of the run (a fraction), then ``end``."""

    start: float
    end: float
    until: float = 0.1

    def __call__(self, clock: Clock) -> float:
        return self.start + (self.end - self.start) * min(clock.progress / self.until, 1.0) if self.until else self.end

    def __str__(self) -> str:
        return f"{self.start:g}..{self.end:g} in {self.until:g}"


@dataclass(frozen=True)
class Steps:
    """Piecewise constant: ``values[i]`` from the fraction ``at[i - 1]`` of the run on; one value more than fractions."""

    values: tuple[float, ...]
    at: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.values) != len(self.at) + 1:
            raise UsageError(
                f"A step schedule with {len(self.values)} values needs {len(self.values) - 1} fractions, not {len(self.at)}.",
                "Use one fraction of the run for each change of value.",
            )

    def __call__(self, clock: Clock) -> float:
        return self.values[sum(clock.progress >= fraction for fraction in self.at)]

    def __str__(self) -> str:
        return ", ".join(f"{value:g}" for value in self.values)


Schedule = Constant | Cosine | Warmup | Steps


def rise_and_fall(step: int, steps: int, warmup: float = 0.1, final: float = 0.0) -> float:
    """Learning rate as a fraction of its maximum: linear warm-up, then cosine decay.

    Args:
        step: from 0.
        steps: number of steps of the run.
        warmup: fraction of the steps.
        final: value at the end.
    """
    warm = round(warmup * steps)
    if step < warm:
        return (step + 1) / warm
    return final + (1 - final) * (1 + cos(pi * (step - warm) / max(steps - warm, 1))) / 2


def falls_due(clock: Clock, times: int) -> bool:
    """Whether this is one of the steps ``(i / times)² steps``, which get sparser during the run; the first step is one.

    Args:
        clock: position of the run.
        times: number of such steps.
    """
    now, before = (int(times * (step / clock.steps) ** 0.5) for step in (clock.step, max(clock.step - 1, 0)))
    return clock.step == 0 or now > before


def parse_schedule(text: str) -> Schedule:
    """Parse a schedule: ``0.99`` is constant, ``0.996..1.0`` a cosine.

    Raises:
        UsageError: the text is neither.
    """
    try:
        numbers = [float(part) for part in text.split("..")]
    except ValueError:
        numbers = []
    if len(numbers) == 1:
        return Constant(numbers[0])
    if len(numbers) == 2:
        return Cosine(numbers[0], numbers[1])
    raise UsageError(f"{text!r} is not a schedule.", "Write a number (0.99) or a start and an end (0.996..1.0).")
