"""Images to explain, from files or rows of data sets."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from selfsight.core.errors import DataError, UsageError
from selfsight.core.representation import Representation
from selfsight.core.views import Images
from selfsight.data.decode import Unreadable, decode
from selfsight.data.evaluation_view import central_view
from selfsight.data.loader import load_images
from selfsight.data.opening import open_source
from selfsight.data.source import VOID
from selfsight.data.views.image.geometry import resize_whole

__all__ = ["ExplainInput", "read_images"]


@dataclass(frozen=True)
class ExplainInput:
    """Images to explain.

    Attributes:
        images: images of one size, in [0, 1].
        names: names of the images.
        objects: object masks; None if any is unknown.
    """

    images: Float[Tensor, "batch 3 height width"]
    names: tuple[str, ...]
    objects: Bool[Tensor, "batch height width"] | None = None


def read_images(specs: Sequence[str], phi: Representation, *, whole: bool = False) -> ExplainInput:
    """Read images in the evaluation view of the representation: the central square, scaled to its size.

    Args:
        specs: paths, or data sets with rows: ``world:shapes#0,3,8-11``.
        phi: the representation.
        whole: the whole image, with its shorter side scaled to the size; all images must then have one shape.

    Raises:
        DataError: an image cannot be read, or the shapes differ.
        UsageError: there is no image, or a row does not exist.
    """
    found: list[_Found] = []
    for text in specs:
        rows = "#" in text and not Path(text).is_file()
        found += _rows(text, phi) if rows else [(Path(text).name, torch.from_numpy(_file(Path(text))), None)]
    if not found:
        raise UsageError("No image is given.", "Use paths of images, or a data set with rows such as world:shapes#0,1,2.")
    images = [_fitted(pixels, phi, whole=whole) for _, pixels, _ in found]
    objects = [_fitted(255 * inside[None].to(torch.uint8), phi, whole=whole)[0] > 0.5 for _, _, inside in found if inside is not None]
    if len({tuple(image.shape) for image in images}) > 1:
        raise DataError("The images have several shapes.", "Omit --whole to crop each to a square, or use images of one shape.")
    return ExplainInput(
        torch.stack(images), tuple(name for name, _, _ in found), torch.stack(objects) if len(objects) == len(found) else None
    )


def _file(path: Path) -> UInt8[np.ndarray, "3 height width"]:
    try:
        return decode(path)[0]
    except Unreadable as problem:
        raise DataError(f"{path} cannot be read: {problem}.", "Use an image file such as PNG or JPEG.") from problem


_Found = tuple[str, Tensor, Tensor | None]
"""A name, pixels, and an object mask."""


def _rows(text: str, phi: Representation) -> list[_Found]:
    spec, _, numbers = text.rpartition("#")
    source = open_source(spec, size=phi.size)
    rows: list[int] = []
    for part in numbers.split(","):
        ends = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip())
        if not ends:
            raise UsageError(f"{part!r} in {text!r} is not a row.", "Rows are numbers and ranges: #0,3,8-11.")
        first, last = int(ends[1]), int(ends[2] or ends[1])
        if last < first:
            raise UsageError(f"{part!r} in {text!r} has no rows.", f"Write the smaller number first: #{last}-{first}.")
        rows += range(first, last + 1)
    if max(rows) >= len(source):
        raise UsageError(f"{spec} has {len(source)} images; there is no row {max(rows)}.", "Rows are counted from 0.")
    batch = load_images(source, np.array(rows))
    extent = batch.extent if batch.extent is not None else [batch.pixels.shape[-2:]] * len(rows)
    images = [pixels[:, : int(size[0]), : int(size[1])] for pixels, size in zip(batch.pixels, extent, strict=True)]
    masks = source.truth(np.array(rows)).masks
    numbers = [None if masks is None else np.asarray(masks[index]) for index in range(len(rows))]
    inside = [None if mask is None else torch.from_numpy((mask > 0) & (mask != VOID)) for mask in numbers]
    known = [mask if mask is not None and mask.shape == pixels.shape[1:] else None for mask, pixels in zip(inside, images, strict=True)]
    return [(f"{spec.partition('?')[0]}#{row}", pixels, mask) for row, pixels, mask in zip(rows, images, known, strict=True)]


def _fitted(pixels: Tensor, phi: Representation, *, whole: bool) -> Tensor:
    if not whole:
        return central_view(Images(pixels[None], torch.zeros(1, dtype=torch.int64)), phi.size)[0]
    return resize_whole(pixels, phi.size, phi.backbone.stride)
