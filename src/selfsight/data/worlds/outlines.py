"""Ten outlines as signed distance maps, with parts and landmarks, in coordinates where the object spans -1 to 1."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["NAMES", "OUTLINES", "REACH", "TILE", "Outline", "atlas"]

REACH = 1.3
"""The maps cover -1.3 to 1.3 along both axes."""

TILE = 128
_FINE = 6

Point = tuple[float | int, float | int]
Plane = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Outline:
    """A shape; x points right, y down.

    Attributes:
        inside: whether a point is inside.
        second: whether a point belongs to the second part.
        landmarks: named points.
        parts: names of the two parts.
    """

    inside: Plane
    second: Plane
    landmarks: tuple[Point, ...]
    parts: tuple[str, str]


def _polygon(*corners: Point) -> Plane:
    def inside(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        odd = np.zeros(np.broadcast(x, y).shape, dtype=bool)
        for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
            if ay != by:
                odd ^= ((ay > y) != (by > y)) & (x < (bx - ax) * (y - ay) / (by - ay) + ax)
        return odd

    return inside


def _star(points: int, inner: float) -> Plane:
    angles = np.arange(2 * points) * np.pi / points - np.pi / 2
    radii = np.where(np.arange(2 * points) % 2 == 0, 1.0, inner)
    return _polygon(*((float(r * np.cos(a)), float(r * np.sin(a))) for r, a in zip(radii, angles, strict=True)))


def _heart(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    lobes = np.hypot(np.abs(x) - 0.45, y + 0.35) < 0.5
    return lobes | ((np.abs(x) < 0.93 * (0.95 - y) / 1.14) & (y > -0.19) & (y < 0.95)) | ((np.abs(x) < 0.5) & (np.abs(y + 0.1) < 0.2))


def _upper(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return y + 0 * x < 0


def _lobes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return y + 0 * x < -0.1


def _post(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.abs(x) + 0 * y < 0.27


OUTLINES: dict[str, Outline] = {
    "disc": Outline(
        lambda x, y: np.hypot(x, y) < 0.82,
        lambda x, y: np.hypot(x, y) < 0.42,
        ((0, 0), (0, -0.65), (0.65, 0), (0, 0.65), (-0.65, 0)),
        ("rim", "core"),
    ),
    "square": Outline(
        lambda x, y: np.maximum(np.abs(x), np.abs(y)) < 0.74,
        _upper,
        ((0, 0), (-0.6, -0.6), (0.6, -0.6), (0.6, 0.6), (-0.6, 0.6)),
        ("lower", "upper"),
    ),
    "triangle": Outline(
        _polygon((0, -0.98), (0.95, 0.72), (-0.95, 0.72)),
        _upper,
        ((0, 0.2), (0, -0.65), (0.68, 0.55), (-0.68, 0.55)),
        ("base", "tip"),
    ),
    "star": Outline(
        _star(5, 0.42),
        lambda x, y: np.hypot(x, y) < 0.42,
        ((0, 0), (0, -0.75), (0.7, -0.23), (0.44, 0.6), (-0.44, 0.6), (-0.7, -0.23)),
        ("arms", "core"),
    ),
    "cross": Outline(
        lambda x, y: np.minimum(np.abs(x), np.abs(y)) + 10.0 * (np.maximum(np.abs(x), np.abs(y)) > 0.95) < 0.27,
        _post,
        ((0, 0), (0, -0.8), (0.8, 0), (0, 0.8), (-0.8, 0)),
        ("beam", "post"),
    ),
    "ring": Outline(
        lambda x, y: np.abs(np.hypot(x, y) - 0.68) < 0.22,
        _upper,
        ((0, -0.68), (0.68, 0), (0, 0.68), (-0.68, 0)),
        ("lower", "upper"),
    ),
    "heart": Outline(_heart, _lobes, ((0, 0), (-0.45, -0.4), (0.45, -0.4), (0, 0.65)), ("tip", "lobes")),
    "crescent": Outline(
        lambda x, y: (np.hypot(x - 0.15, y) < 0.95) & (np.hypot(x - 0.62, y) > 0.78),
        _upper,
        ((-0.47, 0), (-0.1, -0.7), (-0.1, 0.7)),
        ("lower", "upper"),
    ),
    "arrow": Outline(
        _polygon((0, -0.98), (0.85, 0.0), (0.3, 0.0), (0.3, 0.95), (-0.3, 0.95), (-0.3, 0.0), (-0.85, 0.0)),
        _upper,
        ((0, -0.65), (0, 0), (0, 0.8), (-0.55, -0.12), (0.55, -0.12)),
        ("shaft", "head"),
    ),
    "hourglass": Outline(
        lambda x, y: (np.abs(x) < np.maximum(0.8 * np.abs(y) / 0.9, 0.14)) & (np.abs(y) < 0.9),
        _upper,
        ((0, 0), (0, -0.7), (0, 0.7), (-0.5, -0.78), (0.5, -0.78), (0.5, 0.78), (-0.5, 0.78)),
        ("lower", "upper"),
    ),
}

NAMES = tuple(OUTLINES)


@lru_cache(maxsize=1)
def atlas() -> Float[Tensor, "1 4 height width"]:
    """All outlines, one below the other, in tiles of 128 x 128.

    The channels are signed distance (negative inside), slope of the rounded surface along x and along y, and part (0 first, 1 second).
    """
    from scipy.ndimage import distance_transform_edt, gaussian_filter

    fine = TILE * _FINE
    step = 2 * REACH / fine
    axis = (np.arange(fine) + 0.5) * step - REACH
    x, y = axis[None, :], axis[:, None]
    tiles = []
    for outline in OUTLINES.values():
        inside = outline.inside(x, y)
        distance = step * (np.asarray(distance_transform_edt(~inside)) - np.asarray(distance_transform_edt(inside)))
        distance = distance + np.where(inside, 0.5, -0.5) * step
        second = outline.second(x, y) + np.zeros_like(distance)
        coarse = [plane.reshape(TILE, _FINE, TILE, _FINE).mean(axis=(1, 3)) for plane in (distance, second)]
        height = gaussian_filter(np.minimum(-coarse[0], 0.35), 3.0)
        down, across = np.gradient(height, 2 * REACH / TILE)
        tiles.append(np.stack([coarse[0], across, down, coarse[1]]))
    return torch.from_numpy(np.concatenate(tiles, axis=1)[None].astype(np.float32))
