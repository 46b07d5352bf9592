"""Views of sounds as log-mel spectrograms: a window in time, a gain, and masked times and frequencies."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from selfsight.core.clock import Clock
from selfsight.core.method import Drawn, Frame
from selfsight.core.views import Images, Views
from selfsight.data.views.image.geometry import Normalise
from selfsight.data.views.keyed_random import KeyedRandom
from selfsight.data.views.pairs import draw_views, make_pair

__all__ = ["SoundView", "TwoSounds"]


_AS_IS = Normalise((0.0,), (1.0,))


@dataclass(frozen=True)
class SoundView:
    """Augmentation of one view of a log-mel spectrogram (masks: SpecAugment, Park et al. 2019, arXiv:1904.08779).

    Attributes:
        gain: standard deviation of a constant that is added to the logarithms.
        time: longest masked span of time, as a fraction of the window.
        mel: widest masked band of frequencies, as a fraction of the bins.
    """

    gain: float = 0.5
    time: float = 0.2
    mel: float = 0.2

    def draw(self, random: KeyedRandom) -> dict[str, Tensor]:
        """Random parameters for a global batch, one row per sound."""
        return {"start": random.at(1).uniform(), "gain": random.at(2).normal() * self.gain, "masks": random.at(3).uniform(4)}

    def make(self, images: Images, drawn: Mapping[str, Tensor], size: int) -> Float[Tensor, "batch channel mel time2"]:
        """Windows of sounds; masked values are the mean of the window.

        Args:
            images: log-mel spectrograms (N, C, mel, time).
            drawn: parameters from ``draw``.
            size: time steps of the window; all if the sound has no more.
        """
        sounds = images.pixels.float()
        batch, _, bins, steps = sounds.shape
        length = min(size, steps)
        first = (drawn["start"] * (steps - length + 1)).long()
        times = first[:, None] + torch.arange(length, device=sounds.device)
        window = sounds.gather(3, times[:, None, None, :].expand(batch, sounds.shape[1], bins, length))
        window = window + drawn["gain"][:, None, None, None]
        wide, left, tall, low = drawn["masks"].unbind(1)
        hidden = _span(wide * self.time, left, length)[:, None, None, :] | _span(tall * self.mel, low, bins)[:, None, :, None]
        return torch.where(hidden, window.mean((1, 2, 3), keepdim=True), window)


def _span(part: Float[Tensor, " batch"], place: Float[Tensor, " batch"], length: int) -> Bool[Tensor, "batch length"]:
    """Which of ``length`` cells lie in a span of a fraction ``part`` of them, at a place in [0, 1)."""
    count = (part * length).floor()
    first = (place * (length - count + 1)).floor()
    cells = torch.arange(length, device=part.device)
    return (cells >= first[:, None]) & (cells < (first + count)[:, None])


@dataclass(frozen=True)
class TwoSounds:
    """Two views of each sound.

    Attributes:
        first: augmentation of the first view.
        second: augmentation of the second view.
        normalise: mean and standard deviation of the logarithms.
    """

    first: SoundView = SoundView()
    second: SoundView = SoundView()
    normalise: Normalise = _AS_IS

    def draw(self, n: int, clock: Clock, frame: Frame) -> Drawn:
        return Drawn(draw_views((self.first, self.second), n, clock), frame)

    def make(self, images: Images, drawn: Drawn) -> Views:
        return make_pair((self.first, self.second), images, drawn, self.normalise)
