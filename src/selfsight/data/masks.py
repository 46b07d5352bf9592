"""Masks from image files, as class numbers, and from polygons, as object numbers, in the pixels of the original image."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image, ImageDraw

from selfsight.core.errors import DataError
from selfsight.data.decode import Unreadable, decode_values
from selfsight.data.source import VOID

__all__ = ["MaskFiles", "polygons_mask"]

LOSSY = (".jpg", ".jpeg", ".jpe", ".webp", ".jp2", ".avif")
SEARCHED = 256
"""Masks that are read to find out whether they are numbers or black and white."""


class MaskFiles:
    """Masks from files, as class numbers (H, W), upright; black and white images become 0 and 1.

    Palette images give their indices. The colours of a file are one class, because another file may have others; black and transparent
    pixels are background. In palette and grey images 255 is ``VOID`` beside other numbers from 1 to 254. A file with 0 and 255 alone is
    black and white, unless another file of its mode (palette, grey) has other numbers: then 255 is void there, too. Without a file: one pixel of 0.

    Args:
        files: paths of the masks; None where there is none.
    """

    def __init__(self, files: Sequence[Path | None]) -> None:
        self.files = files

    def __call__(self, row: int) -> np.ndarray:
        """The mask of a row.

        Raises:
            DataError: the file is no image.
        """
        path = self.files[row]
        if path is None:
            return np.zeros((1, 1), dtype=np.uint8)
        values, mode = _stored(path)
        if values.ndim == 3:
            grey = (values == values[..., :1]).all() and values.max(initial=0) == 255
            return np.asarray(values[..., 0] > 127 if grey else (values > 0).any(2)).astype(np.uint8)
        values = values.astype(np.int64)
        if (_is_ambiguous(values) and mode not in self.numbered) or _has_grey_edges(values, mode, path):
            return _black_and_white(values).astype(np.uint8)
        if mode in ("P", "L") and values.max(initial=0) == 255:
            values = np.where(values == 255, VOID, values)
        elif values.max(initial=0) > VOID:
            values = np.unique(values, return_inverse=True)[1].reshape(values.shape)
        return values.astype(np.uint8 if values.max(initial=0) < 256 else np.uint16)

    @cached_property
    def numbered(self) -> set[str]:
        """Modes of files (palette, grey) among which some have other numbers than those of black and white."""
        found = set[str]()
        for path in [path for path in self.files if path is not None][:SEARCHED]:
            values, mode = _stored(path)
            if mode not in found and values.ndim == 2 and values.any() and not _is_ambiguous(values):
                found |= set() if _has_grey_edges(values.astype(np.int64), mode, path) else {mode}
        return found


def _stored(path: Path) -> tuple[np.ndarray, str]:
    try:
        return decode_values(path)
    except Unreadable as problem:
        raise DataError(f"The mask {path} cannot be read: {problem}.", "Repair or remove it.") from None


def _is_ambiguous(values: np.ndarray) -> bool:
    """Whether a mask consists of 0 and the largest number of its type: white, or void."""
    highest = int(values.max(initial=0))
    return highest in (1, 255, 65535) and bool(((values == 0) | (values == highest)).all())


def _has_grey_edges(values: np.ndarray, mode: str, path: Path) -> bool:
    """Whether a mask is black and white with grey from compression or smooth edges, and has no numbers of classes or objects.

    Palette indices are numbers. So are values that fill a square of 3 x 3 pixels in a file without losses, which edges do not, values up to
    25 beside white, and those that are more frequent than white.
    """
    highest = int(values.max(initial=0))
    if mode == "P" or highest not in (255, 65535):
        return False
    between = (values > 0) & (values < highest)
    grey = ~((values < highest * 0.1) | (values > highest * 0.9))
    if not between.any() or grey.mean() >= 0.1:
        return False
    if path.suffix.lower() in LOSSY:
        return True
    return not (values[between].max() < highest * 0.1 or (values == highest).sum() < between.sum() or _has_areas(values, between))


def _has_areas(values: np.ndarray, counted: np.ndarray) -> bool:
    """Whether a square of 3 x 3 pixels has one of the counted values."""
    if min(values.shape) < 3:
        return False
    windows = sliding_window_view(values, (3, 3))
    return bool(((windows.min((2, 3)) == windows.max((2, 3))) & counted[1:-1, 1:-1]).any())


def _black_and_white(values: np.ndarray) -> np.ndarray:
    """0 and 1, by half of the largest value where that is white; other values are unchanged."""
    highest = int(values.max(initial=0))
    return (values > highest // 2).astype(np.int64) if highest in (255, 65535) else values


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
