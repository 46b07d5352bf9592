"""Damage that is to be undone."""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from selfsight.core.clock import Clock
from selfsight.core.method import Drawn, Frame
from selfsight.core.views import Images, Views
from selfsight.data.views.chance import KeyedRandom
from selfsight.data.views.image.geometry import Crop, Normalise
from selfsight.data.views.image.masks import Blocks, Mask, cut_out
from selfsight.data.views.image.recipes import PLAIN, SIMCLR_SMALL, OneCrop, TwoCrops, View

__all__ = ["SYMMETRIC", "Holed", "Noisy", "Scrambled", "entire"]

_DAMAGE = 30
_MOST = Blocks(0.5, 0.7)
SYMMETRIC = Normalise((0.5,) * 3, (0.5,) * 3)
"""Values in [-1, 1]."""


def entire(noise: int) -> OneCrop:
    """The whole picture, its values in [-1, 1], and a code of so many numbers: what generators learn from."""
    return OneCrop(View(Crop((1.0, 1.0), (1.0, 1.0)), flip=0.0), noise=noise, normalise=SYMMETRIC)


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
        dice = KeyedRandom(n, clock, (0,))
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


@dataclass(frozen=True)
class Holed:
    """A view with a square hole, and the same view whole (Pathak et al. 2016, arXiv:1604.07379).

    Views: two large ones, the damaged first; the hole holds the mean colour. Hints: ``hole`` (batch x 1 x 4: left, top, right,
    bottom as fractions of the view), ``crop``, ``flip``, ``colour``.

    Attributes:
        side: of the hole, as a share of the view's.
        anywhere: the hole lies anywhere; if not, in the middle.
    """

    view: View = PLAIN
    side: float = 0.5
    anywhere: bool = False
    normalise: Normalise = SYMMETRIC

    def draw(self, n: int, clock: Clock, frame: Frame) -> Drawn:
        """The parameters of the view, and the place of the hole."""
        dice = KeyedRandom(n, clock, (0,))
        corner = dice.at(_DAMAGE).uniform(2) if self.anywhere else torch.full((n, 2), 0.5)
        corner = corner * (1 - self.side)
        return Drawn(self.view.draw(dice) | {"hole": torch.cat([corner, corner + self.side], 1)}, frame)

    def make(self, images: Images, drawn: Drawn) -> Views:
        """Damaged and clean."""
        values = dict(drawn.values)
        hole = values.pop("hole").to(images.pixels.device)
        clean, hints = self.view.make(images, values, drawn.frame.size, self.normalise)
        kept = {name: value[:, None] for name, value in (hints | {"hole": hole}).items()}
        return Views((cut_out(clean, hole), clean), index=images.index, hints=kept)


@dataclass(frozen=True)
class Scrambled:
    """Two views, patches of which are noise, and the same views whole (SiT, Atito et al. 2021, arXiv:2104.03602).

    Views: four large ones, the damaged pair first. Hints: ``mask`` (batch x 2 x patches, true where noise), ``quarters`` and the rest
    of ``TwoCrops``.

    Attributes:
        crops: how the views are made; turns by right angles are told by ``quarters``.
        mask: which patches are noise.
        deviation: of the noise, in units of the normalised pixels.
    """

    crops: TwoCrops = field(default_factory=lambda: TwoCrops(replace(SIMCLR_SMALL, turn=0.75), replace(SIMCLR_SMALL, turn=0.75)))
    mask: Mask = _MOST
    deviation: float = 1.0

    @property
    def normalise(self) -> Normalise:
        """That of the views."""
        return self.crops.normalise

    def draw(self, n: int, clock: Clock, frame: Frame) -> Drawn:
        """The parameters of the views, the masks, and the noise."""
        drawn, cells = self.crops.draw(n, clock, frame), frame.size // frame.stride
        dices = [KeyedRandom(n, clock, (view, _DAMAGE)) for view in range(2)]
        hidden = torch.stack([self.mask.draw(dice, cells) for dice in dices], 1)
        noise = torch.stack([dice.at(1).normal(frame.channels, frame.size, frame.size) for dice in dices], 1)
        return Drawn({**drawn.values, "mask": hidden, "damage": noise}, frame)

    def make(self, images: Images, drawn: Drawn) -> Views:
        """Damaged and clean."""
        values = dict(drawn.values)
        device, cells = images.pixels.device, drawn.frame.size // drawn.frame.stride
        hidden, noise = values.pop("mask").to(device), values.pop("damage").to(device)
        made = self.crops.make(images, Drawn(values, drawn.frame))
        squares = hidden.unflatten(2, (cells, cells)).repeat_interleave(drawn.frame.stride, 2).repeat_interleave(drawn.frame.stride, 3)
        damaged = [
            torch.where(squares[:, view, None], self.deviation * noise[:, view].to(clean), clean) for view, clean in enumerate(made.large)
        ]
        return replace(made, large=(*damaged, *made.large), hints={**made.hints, "mask": hidden})
