"""Masks from image files and from polygons, as object numbers in the pixels of the original image."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

__all__ = ["polygons_mask", "read_mask"]


def read_mask(path: Path | None) -> np.ndarray:
    """Object numbers (H, W) of a mask file; a black and white image becomes 0 and 1.

    Palette images give their indices; colours are numbered in the order of their RGB value. Without a file: one pixel of 0.
    """
    if path is None:
        return np.zeros((1, 1), dtype=np.uint8)
    with Image.open(path) as image:
        if image.mode in ("P", "L", "1") or image.mode.startswith("I"):
            values = np.asarray(image)
        else:
            colours = np.asarray(image.convert("RGB")).astype(np.int64)
            values = colours @ np.array([65536, 256, 1])
        if image.mode != "P" and image.mode != "1":
            values = _binary(values)
    values = values.astype(np.int64)
    if values.max(initial=0) > 65535:
        values = np.unique(values, return_inverse=True)[1].reshape(values.shape)
    return values.astype(np.uint8 if values.max(initial=0) < 256 else np.uint16)


def _binary(values: np.ndarray) -> np.ndarray:
    """Map black and white, with some grey from compression, to 0 and 1; other values are unchanged."""
    highest = int(values.max(initial=0))
    if highest not in (255, 65535, 0xFFFFFF):
        return values
    extreme = (values < highest * 0.1) | (values > highest * 0.9)
    return (values > highest // 2).astype(np.uint8) if extreme.mean() > 0.9 else values


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
