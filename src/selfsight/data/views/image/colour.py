"""Colour augmentation: composed into one matrix per image, or step by step with torchvision's clamping.

Brightness, contrast, saturation, hue (as a rotation about the grey axis) and greyscale are affine in colour. Contrast moves colours away
from the mean grey of the image at that point of the chain, which is affine in the mean colour m of the view. So the chain is
``x -> M x + P m`` with two 3 x 3 matrices per image that are known before any pixel is processed. Pixels are clamped to [0, 1] once, at
the end.

torchvision clamps after every step and shifts hue in HSV, which maps primary and secondary colours to each other but does not rotate those
in between. Each function alone agrees with torchvision's to 1e-5 (hue: in the ``exact`` form); the composed chain does not. Differences
from the exact chain on photographs, values in [0, 1], always jittered:

======================  =====  =======  =========
jitter                  mean   largest  over 0.01
======================  =====  =======  =========
.4 .4 .4, hue .1        0.025  0.35     59 %
.4 .4 .4, no hue        0.001  0.16     3 %
.8 .8 .8, hue .2        0.029  0.87     54 %
.8 .8 .8, no hue        0.006  0.56     11 %
======================  =====  =======  =========

Nearly all of the difference is due to hue; the rest are values that torchvision clamps at an intermediate step.
"""

from dataclasses import dataclass
from math import pi, sqrt

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from selfsight.data.views.keyed_random import KeyedRandom

__all__ = ["Chain", "Jitter", "adjust", "chain", "exact_chain", "solarised"]

_GREY = (0.2989, 0.587, 0.114)
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)


@dataclass(frozen=True)
class Jitter:
    """Random brightness, contrast, saturation and hue, in random order, as torchvision's ``ColorJitter``.

    Attributes:
        brightness: the factor is uniform in ``1 - value`` to ``1 + value`` (not below 0).
        contrast: as for brightness.
        saturation: as for brightness.
        hue: the shift is uniform in ``-hue`` to ``hue`` of the full circle; at most 0.5.
        p: probability that an image is changed.
        exact: clamp after each step and shift hue in HSV, as torchvision does; slower.
    """

    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    p: float = 0.8
    exact: bool = False

    def draw(self, random: KeyedRandom) -> dict[str, Tensor]:
        """``factors`` (N, 4; 1, 1, 1, 0 for no change) and ``order`` (N, 4)."""
        spread = torch.tensor([self.brightness, self.contrast, self.saturation, self.hue])
        centre = torch.tensor([1.0, 1.0, 1.0, 0.0])
        low = torch.where(centre > 0, (centre - spread).clamp(min=0), -spread)
        factors = low + (centre + spread - low) * random.at(1).uniform(4)
        changed = random.at(2).uniform(1) < self.p
        return {"factors": torch.where(changed, factors, centre), "order": random.at(3).uniform(4).argsort(1)}


@dataclass(frozen=True)
class Chain:
    """Composed colour change of each image of a batch: ``x -> matrix @ x + pull @ mean(x) + shift``.

    Attributes:
        matrix: (N, C, C).
        pull: (N, C, C).
        shift: (N, C).
    """

    matrix: Float[Tensor, "batch channel channel"]
    pull: Float[Tensor, "batch channel channel"]
    shift: Float[Tensor, "batch channel"]

    def affine(self, mean: Float[Tensor, "batch channel"]) -> Float[Tensor, "batch channel channel+1"]:
        """Matrix and offset for views with this mean colour."""
        return torch.cat([self.matrix, self.pull @ mean[..., None] + self.shift[..., None]], 2)

    def inverted(self, chosen: Bool[Tensor, " batch"]) -> "Chain":
        """The chain followed by inversion, ``x -> 1 - x``, for the chosen images."""
        sign = torch.where(chosen, -1.0, 1.0)
        return Chain(self.matrix * sign[:, None, None], self.pull * sign[:, None, None], self.shift * sign[:, None] + chosen[:, None])


def _grey(channels: int, device: torch.device) -> Float[Tensor, " channel"]:
    return torch.tensor(_GREY, device=device) if channels == 3 else torch.full((channels,), 1 / channels, device=device)


def _hue_turn(turn: Float[Tensor, " batch"]) -> Float[Tensor, "batch 3 3"]:
    """Rotation about the axis (1, 1, 1) by ``turn`` of the circle (Rodrigues)."""
    cosine, sine = torch.cos(2 * pi * turn)[:, None, None], torch.sin(2 * pi * turn)[:, None, None]
    across = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]], device=turn.device) / sqrt(3)
    return cosine * torch.eye(3, device=turn.device) + sine * across + (1 - cosine) / 3


