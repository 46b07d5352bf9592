"""Corrupted views for denoising, inpainting and reconstruction."""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from selfsight.core.clock import Clock
from selfsight.core.method import Drawn, Frame
from selfsight.core.views import Images, Views
from selfsight.data.views.image.geometry import Crop, Normalise
from selfsight.data.views.image.masks import Blocks, Mask, cut_out
from selfsight.data.views.image.recipes import PLAIN, SIMCLR_SMALL, OneCrop, TwoCrops, View
from selfsight.data.views.keyed_random import KeyedRandom

__all__ = ["SYMMETRIC", "Holed", "Noisy", "Scrambled", "full_image_with_noise"]

_DAMAGE = 30
_MOST = Blocks(0.5, 0.7)
SYMMETRIC = Normalise((0.5,) * 3, (0.5,) * 3)
"""Values in [-1, 1]."""


def full_image_with_noise(noise: int) -> OneCrop:
    """The full image with values in [-1, 1], and a noise vector of length ``noise``: input of generative methods."""
    return OneCrop(View(Crop((1.0, 1.0), (1.0, 1.0)), flip=0.0), noise=noise, normalise=SYMMETRIC)


@dataclass(frozen=True)
class Noisy:
    """A view with Gaussian noise and the clean view (denoising autoencoder, Vincent et al. 2008).

    Views: two large ones, the corrupted first. Hints: ``crop``, ``flip``, ``colour``, with one entry.

    Attributes:
        view: augmentation.
        deviation: standard deviation of the noise, in units of the normalised pixels; 0: both views are equal.
        normalise: mean and standard deviation of the pixels.
    """

    view: View = PLAIN
    deviation: float = 0.5
    normalise: Normalise = SYMMETRIC

    def draw(self, n: int, clock: Clock, frame: Frame) -> Drawn:
        random = KeyedRandom(n, clock, (0,))
        values = self.view.draw(random)
        if self.deviation:
            values["damage"] = random.at(_DAMAGE).normal(frame.channels, frame.size, frame.size)
        return Drawn(values, frame)

    def make(self, images: Images, drawn: Drawn) -> Views:
        values = dict(drawn.values)
        damage: Tensor | None = values.pop("damage", None)
        clean, hints = self.view.make(images, values, drawn.frame.size, self.normalise)
        noisy = clean if damage is None else torch.add(clean, damage.to(clean), alpha=self.deviation)
        return Views((noisy, clean), index=images.index, hints={name: value[:, None] for name, value in hints.items()})


@dataclass(frozen=True)
class Holed:
    """A view with a square hole and the intact view (context encoder, Pathak et al. 2016, arXiv:1604.07379).

    Views: two large ones, the corrupted first; the hole has the mean colour. Hints: ``hole`` (N, 1, 4; left, top, right, bottom as
    fractions of the view), ``crop``, ``flip``, ``colour``.

    Attributes:
        view: augmentation.
        side: side of the hole as a fraction of the view's.
        anywhere: whether the hole has a random position instead of the centre.
        normalise: mean and standard deviation of the pixels.
    """

    view: View = PLAIN
    side: float = 0.5
    anywhere: bool = False
    normalise: Normalise = SYMMETRIC

    def draw(self, n: int, clock: Clock, frame: Frame) -> Drawn:
        random = KeyedRandom(n, clock, (0,))
        corner = random.at(_DAMAGE).uniform(2) if self.anywhere else torch.full((n, 2), 0.5)
        corner = corner * (1 - self.side)
        return Drawn(self.view.draw(random) | {"hole": torch.cat([corner, corner + self.side], 1)}, frame)

    def make(self, images: Images, drawn: Drawn) -> Views:
        values = dict(drawn.values)
        hole = values.pop("hole").to(images.pixels.device)
        clean, hints = self.view.make(images, values, drawn.frame.size, self.normalise)
        all_hints = {name: value[:, None] for name, value in (hints | {"hole": hole}).items()}
        return Views((cut_out(clean, hole), clean), index=images.index, hints=all_hints)


@dataclass(frozen=True)
class Scrambled:
    """Two views in which patches are replaced by noise, and the two intact views (SiT, Atito et al. 2021, arXiv:2104.03602).

    Views: four large ones, the corrupted pair first. Hints: ``mask`` (N, 2, patches; true for noise), ``quarters`` and the others of
    ``TwoCrops``.

    Attributes:
        crops: recipe of the two views; ``quarters`` is the number of right angles that they are rotated by.
        mask: distribution of the replaced patches.
        deviation: standard deviation of the noise, in units of the normalised pixels.
    """

    crops: TwoCrops = field(default_factory=lambda: TwoCrops(replace(SIMCLR_SMALL, turn=0.75), replace(SIMCLR_SMALL, turn=0.75)))
    mask: Mask = _MOST
    deviation: float = 1.0

    @property
    def normalise(self) -> Normalise:
        """Normalisation of the views."""
        return self.crops.normalise

    def draw(self, n: int, clock: Clock, frame: Frame) -> Drawn:
        drawn, cells = self.crops.draw(n, clock, frame), frame.size // frame.stride
        generators = [KeyedRandom(n, clock, (view, _DAMAGE)) for view in range(2)]
        hidden = torch.stack([self.mask.draw(random, cells) for random in generators], 1)
        noise = torch.stack([random.at(1).normal(frame.channels, frame.size, frame.size) for random in generators], 1)
        return Drawn({**drawn.values, "mask": hidden, "damage": noise}, frame)

    def make(self, images: Images, drawn: Drawn) -> Views:
        values = dict(drawn.values)
        device, cells = images.pixels.device, drawn.frame.size // drawn.frame.stride
        hidden, noise = values.pop("mask").to(device), values.pop("damage").to(device)
        made = self.crops.make(images, Drawn(values, drawn.frame))
        squares = hidden.unflatten(2, (cells, cells)).repeat_interleave(drawn.frame.stride, 2).repeat_interleave(drawn.frame.stride, 3)
        damaged = [
            torch.where(squares[:, view, None], self.deviation * noise[:, view].to(clean), clean) for view, clean in enumerate(made.large)
        ]
        return replace(made, large=(*damaged, *made.large), hints={**made.hints, "mask": hidden})
