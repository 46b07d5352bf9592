"""Textures: crops of the photographs in scikit-image's wheel, normalised to equal brightness and contrast."""

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from selfsight.data.readers.photo import photograph

__all__ = ["NAMES", "sample", "tile_side", "tiles"]

_CUTS = {
    "brick": ("brick", 0, 0, 512),
    "grass": ("grass", 0, 0, 400),
    "gravel": ("gravel", 0, 0, 512),
    "fur": ("chelsea", 30, 20, 150),
    "suit": ("astronaut", 300, 60, 200),
    "wood": ("coffee", 290, 440, 110),
    "stain": ("ihc", 0, 0, 512),
    "stars": ("hubble", 100, 100, 600),
    "craters": ("moon", 0, 0, 512),
    "metal": ("motorcycle", 130, 250, 240),
    "vessels": ("retina", 500, 500, 500),
    "coins": ("coins", 0, 0, 300),
}
"""Name of the photograph, top, left and side of the crop, in its pixels."""

NAMES = tuple(_CUTS)


def tile_side(size: int) -> int:
    """Side in texels of a texture for images of this size: one texel per pixel, twice the image."""
    return min(max(2 * size, 64), 256)


@lru_cache(maxsize=4)
def tiles(side: int) -> Float[Tensor, "1 3 height width"]:
    """All textures, one below the other, each of ``side`` x ``side`` with mean 0 and standard deviation 1 in brightness."""
    from PIL import Image

    found = []
    for name, top, left, cut in _CUTS.values():
        photo = photograph(name)[:, top : top + cut, left : left + cut]
        small = Image.fromarray(np.ascontiguousarray(photo.transpose(1, 2, 0))).resize((side, side), Image.Resampling.BILINEAR)
        values = np.asarray(small, dtype=np.float32) / 255
        low_frequencies = np.asarray(
            small.resize((4, 4), Image.Resampling.BOX).resize((side, side), Image.Resampling.BICUBIC), dtype=np.float32
        )
        values = values - low_frequencies / 255  # remove the photograph's illumination
        found.append(((values - values.mean(axis=(0, 1))) / values.mean(axis=2).std()).clip(-3, 3))
    return torch.from_numpy(np.concatenate(found, axis=0).transpose(2, 0, 1)[None].copy())


def sample(
    which: Int[Tensor, " batch"], x: Float[Tensor, "batch height width"], y: Float[Tensor, "batch height width"], side: int
) -> Float[Tensor, "batch 3 height width"]:
    """Bilinear texture lookup; textures are continued by mirroring.

    Args:
        which: index (N,) of the texture.
        x: horizontal position (N, H, W) in texels.
        y: vertical position (N, H, W) in texels.
        side: side of the textures in texels.

    Returns:
        (N, 3, H, W).
    """
    reach = side - 1.5
    x, y = ((place + 0.0).sub(0.25).remainder(2 * reach).sub(reach).abs().clamp(0.25, reach - 0.25) + 0.5 for place in (x, y))
    bank = tiles(side)
    y = y + which[:, None, None] * side
    grid = torch.stack([x * (2 / side) - 1, y * (2 / bank.shape[2]) - 1], dim=-1)
    batch, height, width, _ = grid.shape
    found = torch.nn.functional.grid_sample(bank, grid.reshape(1, batch * height, width, 2), align_corners=False)
    return found.reshape(3, batch, height, width).transpose(0, 1)
