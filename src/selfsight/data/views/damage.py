"""Damage that is to be undone."""

from dataclasses import dataclass

import torch
from torch import Tensor

from selfsight.core.clock import Clock
from selfsight.core.method import Drawn, Frame
from selfsight.core.views import Images, Views
from selfsight.data.views.chance import Dice
from selfsight.data.views.geometry import Normalise
from selfsight.data.views.recipes import PLAIN, View

__all__ = ["SYMMETRIC", "Noisy"]

_DAMAGE = 30
SYMMETRIC = Normalise((0.5,) * 3, (0.5,) * 3)
"""Values in [-1, 1]."""


@dataclass(frozen=True)
class Noisy:
    """A view, and the same view under Gaussian noise (Vincent et al. 2008).

    Views: two large ones, the damaged first. Hints: ``crop``, ``flip``, ``colour``, with one entry.

    Attributes:
        deviation: of the noise, in units of the normalised pixels; 0: both views are the same.
    """

    view: View = PLAIN
    deviation: float = 0.5
    normalise: Normalise = SYMMETRIC

    def draw(self, n: int, clock: Clock, frame: Frame) -> Drawn:
        """The parameters of the view, and the noise."""
        dice = Dice(n, clock, (0,))
        values = self.view.draw(dice)
        if self.deviation:
            values["damage"] = dice.at(_DAMAGE).normal(frame.channels, frame.size, frame.size)
        return Drawn(values, frame)

    def make(self, images: Images, drawn: Drawn) -> Views:
        """Damaged and clean."""
        values = dict(drawn.values)
        damage: Tensor | None = values.pop("damage", None)
        clean, hints = self.view.make(images, values, drawn.frame.size, self.normalise)
        noisy = clean if damage is None else torch.add(clean, damage.to(clean), alpha=self.deviation)
        return Views((noisy, clean), index=images.index, hints={name: value[:, None] for name, value in hints.items()})
