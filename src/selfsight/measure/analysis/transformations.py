"""Transformations of images and the maps of positions that they induce."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from selfsight.measure.analysis.equivalence import Grid

__all__ = ["Places", "Transformation", "flipped", "inside", "nearby", "recoloured", "rotated", "scaled", "warp"]

Places = Callable[[Float[Tensor, "place 2"]], Float[Tensor, "place 2"]]
"""Function between positions (x, y): x to the right, y down, -1 to 1 between the borders of the image."""


def _identity(places: Tensor) -> Tensor:
    return places


@dataclass(frozen=True)
class Transformation:
    """A transformation g of images in [0, 1], with the map of positions that it induces.

    Attributes:
        name: display name.
        apply: function from x to g x.
        source: position of x that a position of g x comes from.
        target: position of g x that a position of x goes to; the inverse of ``source``.
    """

    name: str
    apply: Callable[[Grid], Grid]
    source: Places = _identity
    target: Places = _identity


def _moved(name: str, matrix: Float[np.ndarray, "2 2"]) -> Transformation:
    """A linear map about the centre of the image; ``matrix`` maps positions of g x to x."""
    forward, inverse = (torch.tensor(np.round(each, 12)) for each in (matrix, np.linalg.inv(matrix)))

    def source(places: Tensor) -> Tensor:
        return places @ forward.T.to(places)

    return Transformation(name, lambda images: warp(images, source), source, lambda places: places @ inverse.T.to(places))


def flipped(*, upright: bool = False) -> Transformation:
    """Horizontal flip, or vertical flip if ``upright``."""
    return _moved("vertical flip" if upright else "horizontal flip", np.diag([1.0, -1.0] if upright else [-1.0, 1.0]))


def rotated(degrees: float) -> Transformation:
    """Clockwise rotation about the centre, in degrees; border pixels are replicated."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return _moved(f"rotation by {degrees:g} degrees", np.array([[cosine, sine], [-sine, cosine]]))


def scaled(factor: float) -> Transformation:
    """Scaling about the centre by a factor; above 1 enlarges."""
    return _moved(f"scaling by {factor:g}", np.eye(2) / factor)


def recoloured(matrix: Float[np.ndarray, "3 3"], offset: Sequence[float] = (0.0, 0.0, 0.0)) -> Transformation:
    """Linear change of colours, clipped to [0, 1]; positions are unchanged.

    Args:
        matrix: output x input channels (3, 3).
        offset: added to each channel.
    """

    def apply(images: Tensor) -> Tensor:
        mixed = torch.einsum("dc,bchw->bdhw", torch.from_numpy(matrix).to(images), images)
        return (mixed + images.new_tensor(offset)[:, None, None]).clamp(0, 1)

    return Transformation("change of colours", apply)


def _landing(source: Places, height: int, width: int) -> Float[Tensor, "place 2"]:
    """Column and row, in cells from the centre of the first cell, that each cell comes from; rounded to a ten-thousandth of a cell."""
    down, across = torch.meshgrid(torch.arange(height, dtype=torch.float64), torch.arange(width, dtype=torch.float64), indexing="ij")
    sides = torch.tensor([width, height], dtype=torch.float64)
    centres = (2 * torch.stack([across, down], -1).reshape(-1, 2) + 1) / sides - 1
    return (((source(centres) + 1) * sides - 1) / 2 * 1e4).round() / 1e4


def inside(source: Places, height: int, width: int) -> Bool[Tensor, " place"]:
    """Which cells of a grid come from inside the image.

    Args:
        source: position that each position comes from.
        height: rows of the grid.
        width: columns of the grid.
    """
    landing = _landing(source, height, width)
    return ((landing >= -0.5) & (landing <= torch.tensor([width, height]) - 0.5)).all(1)


def warp(maps: Grid, source: Places) -> Grid:
    """Warp grids with bilinear interpolation and replicated borders.

    Args:
        maps: grids (N, C, H, W).
        source: position that each position of the result comes from.
    """
    height, width = maps.shape[2:]
    ends = torch.tensor([width - 1, height - 1], dtype=torch.float64)
    landing = _landing(source, height, width).clamp(min=0).minimum(ends)
    corner = landing.floor()
    fraction, flat, warped = (landing - corner).to(maps), maps.flatten(2), torch.zeros_like(maps).flatten(2)
    for right in (0, 1):
        for low in (0, 1):
            column, row = (corner + torch.tensor([right, low])).minimum(ends).long().unbind(1)
            weight = (fraction[:, 0] if right else 1 - fraction[:, 0]) * (fraction[:, 1] if low else 1 - fraction[:, 1])
            warped = warped + flat[:, :, (row * width + column).to(maps.device)] * weight
    return warped.unflatten(2, (height, width))


def nearby(source: Places, height: int, width: int, side: int) -> Int[Tensor, "place near"]:
    """Indices of the cells around the one that each cell of a grid comes from, clamped to the border.

    Args:
        source: position that each position comes from.
        height: rows of the grid.
        width: columns of the grid.
        side: side of the neighbourhood in cells.

    Returns:
        Flat indices (H * W, side * side).
    """
    steps = torch.arange(side) - side // 2
    middle = _landing(source, height, width).round().long()
    columns, rows = ((middle[:, axis, None] + steps).clamp(0, (width, height)[axis] - 1) for axis in (0, 1))
    return (rows[:, :, None] * width + columns[:, None, :]).flatten(1)
