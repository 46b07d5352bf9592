"""Views of clips: a window of frames, one crop and flip for all of them, one change of brightness and contrast."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from selfsight.core.clock import Clock
from selfsight.core.method import Drawn, Frame
from selfsight.core.views import Images, Views
from selfsight.data.views.image.geometry import IMAGENET, Crop, CropGeometry, Normalise, resample
from selfsight.data.views.keyed_random import KeyedRandom
from selfsight.data.views.pairs import draw_views, make_pair

__all__ = ["ClipView", "TwoClips"]


_CROP = Crop((0.3, 1.0))


@dataclass(frozen=True)
class ClipView:
    """Augmentation of one view of a clip, the same for all of its frames (Qian et al. 2020, arXiv:2008.03800).

    Attributes:
        frames: frames of a view; all if the clip has no more.
        crop: random resized crop.
        flip: probability of a horizontal flip.
        light: largest change of brightness and of contrast, as a fraction.
    """

    frames: int = 8
    crop: Crop = _CROP
    flip: float = 0.5
    light: float = 0.4

    def draw(self, random: KeyedRandom) -> dict[str, Tensor]:
        """Random parameters for a global batch, one row per clip."""
        light = random.at(4).uniform(2, low=1 - self.light, high=1 + self.light)
        return self.crop.draw(random.at(1)) | {"start": random.at(2).uniform(), "flip": random.at(3).uniform() < self.flip, "light": light}

    def make(self, images: Images, drawn: Mapping[str, Tensor], size: int) -> Float[Tensor, "batch channel time size size2"]:
        """Clips in [0, 1].

        Args:
            images: clips (N, C, T, H, W).
            drawn: parameters from ``draw``.
            size: side of the view in pixels.
        """
        pixels = images.pixels
        batch, channels, length, height, width = pixels.shape
        frames = min(self.frames, length)
        first = (drawn["start"] * (length - frames + 1)).long()
        rows = first[:, None] + torch.arange(frames, device=pixels.device)
        window = pixels[torch.arange(batch, device=pixels.device)[:, None], :, rows].transpose(1, 2)
        extent = images.extent if images.extent is not None else torch.tensor([height, width], device=pixels.device).expand(batch, 2)
        boxes = self.crop.boxes(drawn["area"], drawn["ratio"], drawn["place"], extent)
        views = resample(window.flatten(1, 2).contiguous(), CropGeometry(boxes, drawn["flip"]), size).unflatten(1, (channels, frames))
        views = views / (1 if pixels.is_floating_point() else 255)
        bright, contrast = (drawn["light"][:, number, None, None, None, None] for number in range(2))
        views = views * bright
        mean = views.mean((1, 2, 3, 4), keepdim=True)
        return (mean + (views - mean) * contrast).clamp(0, 1)


@dataclass(frozen=True)
class TwoClips:
    """Two views of each clip, with their own windows of frames, crops, flips and light.

    Attributes:
        first: augmentation of the first view.
        second: augmentation of the second view.
        normalise: mean and standard deviation of the pixels.
    """

    first: ClipView = ClipView()
    second: ClipView = ClipView()
    normalise: Normalise = IMAGENET

    def draw(self, n: int, clock: Clock, frame: Frame) -> Drawn:
        return Drawn(draw_views((self.first, self.second), n, clock), frame)

    def make(self, images: Images, drawn: Drawn) -> Views:
        return make_pair((self.first, self.second), images, drawn, self.normalise)
