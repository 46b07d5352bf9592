"""Overlays on images: signed maps, heat maps, classes of regions, outlined regions with boxes."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageDraw

from selfsight.render.palette import BLUE, COLOURS, VERMILION, rgb

__all__ = ["SIDE", "fitted", "overlay_classes", "overlay_heat", "overlay_map", "overlay_regions", "upsampled"]

Pixels = UInt8[np.ndarray, "height width 3"]
SIDE = 160
"""Longest side of a tile in pixels."""
POSITIVE, NEGATIVE = (np.round(np.array(rgb(colour)) / 255, 3) for colour in (VERMILION, BLUE))
WARM = np.array([255, 120, 0])


def blended(image: np.ndarray, colour: np.ndarray, weight: np.ndarray | float) -> np.ndarray:
    """An image mixed with a colour: ``(1 - weight) image + weight colour``.

    Args:
        image: values ``(H, W, 3)`` or ``(H, W, 1)``.
        colour: values that broadcast to the image.
        weight: from 0 to 1.
    """
    return image * (1 - weight) + colour * weight


def pale(pixels: np.ndarray) -> Float[np.ndarray, "height width 1"]:
    """An image in pale grey, the background of regions: 150 plus 0.35 times the mean over channels."""
    return 0.35 * pixels.mean(2, keepdims=True) + 150


def upsampled(grid: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Nearest-neighbour upsampling of a grid to pixels.

    Args:
        grid: ``(rows, columns)`` values.
        size: height and width in pixels.
    """
    down, across = (np.arange(side) * cells // side for side, cells in zip(size, grid.shape, strict=True))
    return grid[down[:, None], across]


def fitted(image: Pixels, side: int = SIDE) -> Image.Image:
    """Resize an image to a longest side.

    Args:
        image: the image ``(H, W, 3)``.
        side: longest side in pixels.
    """
    opened = Image.fromarray(image)
    scale = side / max(opened.size)
    width, height = (max(round(length * scale), 1) for length in opened.size)
    return opened.resize((width, height), Image.Resampling.BILINEAR)


def overlay_map(image: Pixels, values: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "height width 3"]:
    """A signed map over its image in grey: positive values in orange, negative values in blue.

    Full colour stands for the 99 % quantile of the absolute values; a constant map has no colour.

    Args:
        image: the image ``(H, W, 3)``, 0 to 255.
        values: the map ``(H, W)``.

    Returns:
        An image ``(H, W, 3)`` in [0, 1].
    """
    grey = (image @ np.array([0.299, 0.587, 0.114]) / 255)[..., None] * 0.55 + 0.35
    level = values - values.min() if values.min() >= 0 else values
    top = float(np.quantile(np.abs(level), 0.99)) or float(np.abs(level).max()) or 1.0
    strength = np.clip(np.abs(level) / top, 0, 1)[..., None]
    return np.clip(blended(grey, np.where(level[..., None] >= 0, POSITIVE, NEGATIVE), strength), 0, 1)


def overlay_heat(image: Pixels, heat: Float[np.ndarray, "height width"]) -> Pixels:
    """An image in grey where the heat is zero, and in its own colours with an orange tint where it is high.

    Args:
        image: the image ``(H, W, 3)``.
        heat: heat map ``(H, W)`` in [0, 1].
    """
    grey = 0.5 * image.mean(2, keepdims=True) + 40
    return blended(grey, blended(image, WARM, 0.25), heat.clip(0, 1)[..., None]).round().clip(0, 255).astype(np.uint8)


def overlay_classes(image: Pixels, numbers: Int[np.ndarray, "rows columns"], colours: UInt8[np.ndarray, "count 3"]) -> Image.Image:
    """A tile of an image with class colours; the background is pale grey.

    Args:
        image: the image ``(H, W, 3)``.
        numbers: class at each location, from 1; 0 is background.
        colours: colour per class.
    """
    tile = fitted(image)
    classes = upsampled(numbers, (tile.height, tile.width))
    pixels = np.asarray(tile).astype(float)
    coloured = blended(pixels.mean(2, keepdims=True), colours[(classes - 1).clip(min=0)], 0.55)
    return _image(np.where((classes > 0)[..., None], coloured, pale(pixels)))


def overlay_regions(
    image: Pixels, numbers: UInt8[np.ndarray, "height2 width2"], boxes: Sequence[Sequence[float]] | np.ndarray, size: tuple[int, int]
) -> Image.Image:
    """A tile of an image in pale grey except for its regions, each with an outline and a box in its colour.

    Args:
        image: the image ``(H, W, 3)``.
        numbers: region at each pixel, from 1; 0 is background.
        boxes: ``(N, 4)`` left, top, right, bottom of each region, in pixels of the original image.
        size: height and width of the original image.
    """
    tile = fitted(image)
    pixels = np.asarray(tile).astype(float)
    regions = np.asarray(Image.fromarray(numbers).resize(tile.size, Image.Resampling.NEAREST))
    drawn = np.where((regions > 0)[..., None], pixels, pale(pixels))
    padded = np.pad(regions, 1, mode="edge")
    edges = (regions != padded[:-2, 1:-1]) | (regions != padded[1:-1, :-2])
    drawn[edges] = np.array(COLOURS)[(np.maximum(regions, padded[:-2, 1:-1])[edges].clip(min=1) - 1) % len(COLOURS)]
    framed = _image(drawn)
    scales = np.array([*tile.size] * 2) / np.array([*size[::-1]] * 2)
    for index, box in enumerate(np.asarray(boxes, dtype=float).reshape(-1, 4)):
        left, top, right, bottom = (box * scales).round().astype(int).tolist()
        corners = (left, top, max(right - 1, left), max(bottom - 1, top))
        ImageDraw.Draw(framed).rectangle(corners, outline=COLOURS[index % len(COLOURS)], width=2)
    return framed


def _image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