def chain(
    factors: Float[Tensor, "batch 4"] | None,
    order: Int[Tensor, "batch 4"] | None,
    grey: Bool[Tensor, " batch"] | None,
    channels: int = 3,
) -> Chain:
    """Compose a colour chain into matrices.

    Args:
        factors: (N, 4), of brightness, contrast, saturation and hue; None: no jitter.
        order: order (N, 4) in which the factors are applied.
        grey: whether an image is converted to greyscale at the end (N,).
        channels: number of channels of the images; saturation, hue and grey have no effect unless there are three.
    """
    present = factors if factors is not None else grey
    assert present is not None, "a colour chain needs factors or grey"
    n, device = len(present), present.device
    weights = _grey(channels, device).expand(channels, channels)  # each row gives the grey value of a colour
    identity = torch.eye(channels, device=device)
    matrix, pull = identity.expand(n, -1, -1), torch.zeros(n, channels, channels, device=device)
    if factors is not None and order is not None:
        ratio = factors[..., None, None]
        steps = (ratio * identity)[:, :3].expand(n, 3, channels, channels).clone()
        if channels == 3:
            steps[:, SATURATION] += (1 - ratio[:, SATURATION]) * weights
            steps = torch.cat([steps, _hue_turn(factors[:, HUE])[:, None]], 1)
        else:
            steps = torch.cat([steps[:, :2], identity.expand(n, 2, -1, -1)], 1)
        steps = steps.gather(1, order[..., None, None].expand(n, 4, channels, channels))
        contrast_part = ((1 - factors[:, CONTRAST, None]) * (order == CONTRAST))[..., None, None]
        for at in range(4):
            mean_grey = weights @ (matrix + pull)
            matrix, pull = steps[:, at] @ matrix, steps[:, at] @ pull + contrast_part[:, at] * mean_grey
    if grey is not None and channels == 3:
        last = torch.where(grey[:, None, None], weights, identity)
        matrix, pull = last @ matrix, last @ pull
    return Chain(matrix, pull, matrix.new_zeros(n, channels))


def _lightness(images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 1 height width"]:
    red, green, blue = images.split(1, 1)
    return _GREY[0] * red + _GREY[1] * green + _GREY[2] * blue


def adjust(
    images: Float[Tensor, "batch 3 height width"], what: int, factor: Float[Tensor, " batch"]
) -> Float[Tensor, "batch 3 height width"]:
    """One of torchvision's colour functions, with one factor per image; clamped to [0, 1].

    Args:
        images: (N, 3, H, W) in [0, 1].
        what: 0 brightness, 1 contrast, 2 saturation, 3 hue (in HSV).
        factor: (N,); for hue the shift as a fraction of the circle.
    """
    if what == HUE:
        return _turned_hue(images, factor)
    ratio = factor[:, None, None, None]
    if what == BRIGHTNESS:
        return (images * ratio).clamp_(0, 1)
    grey = _lightness(images)
    other = grey.mean((2, 3), keepdim=True) if what == CONTRAST else grey
    return (ratio * images + (1 - ratio) * other).clamp_(0, 1)


def _turned_hue(images: Float[Tensor, "batch 3 height width"], turn: Float[Tensor, " batch"]) -> Float[Tensor, "batch 3 height width"]:
    """Hue shifted in HSV, in the closed form ``f(n) = V - V S max(0, min(k, 4 - k, 1))``, ``k = (n + 6 H) mod 6``."""
    red, green, blue = images.unbind(1)
    value, low = images.amax(1), images.amin(1)
    range_ = value - low
    safe = torch.where(range_ == 0, 1.0, range_)
    sixth = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    sixth = torch.where(range_ == 0, 0.0, sixth) + 6 * turn[:, None, None]
    start = torch.tensor([5.0, 3.0, 1.0], device=images.device)[:, None, None]
    k = torch.remainder(sixth[:, None] + start, 6.0)
    return value[:, None] - range_[:, None] * torch.minimum(k, 4 - k).clamp_(0, 1)


def exact_chain(
    images: Float[Tensor, "batch 3 height width"],
    factors: Float[Tensor, "batch 4"],
    order: Int[Tensor, "batch 4"],
    grey: Bool[Tensor, " batch"] | None,
) -> Float[Tensor, "batch 3 height width"]:
    """The operations of ``chain`` step by step, with torchvision's clamping and hue.

    Args:
        images: (N, 3, H, W) in [0, 1].
        factors: (N, 4), of brightness, contrast, saturation and hue.
        order: order (N, 4) in which the factors are applied.
        grey: whether an image is converted to greyscale at the end (N,); None: none.
    """
    images = images.clone()
    for at in range(4):
        for what in range(4):
            rows = torch.nonzero((order[:, at] == what) & (factors[:, what] != (what != HUE)))[:, 0]
            if len(rows):
                images[rows] = adjust(images[rows], what, factors[rows, what])
    if grey is not None and grey.any():
        images[grey] = _lightness(images[grey]).expand(-1, 3, -1, -1)
    return images


def solarised(
    images: Float[Tensor, "batch channel height width"],
    chosen: Bool[Tensor, " batch"],
    low: Float[Tensor, " channel"],
    high: Float[Tensor, " channel"],
) -> Float[Tensor, "batch channel height width"]:
    """Solarisation of the chosen images, in place: values above the middle of their range are mirrored about it.

    Args:
        images: (N, C, H, W).
        chosen: mask (N,).
        low: smallest value (C,) of each channel.
        high: largest value (C,) of each channel.
    """
    rows = torch.nonzero(chosen)[:, 0]
    if len(rows):
        middle = ((low + high) / 2)[:, None, None]
        part = images[rows]
        images[rows] = torch.where(part >= middle, 2 * middle - part, part)
    return images
