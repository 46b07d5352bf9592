"""Position of a run in time, and seeds of random numbers."""

from dataclasses import dataclass, replace

__all__ = ["Clock", "key"]

_WORD = (1 << 64) - 1


def key(seed: int, *parts: int) -> int:
    """A seed for a generator, as a pure function of its arguments: SplitMix64 over the parts (Steele et al. 2014).

    Random numbers are generated where they are needed from ``key(seed, step)``, so that no generator state has to be saved and a resumed
    run draws the same numbers as an uninterrupted one.

    Args:
        seed: seed of the run.
        *parts: identify the use, such as the step.
    """
    state = seed & _WORD
    for part in (0x5EED, *parts):
        state = (state ^ (part & _WORD)) + 0x9E3779B97F4A7C15 & _WORD
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & _WORD
        state = (state ^ state >> 27) * 0x94D049BB133111EB & _WORD
        state ^= state >> 31
    return state >> 1  # torch and numpy both take a non-negative 63-bit seed


@dataclass(frozen=True)
class Clock:
    """Position of a run. It has no generator: generators are created where they are used, from ``key(seed, step)``.

    Attributes:
        seed: seed of the run.
        step: optimiser steps done before this one, from 0.
        steps: optimiser steps of the run.
        steps_per_epoch: optimiser steps per pass over the data.
        turn: name of the turn, for methods with several optimisation turns per step; otherwise empty.
    """

    seed: int = 0
    step: int = 0
    steps: int = 1
    steps_per_epoch: int = 1
    turn: str = ""

    @property
    def epoch(self) -> int:
        """Number of the pass over the data, from 0."""
        return self.step // self.steps_per_epoch

    @property
    def progress(self) -> float:
        """Completed fraction of the run, from 0 to 1."""
        return min(self.step / max(self.steps, 1), 1.0)

    @property
    def starts_epoch(self) -> bool:
        """Whether this step is the first of its epoch."""
        return self.step % self.steps_per_epoch == 0

    def at(self, turn: str) -> "Clock":
        """The same position, in a turn."""
        return self if turn == self.turn else replace(self, turn=turn)
