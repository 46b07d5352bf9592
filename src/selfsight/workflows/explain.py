"""What is asked, as it is typed: images by path or by row of a data set, and targets such as ``class:dog`` or ``unit:stages.2/41``."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from selfsight.core.errors import DataError, UsageError
from selfsight.core.readout import Readout
from selfsight.core.representation import Representation
from selfsight.core.views import Images
from selfsight.data.decode import Unreadable, decode
from selfsight.data.loader import load_images
from selfsight.data.opening import open_source
from selfsight.data.views.image.geometry import central_square, resize_whole
from selfsight.explain.targets import Place, Target, cluster, code, like, probe_class, strongest, unit

__all__ = ["FORMS", "ExplainInput", "fixed_target", "read_images", "target_of"]

FORMS = "class, class:NAME, cluster, cluster:NUMBER, unit:LAYER, unit:LAYER/CHANNEL, unit:LAYER/CHANNEL@ROW,COLUMN, like:IMAGE, code"
"""Targets; a class, cluster or unit without a number is the strongest of each image."""


@dataclass(frozen=True)
class ExplainInput:
    """Images, all of one size, in [0, 1], with what to call them; ``objects``: where objects are, if it is known of all of them."""

    images: Float[Tensor, "batch 3 height width"]
    names: tuple[str, ...]
    objects: Bool[Tensor, "batch height width"] | None = None


def read_images(asked: Sequence[str], phi: Representation, *, whole: bool = False) -> ExplainInput:
    """Images as the representation is used to seeing them: the middle square, scaled to its size.

    Args:
        asked: paths, or data sets with rows: ``world:shapes#0,3,8-11``.
        phi: the representation.
        whole: the whole picture, its shorter side scaled to the size; all must then have one shape.

    Raises:
        DataError: a picture cannot be read, or the shapes differ.
        UsageError: no image is named, or a row does not exist.
    """
    found: list[_Found] = []
    for text in asked:
        rows = "#" in text and not Path(text).is_file()
        found += _rows(text, phi) if rows else [(Path(text).name, torch.from_numpy(_file(Path(text))), None)]
    if not found:
        raise UsageError("No image is named.", "Give paths of pictures, or a data set with rows such as world:shapes#0,1,2.")
    shown = [_fitted(pixels, phi, whole=whole) for _, pixels, _ in found]
    there = [_fitted(255 * inside[None].to(torch.uint8), phi, whole=whole)[0] > 0.5 for _, _, inside in found if inside is not None]
    if len({tuple(one.shape) for one in shown}) > 1:
        raise DataError(
            "The pictures have several shapes.", "Leave --whole away, so that each is cut to a square, or give those of one shape."
        )
    return ExplainInput(torch.stack(shown), tuple(name for name, _, _ in found), torch.stack(there) if len(there) == len(found) else None)


def _file(path: Path) -> UInt8[np.ndarray, "3 height width"]:
    try:
        return decode(path)[0]
    except Unreadable as problem:
        raise DataError(f"{path} cannot be read: {problem}.", "Give a picture file such as PNG or JPEG.") from problem


_Found = tuple[str, Tensor, Tensor | None]
"""A name, pixels, and where the objects are."""


def _rows(text: str, phi: Representation) -> list[_Found]:
    spec, _, numbers = text.rpartition("#")
    source = open_source(spec, size=phi.size)
    rows: list[int] = []
    for part in numbers.split(","):
        ends = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip())
        if not ends:
            raise UsageError(f"{part!r} in {text!r} is no row.", "Rows are numbers and ranges: #0,3,8-11.")
        rows += range(int(ends[1]), int(ends[2] or ends[1]) + 1)
    if max(rows) >= len(source):
        raise UsageError(f"{spec} has {len(source)} pictures, and row {max(rows)} was asked for.", "Rows are counted from 0.")
    batch = load_images(source, np.array(rows))
    extent = batch.extent if batch.extent is not None else [batch.pixels.shape[-2:]] * len(rows)
    cut = [pixels[:, : int(size[0]), : int(size[1])] for pixels, size in zip(batch.pixels, extent, strict=True)]
    masks = source.truth(np.array(rows)).masks
    inside = [None if masks is None else torch.from_numpy(np.asarray(masks[place]) > 0) for place in range(len(rows))]
    known = [mask if mask is not None and mask.shape == pixels.shape[1:] else None for mask, pixels in zip(inside, cut, strict=True)]
    return [(f"{spec.partition('?')[0]}#{row}", pixels, mask) for row, pixels, mask in zip(rows, cut, known, strict=True)]


def _fitted(pixels: Tensor, phi: Representation, *, whole: bool) -> Tensor:
    if not whole:
        return central_square(Images(pixels[None], torch.zeros(1, dtype=torch.int64)), phi.size)[0]
    return resize_whole(pixels, phi.size, phi.backbone.stride)


def target_of(text: str, phi: Representation, shown: Float[Tensor, "batch 3 height width"], measures: Path) -> Target:
    """The target that a text names.

    Args:
        text: one of ``FORMS``.
        phi: the representation.
        shown: the images that will be explained.
        measures: the folder of the run's readouts.

    Raises:
        UsageError: the text means nothing, or the run has no such readout, layer or number.
    """
    kind, _, rest = text.partition(":")
    if kind == "class":
        probe = Readout.load(measures / "linear")
        return probe_class(probe, rest) if rest else _of_each(probe_class(probe, 0), "likeliest class", phi, shown)
    if kind == "cluster":
        clusters = Readout.load(measures / "cluster")
        return cluster(clusters, _number(rest, text)) if rest else _of_each(cluster(clusters, 0), "own cluster", phi, shown)
    if kind == "unit" and rest:
        return _unit(rest, text, phi, shown)
    if kind == "like" and rest:
        other = read_images([rest], phi)
        return like(phi, other.images[0], name=other.names[0])
    if kind == "code":
        return code(phi, shown, rest or None)
    raise UsageError(f"{text!r} is no target.", f"Targets are: {FORMS}.")


def fixed_target(text: str, phi: Representation, measures: Path) -> Target:
    """A target that needs no image: a class, a cluster or a unit by its number.

    Raises:
        UsageError: the text means something else, or the run has no such readout, layer or number.
    """
    kind, _, rest = text.partition(":")
    if kind not in ("class", "cluster", "unit") or not rest or (kind == "unit" and "/" not in rest):
        raise UsageError(f"{text!r} says nothing without an image.", "Give class:NAME, cluster:NUMBER or unit:LAYER/CHANNEL.")
    blank = torch.zeros(1, phi.backbone.channels, phi.size, phi.size, device=phi.device)
    target = target_of(text, phi, blank, measures)
    with torch.no_grad():
        target.score(phi, blank)  # whose number exists
    return target


def _of_each(target: Target, name: str, phi: Representation, shown: Tensor) -> Target:
    found = strongest(target, phi, shown)
    return Target(name, found.read, found.which, found.layer)


def _number(text: str, whole: str) -> int:
    if not text.isdigit():
        raise UsageError(f"{whole!r}: {text!r} is no number.", f"Targets are: {FORMS}.")
    return int(text)


def _unit(text: str, whole: str, phi: Representation, shown: Tensor) -> Target:
    layer, _, rest = text.partition("/")
    channel, _, where = rest.partition("@")
    place: Place = "mean"
    if where == "max":
        place = "max"
    elif where:
        row, _, column = where.partition(",")
        place = (_number(row, whole), _number(column, whole))
    target = unit(layer, _number(channel, whole) if channel else 0, place)
    return target if channel else _of_each(target, f"strongest unit of {layer}", phi, shown)
