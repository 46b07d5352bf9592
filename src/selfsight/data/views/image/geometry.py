"""Crops, flips and scales as pairs of small matrices: ``output = rows @ image @ columns.T``.

A crop, flip, scale or translation is one axis-aligned affine map, and antialiased bilinear resampling under it is
separable: one weight matrix for the rows of an image and one for its columns. A Gaussian blur of the result folds into
them, ``(G @ rows) @ image @ (G @ columns).T``, its reflected border included.

There are two forms with the same result. *Dense*: batched products with whole matrices; for small images, and on
accelerators. *Banded*: a row of the matrix is zero outside a few neighbouring pixels, so blocks of 32 outputs are
multiplied with just the window of the image that they see; for larger views on CPUs, one image at a time in the cache.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor
from torch.nn.functional import interpolate

from selfsight.core.views import Images
from selfsight.data.views.chance import KeyedRandom
from selfsight.data.views.image import banded
from selfsight.data.views.image.memory import lend
from selfsight.data.views.image.weights import dense_weights

__all__ = [
    "IMAGENET",
    "Crop",
    "Finish",
    "Normalise",
    "Placing",
    "central_square",
    "extents",
    "relative",
    "resample",
    "resize_whole",
    "some_turned",
    "turned",
]

Finish = Callable[[Float[Tensor, "rows channel height width"], slice, Tensor | None], Tensor]
"""What is done to resampled rows while they are still in the cache: block, which rows, and where the result goes if not to new
memory."""

_BANDED_FROM = 64
_CHUNK = 1 << 18  # values worked on at once


@dataclass(frozen=True)
class Normalise:
    """Subtracts a mean and divides by a standard deviation, both for values in [0, 1] and one a channel.

    The default is that of ImageNet's training images. For images with another number of channels the averages are used.
    """

    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def tensors(self, channels: int, device: torch.device) -> tuple[Float[Tensor, " channel"], Float[Tensor, " channel"]]:
        """Mean and standard deviation for images with this many channels."""
        pair = torch.tensor([self.mean, self.std], device=device)
        if pair.shape[1] != channels:
            pair = pair.mean(1, keepdim=True).expand(2, channels)
        return pair[0], pair[1]


IMAGENET = Normalise()


@dataclass(frozen=True)
class Crop:
    """A random crop: its area is uniform in ``scale`` (fractions of the picture's), its ratio of width to height log-uniform.

    The distribution is that of torchvision's ``RandomResizedCrop`` (the crop of Szegedy et al. 2014, arXiv:1409.4842):
    ten tries, then the largest central crop whose ratio is allowed; whole pixels.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def draw(self, dice: KeyedRandom) -> dict[str, Tensor]:
        """``area`` and ``ratio`` (batch x 10 tries) and ``place`` (batch x 2), uniform in [0, 1)."""
        return {"area": dice.at(1).uniform(10), "ratio": dice.at(2).uniform(10), "place": dice.at(3).uniform(2)}

    def boxes(
        self,
        area: Float[Tensor, "batch tries"],
        ratio: Float[Tensor, "batch tries"],
        place: Float[Tensor, "batch 2"],
        extent: Num[Tensor, "batch 2"],
    ) -> Float[Tensor, "batch 4"]:
        """Left, top, width and height in pixels, inside pictures of this height and width."""
        height, width = extent.float().unbind(1)
        size = height * width
        low, high = self.scale
        target = (size[:, None] * (low + (high - low) * area)).sqrt()
        first, last = torch.tensor(self.ratio, dtype=torch.float64).log().tolist()
        aspect = (first + (last - first) * ratio).exp().sqrt()
        wide, tall = (target * aspect).round(), (target / aspect).round()
        fits = (wide > 0) & (tall > 0) & (wide <= width[:, None]) & (tall <= height[:, None])
        choice = fits.int().argmax(1, keepdim=True)
        wide, tall, fits = wide.gather(1, choice)[:, 0], tall.gather(1, choice)[:, 0], fits.gather(1, choice)[:, 0]
        widest = torch.minimum(width, (height * self.ratio[1]).round())
        tallest = torch.minimum(height, (width / self.ratio[0]).round())
        wide, tall = torch.where(fits, wide, widest), torch.where(fits, tall, tallest)
        spare = torch.stack([width - wide, height - tall], 1)
        inside = torch.minimum((place * (spare + 1)).floor(), spare)
        corner = torch.where(fits[:, None], inside, (spare / 2).floor())
        return torch.cat([corner, wide[:, None], tall[:, None]], 1)


@dataclass(frozen=True)
class Placing:
    """Which part of each picture a view shows, and how.

    Attributes:
        boxes: left, top, width and height in pixels of the picture.
        flip: whether left and right are exchanged.
        sigma: standard deviation of the Gaussian blur in pixels of the view; 0 where there is none.
        kernel: length of the blur's kernel in pixels of the view (odd); 1 blurs nothing.
    """

    boxes: Num[Tensor, "batch 4"]
    flip: Bool[Tensor, " batch"] | None = None
    sigma: Float[Tensor, " batch"] | None = None
    kernel: int = 1


def extents(images: Images) -> Int[Tensor, "batch 2"]:
    """True height and width of each picture in pixels."""
    if images.extent is not None:
        return images.extent.to(images.pixels.device)
    size = torch.tensor(images.pixels.shape[2:], device=images.pixels.device)
    return size.expand(len(images), 2)


def relative(boxes: Num[Tensor, "batch 4"], extent: Num[Tensor, "batch 2"]) -> Float[Tensor, "batch 4"]:
    """Left, top, right and bottom of boxes as fractions of the true picture."""
    size = extent.flip(1).float()
    corner = boxes[:, :2] / size
    return torch.cat([corner, corner + boxes[:, 2:] / size], 1)


def resample(
    pixels: Num[Tensor, "batch channel height width"], placing: Placing, size: int, finish: Finish | None = None
) -> Float[Tensor, "batch channel size size"]:
    """Square views of pictures, antialiased, in the units of ``pixels``.

    Equal to torchvision's ``resized_crop(antialias=True)`` for boxes of whole pixels, then its horizontal flip and
    ``gaussian_blur``. ``finish`` is applied to rows as soon as they are made; the memory of the rows it is given is used again.
    """
    finish = finish or _as_it_is
    small = size < _BANDED_FROM
    if len(pixels) == 0 or pixels.device.type != "cpu" or (small and torch.compiler.is_compiling()):
        return finish(_dense(pixels, placing, size, slice(None), None), slice(None), None)
    if not small:
        banded_form: Any = banded.resample
        if torch.compiler.is_compiling():  # not a decorator: that would load the compiler at every start, which takes seconds
            banded_form = torch.compiler.disable(banded_form)
        return banded_form(pixels, placing.boxes, placing.flip, placing.sigma, placing.kernel, size, finish)
    n, channels, height, width = pixels.shape
    made = lend(n, channels, size, size)
    step = max(1, _CHUNK // (channels * max(size * size, height * width)))
    pieces = min(n, step)
    shapes = (channels, height, width), (channels, height, size), (channels, size, height), (channels, size, size)
    desk = [lend(pieces, *shape) for shape in shapes]
    for start in range(0, n, step):
        rows = slice(start, min(start + step, n))
        part = _dense(pixels[rows], placing, size, rows, [piece[: rows.stop - start] for piece in desk])
        finish(part, rows, made[rows])
    return made


def _as_it_is(block: Tensor, rows: slice, out: Tensor | None) -> Tensor:  # noqa: ARG001
    return block if out is None else out.copy_(block)


def _dense(
    pixels: Num[Tensor, "batch channel height width"],
    placing: Placing,
    size: int,
    rows: slice,
    desk: list[Tensor] | None,
) -> Float[Tensor, "batch channel size size"]:
    """Some rows by whole matrices; intermediate results and the result are laid on the desk if there is one."""
    n, channels, height, width = pixels.shape
    boxes = placing.boxes[rows].float()
    flip = None if placing.flip is None else placing.flip[rows]
    sigma = None if placing.sigma is None or placing.kernel < 2 else placing.sigma[rows]
    vertical = dense_weights(boxes[:, 1], boxes[:, 3], height, size, None, sigma, placing.kernel)
    horizontal = dense_weights(boxes[:, 0], boxes[:, 2], width, size, flip, sigma, placing.kernel).transpose(1, 2)
    vertical = vertical[:, None].expand(-1, channels, -1, -1)
    if desk is None:
        narrow = torch.bmm(pixels.float().view(n, channels * height, width), horizontal).view(n * channels, height, size)
        return torch.bmm(vertical.reshape(n * channels, size, height), narrow).view(n, channels, size, size)
    flat, narrow, tall, done = desk
    flat.copy_(pixels)
    tall.copy_(vertical)
    torch.bmm(flat.view(n, channels * height, width), horizontal, out=narrow.view(n, channels * height, size))
    torch.bmm(tall.flatten(0, 1), narrow.flatten(0, 1), out=done.flatten(0, 1))
    return done


def turned(images: Num[Tensor, "batch channel side side"], quarters: int) -> Num[Tensor, "batch channel side side"]:
    """Square images turned anticlockwise by ``quarters`` right angles; exact, no pixel is mixed with another."""
    return torch.rot90(images, quarters, (2, 3)).contiguous()


def some_turned(
    images: Float[Tensor, "batch channel side side"], quarters: Int[Tensor, " batch"]
) -> Float[Tensor, "batch channel side side"]:
    """Each image turned anticlockwise by its own number (0 to 3) of right angles."""
    made = images.clone()
    for number in range(1, 4):
        rows = torch.nonzero(quarters == number)[:, 0]
        made[rows] = torch.rot90(images[rows], number, (2, 3))
    return made


def resize_whole(pixels: Num[Tensor, "channel height width"], size: int, stride: int) -> Float[Tensor, "channel height2 width2"]:
    """A whole picture (0 to 255) in [0, 1], its shorter side about ``size`` and both sides multiples of ``stride``."""
    scale = size / min(pixels.shape[-2:])
    sides = [max(round(side * scale / stride), 1) * stride for side in pixels.shape[-2:]]
    return interpolate(pixels[None].float() / 255, sides, mode="bilinear", antialias=True)[0].clamp(0, 1)


def central_square(images: Images, size: int, normalise: Normalise | None = None) -> Float[Tensor, "batch channel size size"]:
    """The view that features are measured on: a central square, resized with antialiasing.

    Up to 96 pixels the square's side is the shorter side of the picture, for larger views 7/8 of it. Values are in [0, 1],
    or normalised.
    """
    extent = extents(images)
    fraction = 1.0 if size <= 96 else 0.875
    side = (extent.min(1).values * fraction).round()
    corner = ((extent.flip(1) - side[:, None]) / 2).floor()
    boxes = torch.cat([corner, side[:, None], side[:, None]], 1)
    full = 1.0 if images.pixels.is_floating_point() else 255.0
    channels = images.pixels.shape[1]
    low, high = torch.zeros(channels, 1, 1), torch.full((channels, 1, 1), full)
    if normalise is not None:
        low, high = (value[:, None, None] * full for value in normalise.tensors(channels, images.pixels.device))
        high = low + high
    made = resample(images.pixels, Placing(boxes), size)
    return made.sub_(low.to(made.device)).div_((high - low).to(made.device))
