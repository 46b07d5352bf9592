"""Masks of patches, and rectangles of pixels."""

from dataclasses import dataclass
from math import log

import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor

from selfsight.data.views.keyed_random import KeyedRandom

__all__ = ["Blocks", "CutOut", "Mask", "RandomPatches", "cut_out", "inside"]


@dataclass(frozen=True)
class RandomPatches:
    """Masks a fixed fraction of the patches at random (MAE, He et al. 2021, arXiv:2111.06377).

    Attributes:
        ratio: fraction of masked patches.
    """

    ratio: float = 0.75

    def draw(self, random: KeyedRandom, side: int) -> Bool[Tensor, "batch patches"]:
        """Mask (N, side²), True for masked patches, in raster order; every image has equally many.

        Args:
            random: random numbers.
            side: patches per side.
        """
        rank = random.at(1).uniform(side * side).argsort(1).argsort(1)
        return rank < round(self.ratio * side * side)


@dataclass(frozen=True)
class Blocks:
    """Masks rectangles of patches until the target fraction is reached (BEiT, Bao et al. 2021, arXiv:2106.08254).

    Attributes:
        low: minimum of the masked fraction.
        high: maximum of the masked fraction; it is uniform between the two. If equal, every image has equally many masked patches.
        smallest: minimum number of patches per rectangle.
        aspect: the ratio of height to width is log-uniform between this and its inverse.
        p: probability that an image is masked (iBOT, Zhou et al. 2021, arXiv:2111.07832: 0.5).
    """

    low: float = 0.4
    high: float = 0.4
    smallest: int = 4
    aspect: float = 0.3
    p: float = 1.0

    def draw(self, random: KeyedRandom, side: int) -> Bool[Tensor, "batch patches"]:
        """Mask (N, side²), True for masked patches, in raster order; single patches are added or removed to meet the fraction exactly.

        Args:
            random: random numbers.
            side: patches per side.
        """
        target = (random.at(1).uniform(low=self.low, high=self.high) * side * side).round()
        target = torch.where(random.at(2).uniform() < self.p, target, 0.0)
        tie = random.at(3).uniform(side * side)
        tries = 16
        shape, place = random.at(4).uniform(tries, 2), random.at(5).uniform(tries, 2)
        rank = torch.full((random.n, side * side), float(tries))  # number of the first block that covers a patch
        line = torch.arange(side)
        for number in range(tries):
            hidden = (rank < tries).sum(1)
            left = (target - hidden).clamp(min=self.smallest)
            area = self.smallest + (left - self.smallest) * shape[:, number, 0]
            ratio = torch.exp(log(self.aspect) * (2 * shape[:, number, 1] - 1)).sqrt()
            size = torch.stack([area.sqrt() * ratio, area.sqrt() / ratio], 1).round().clamp(1, side)
            start = (place[:, number] * (side - size + 1)).floor()
            inside = (line >= start[..., None]) & (line < (start + size)[..., None])
            block = (inside[:, 0, :, None] & inside[:, 1, None, :]).flatten(1)
            rank = torch.where(block & (rank == tries) & (hidden < target)[:, None], float(number), rank)
        return (rank + tie).argsort(1).argsort(1) < target[:, None]


Mask = RandomPatches | Blocks


@dataclass(frozen=True)
class CutOut:
    """Fills one square with the mean colour (DeVries and Taylor 2017, arXiv:1708.04552).

    Attributes:
        side: side of the square as a fraction of the view's.
        p: probability that an image is changed.
    """

    side: float = 0.25
    p: float = 0.5

    def draw(self, random: KeyedRandom) -> dict[str, Tensor]:
        """``cut`` (N, 4): left, top, right, bottom as fractions of the view, clipped at its border; an empty box for unchanged images."""
        centre = random.at(1).uniform(2)
        box = torch.cat([centre - self.side / 2, centre + self.side / 2], 1).clamp(0, 1)
        return {"cut": torch.where(random.at(2).uniform(1) < self.p, box, 0.0)}


def inside(images: Num[Tensor, "batch channel height width"], boxes: Float[Tensor, "batch 4"]) -> Bool[Tensor, "batch 1 height width"]:
    """Mask of the pixels whose centre lies in a rectangle.

    Args:
        images: (N, C, H, W), of which only the shape is used.
        boxes: left, top, right, bottom (N, 4) as fractions of the image.

    Returns:
        (N, 1, H, W).
    """
    height, width = images.shape[2:]
    across = (torch.arange(width, device=images.device) + 0.5) / width
    down = (torch.arange(height, device=images.device) + 0.5) / height
    left, top, right, bottom = boxes[..., None].unbind(1)
    return (((down >= top) & (down < bottom))[:, :, None] & ((across >= left) & (across < right))[:, None, :])[:, None]


def cut_out(
    images: Num[Tensor, "batch channel height width"], boxes: Float[Tensor, "batch 4"], fill: float = 0.0
) -> Num[Tensor, "batch channel height width"]:
    """Images with one rectangle filled.

    Args:
        images: (N, C, H, W).
        boxes: left, top, right, bottom (N, 4) as fractions of the image.
        fill: value of the filled pixels.
    """
    return images.masked_fill(inside(images, boxes), fill)
