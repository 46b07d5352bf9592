"""Crops, flips and resizing as pairs of small matrices: ``output = rows @ image @ columns.T``.

A crop, flip, scaling or translation is one axis-aligned affine map, and antialiased bilinear resampling under it is separable: one weight
matrix for the rows of an image and one for its columns. A Gaussian blur of the result is multiplied into them,
``(G @ rows) @ image @ (G @ columns).T``, with its reflected border.

There are two forms with the same result. *Dense*: batched products with full matrices; for small images, and on accelerators. *Banded*: a
row of the matrix is zero outside a few neighbouring pixels, so blocks of 32 outputs are multiplied with the window of the image that they
depend on; for larger views on CPUs, one image at a time to stay in the cache.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor
from torch.nn.functional import interpolate

from selfsight.core.views import Images
from selfsight.data.views.image import banded
from selfsight.data.views.image.buffers import reuse_buffer
from selfsight.data.views.image.weights import dense_weights
from selfsight.data.views.keyed_random import KeyedRandom

__all__ = [
    "IMAGENET",
    "Crop",
    "CropGeometry",
    "Finish",
    "Normalise",
    "central_square",
    "extents",
    "relative",
    "resample",
    "resize_whole",
    "rotate",
    "rotate_each",
]

Finish = Callable[[Float[Tensor, "rows channel height width"], slice, Tensor | None], Tensor]
"""Function applied to resampled images while they are in the cache: block, rows of the batch, and output buffer or None."""

_BANDED_FROM = 64
_CHUNK = 1 << 18  # values processed at once


@dataclass(frozen=True)
class Normalise:
    """Subtracts a mean and divides by a standard deviation per channel, for values in [0, 1].

    The default is that of ImageNet's training images. For another number of channels the averages over channels are used.

    Attributes:
        mean: mean of each channel.
        std: standard deviation of each channel.
    """

    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def tensors(self, channels: int, device: torch.device) -> tuple[Float[Tensor, " channel"], Float[Tensor, " channel"]]:
        """Mean and standard deviation of each channel.

        Args:
            channels: number of channels of the images.
            device: device of the result.
        """
        pair = torch.tensor([self.mean, self.std], device=device)
        if pair.shape[1] != channels:
            pair = pair.mean(1, keepdim=True).expand(2, channels)
        return pair[0], pair[1]


IMAGENET = Normalise()


@dataclass(frozen=True)
class Crop:
    """Random resized crop: the area is uniform in ``scale``, the ratio of width to height log-uniform in ``ratio``.

    The distribution is that of torchvision's ``RandomResizedCrop`` (Szegedy et al. 2014, arXiv:1409.4842): ten tries, then the largest
    central crop with an allowed ratio; whole pixels.

    Attributes:
        scale: minimum and maximum area as fractions of the image's.
        ratio: minimum and maximum ratio of width to height.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def draw(self, random: KeyedRandom) -> dict[str, Tensor]:
        """``area`` and ``ratio`` (N, 10 tries) and ``place`` (N, 2), uniform in [0, 1)."""
        return {"area": random.at(1).uniform(10), "ratio": random.at(2).uniform(10), "place": random.at(3).uniform(2)}

    def boxes(
        self,
        area: Float[Tensor, "batch tries"],
        ratio: Float[Tensor, "batch tries"],
        place: Float[Tensor, "batch 2"],
        extent: Num[Tensor, "batch 2"],
    ) -> Float[Tensor, "batch 4"]:
        """Boxes inside images of the given size.

        Args:
            area: random numbers (N, T) in [0, 1) for the area of each try.
            ratio: random numbers (N, T) in [0, 1) for the ratio of each try.
            place: random numbers (N, 2) in [0, 1) for the position.
            extent: height and width (N, 2) of the images in pixels.

        Returns:
            Left, top, width and height (N, 4) in pixels.
        """
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
class CropGeometry:
    """The part of each image that a view shows, with flip and blur.

    Attributes:
        boxes: left, top, width and height (N, 4) in pixels of the image.
        flip: whether a view is mirrored (N,).
        sigma: standard deviation (N,) of the Gaussian blur in pixels of the view; 0: no blur.
        kernel: length of the blur's kernel in pixels of the view (odd); 1: no blur.
    """

    boxes: Num[Tensor, "batch 4"]
    flip: Bool[Tensor, " batch"] | None = None
    sigma: Float[Tensor, " batch"] | None = None
    kernel: int = 1


def extents(images: Images) -> Int[Tensor, "batch 2"]:
    """True height and width (N, 2) of each image in pixels, without padding."""
    if images.extent is not None:
        return images.extent.to(images.pixels.device)
    size = torch.tensor(images.pixels.shape[2:], device=images.pixels.device)
    return size.expand(len(images), 2)


def relative(boxes: Num[Tensor, "batch 4"], extent: Num[Tensor, "batch 2"]) -> Float[Tensor, "batch 4"]:
    """Left, top, right and bottom (N, 4) of boxes as fractions of the image.

    Args:
        boxes: left, top, width and height (N, 4) in pixels.
        extent: height and width (N, 2) of the images in pixels.
    """
    size = extent.flip(1).float()
    corner = boxes[:, :2] / size
    return torch.cat([corner, corner + boxes[:, 2:] / size], 1)


