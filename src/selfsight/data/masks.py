"""Masks from image files, as class numbers, and from polygons, as object numbers, in the pixels of the original image."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from selfsight.core.errors import DataError
from selfsight.data.decode import Unreadable, decode_values
from selfsight.data.source import VOID

__all__ = ["polygons_mask", "read_mask"]


def read_mask(path: Path | None) -> np.ndarray:
    """Class numbers (H, W) of a mask file, upright; a black and white image becomes 0 and 1.

    Palette images give their indices. The colours of a file are one class, because another file may have others; black and transparent
    pixels are background. 255 is ``VOID`` in palette and grey images with other numbers from 1 to 254. Without a file: one pixel of 0.

    Args:
        path: the file.

    Raises:
        DataError: it is no image.
    """
    if path is None:
        return np.zeros((1, 1), dtype=np.uint8)
    try:
        values, mode = decode_values(path)
    except Unreadable as problem:
        raise DataError(f"The mask {path} cannot be read: {problem}.", "Repair or remove it.") from None
    if values.ndim == 3:
        return _binary(values.astype(np.int64) @ np.array([65536, 256, 1]), lossy=_is_lossy(path)).clip(max=1).astype(np.uint8)
    values = _binary(values.astype(np.int64), lossy=_is_lossy(path))
    if mode in ("P", "L") and values.max(initial=0) == 255:
        values = np.where(values == 255, VOID, values)
    elif values.max(initial=0) > VOID:
        values = np.unique(values, return_inverse=True)[1].reshape(values.shape)
    return values.astype(np.uint8 if values.max(initial=0) < 256 else np.uint16)


def _is_lossy(path: Path) -> bool:
    return path.suffix.lower() in (".jpg", ".jpeg", ".jpe", ".webp", ".jp2", ".avif")


def _binary(values: np.ndarray, *, lossy: bool) -> np.ndarray:
    """Map black and white, with some grey from compression or smooth edges, to 0 and 1; numbers of classes or objects are unchanged."""
    highest = int(values.max(initial=0))
    if highest not in (255, 65535, 0xFFFFFF):
        return values
    between = (values > 0) & (values < highest)
    dark_or_bright = (values < highest * 0.1) | (values > highest * 0.9)
    small_numbers = not lossy and between.any() and values[between].max() < highest * 0.1
    rare_white = not lossy and (values == highest).sum() < between.sum()
    if dark_or_bright.mean() <= 0.9 or small_numbers or rare_white:
        return values
    return (values > highest // 2).astype(np.int64)


def polygons_mask(shapes: Sequence[Any], boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Object numbers (H, W) of COCO segmentations: lists of polygons, or uncompressed run lengths.

    Large objects are drawn first, so that small ones stay visible. For a compressed run length the object's box is drawn.

    Args:
        shapes: segmentation of each object.
        boxes: left, top, right, bottom (N, 4 or more) of each object in pixels.
        size: height and width of the image in pixels.
    """
    out = np.zeros(size, dtype=np.uint8 if len(shapes) < 256 else np.uint16)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    for number in np.argsort(-areas, kind="stable"):
        out[_object_mask(shapes[number], boxes[number], size)] = number + 1
    return out


def _object_mask(shape: Any, box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if isinstance(shape, dict) and isinstance(shape.get("counts"), list):
        values = np.arange(len(shape["counts"])) % 2
        height, width = shape["size"]
        return np.repeat(values, shape["counts"]).reshape(width, height).T.astype(bool)
    canvas = Image.new("1", (size[1], size[0]))
    pen = ImageDraw.Draw(canvas)
    if isinstance(shape, list):
        for polygon in shape:
            if len(polygon) >= 6:
                pen.polygon([(polygon[at] - 0.5, polygon[at + 1] - 0.5) for at in range(0, len(polygon) - 1, 2)], fill=1)
    else:
        pen.rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=1)
    return np.asarray(canvas, dtype=bool)
