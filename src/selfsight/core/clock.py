"""Time and chance: where a run stands, and the number from which its randomness is drawn."""

from dataclasses import dataclass, replace

__all__ = ["Clock", "key"]

_WORD = (1 << 64) - 1


def key(seed: int, *parts: int) -> int:
    """A seed for a generator, as a pure function of where it is used: SplitMix64 over the parts (Steele et al. 2014).

    Chance is made where it is needed from ``key(seed, step)``, so that nothing has to be saved
    and a resumed run draws what the uninterrupted one would have drawn.
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
    """Where a run stands. There is no generator here: generators are made where they are used, from ``key(seed, step)``.

    Attributes:
        seed: the run's seed.
        step: optimiser steps done before this one, from 0.
        steps: optimiser steps of the whole run.
        steps_per_epoch: optimiser steps in one pass over the data.
        turn: whose turn it is in a game between networks; empty when there is no game.
    """

    seed: int = 0
    step: int = 0
    steps: int = 1
    steps_per_epoch: int = 1
    turn: str = ""

    @property
    def epoch(self) -> int:
        """The pass over the data, from 0."""
        return self.step // self.steps_per_epoch

    @property
    def progress(self) -> float:
        """The fraction of the run that is done, from 0 to 1."""
        return min(self.step / max(self.steps, 1), 1.0)

    @property
    def starts_epoch(self) -> bool:
        """Whether this step is the first of its epoch."""
        return self.step % self.steps_per_epoch == 0

    def at(self, turn: str) -> "Clock":
        """The same moment, in a player's turn."""
        return self if turn == self.turn else replace(self, turn=turn)