def resample(
    pixels: Num[Tensor, "batch channel height width"], placing: CropGeometry, size: int, finish: Finish | None = None
) -> Float[Tensor, "batch channel size size"]:
    """Square antialiased views of images, in the value range of ``pixels``.

    Equal to torchvision's ``resized_crop(antialias=True)`` for boxes of whole pixels, followed by its horizontal flip and
    ``gaussian_blur``.

    Args:
        pixels: images (N, C, H, W).
        placing: boxes, flips and blur.
        size: side of the views in pixels.
        finish: function applied to blocks of views as soon as they are resampled; the block's memory is reused afterwards.

    Returns:
        (N, C, size, size).
    """
    finish = finish or _unchanged
    small = size < _BANDED_FROM
    if len(pixels) == 0 or pixels.device.type != "cpu" or (small and torch.compiler.is_compiling()):
        return finish(_dense(pixels, placing, size, slice(None), None), slice(None), None)
    if not small:
        banded_form: Any = banded.resample
        if torch.compiler.is_compiling():  # not a decorator: that would import the compiler at every start, which takes seconds
            banded_form = torch.compiler.disable(banded_form)
        return banded_form(pixels, placing.boxes, placing.flip, placing.sigma, placing.kernel, size, finish)
    n, channels, height, width = pixels.shape
    views = reuse_buffer(n, channels, size, size)
    step = max(1, _CHUNK // (channels * max(size * size, height * width)))
    rows_at_once = min(n, step)
    shapes = (channels, height, width), (channels, height, size), (channels, size, height), (channels, size, size)
    buffers = [reuse_buffer(rows_at_once, *shape) for shape in shapes]
    for start in range(0, n, step):
        rows = slice(start, min(start + step, n))
        block = _dense(pixels[rows], placing, size, rows, [buffer[: rows.stop - start] for buffer in buffers])
        finish(block, rows, views[rows])
    return views


def _unchanged(block: Tensor, rows: slice, out: Tensor | None) -> Tensor:  # noqa: ARG001
    return block if out is None else out.copy_(block)


def _dense(
    pixels: Num[Tensor, "batch channel height width"],
    placing: CropGeometry,
    size: int,
    rows: slice,
    buffers: list[Tensor] | None,
) -> Float[Tensor, "batch channel size size"]:
    """Some views by full matrices; results are written to the buffers if there are any."""
    n, channels, height, width = pixels.shape
    boxes = placing.boxes[rows].float()
    flip = None if placing.flip is None else placing.flip[rows]
    sigma = None if placing.sigma is None or placing.kernel < 2 else placing.sigma[rows]
    vertical = dense_weights(boxes[:, 1], boxes[:, 3], height, size, None, sigma, placing.kernel)
    horizontal = dense_weights(boxes[:, 0], boxes[:, 2], width, size, flip, sigma, placing.kernel).transpose(1, 2)
    vertical = vertical[:, None].expand(-1, channels, -1, -1)
    if buffers is None:
        narrow = torch.bmm(pixels.float().view(n, channels * height, width), horizontal).view(n * channels, height, size)
        return torch.bmm(vertical.reshape(n * channels, size, height), narrow).view(n, channels, size, size)
    flat, narrow, tall, views = buffers
    flat.copy_(pixels)
    tall.copy_(vertical)
    torch.bmm(flat.view(n, channels * height, width), horizontal, out=narrow.view(n, channels * height, size))
    torch.bmm(tall.flatten(0, 1), narrow.flatten(0, 1), out=views.flatten(0, 1))
    return views


def rotate(images: Num[Tensor, "batch channel side side"], quarters: int) -> Num[Tensor, "batch channel side side"]:
    """Rotate square images anticlockwise by right angles; exact.

    Args:
        images: (N, C, S, S).
        quarters: number of right angles.
    """
    return torch.rot90(images, quarters, (2, 3)).contiguous()


def rotate_each(
    images: Float[Tensor, "batch channel side side"], quarters: Int[Tensor, " batch"]
) -> Float[Tensor, "batch channel side side"]:
    """Rotate each square image anticlockwise by its own number of right angles.

    Args:
        images: (N, C, S, S).
        quarters: number (N,) of right angles, 0 to 3.
    """
    rotated = images.clone()
    for number in range(1, 4):
        rows = torch.nonzero(quarters == number)[:, 0]
        rotated[rows] = torch.rot90(images[rows], number, (2, 3))
    return rotated


def resize_whole(pixels: Num[Tensor, "channel height width"], size: int, stride: int) -> Float[Tensor, "channel height2 width2"]:
    """Resize an image to [0, 1] without cropping, its shorter side about ``size`` and both sides multiples of ``stride``.

    Args:
        pixels: (C, H, W), 0 to 255.
        size: shorter side in pixels.
        stride: divisor of both sides.
    """
    scale = size / min(pixels.shape[-2:])
    sides = [max(round(side * scale / stride), 1) * stride for side in pixels.shape[-2:]]
    return interpolate(pixels[None].float() / 255, sides, mode="bilinear", antialias=True)[0].clamp(0, 1)


def central_square(images: Images, size: int, normalise: Normalise | None = None) -> Float[Tensor, "batch channel size size"]:
    """Evaluation view: the central square, resized with antialiasing.

    For views of up to 96 pixels the square's side is the shorter side of the image, for larger ones 7/8 of it.

    Args:
        images: a batch of images.
        size: side of the view in pixels.
        normalise: normalisation; by default values are in [0, 1].
    """
    extent = extents(images)
    fraction = 1.0 if size <= 96 else 0.875
    side = (extent.min(1).values * fraction).round()
    corner = ((extent.flip(1) - side[:, None]) / 2).floor()
    boxes = torch.cat([corner, side[:, None], side[:, None]], 1)
    white = 1.0 if images.pixels.is_floating_point() else 255.0
    channels = images.pixels.shape[1]
    low, high = torch.zeros(channels, 1, 1), torch.full((channels, 1, 1), white)
    if normalise is not None:
        low, high = (value[:, None, None] * white for value in normalise.tensors(channels, images.pixels.device))
        high = low + high
    views = resample(images.pixels, CropGeometry(boxes), size)
    return views.sub_(low.to(views.device)).div_((high - low).to(views.device))
