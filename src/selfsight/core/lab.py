"""Lightness and colour: shared by networks that use one of them, and methods that predict the other."""

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["gamut", "lab"]


def lab(images: Float[Tensor, "batch 3 *size"]) -> Float[Tensor, "batch 3 *size"]:
    """CIE L*a*b* (white point D65) of sRGB values in [0, 1]: L from 0 to 100, a and b within ±110."""
    linear = torch.where(images > 0.04045, ((images.clamp(min=0) + 0.055) / 1.055) ** 2.4, images / 12.92)
    to_xyz = [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
    white = images.new_tensor([0.95047, 1.0, 1.08883])
    xyz = torch.einsum("ij,bj...->bi...", images.new_tensor(to_xyz) / white[:, None], linear)
    root = torch.where(xyz > 0.008856, xyz.clamp(min=0.008856) ** (1 / 3), 7.787 * xyz + 16 / 116)
    x, y, z = root.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


@lru_cache(maxsize=4)
def gamut(step: int = 10) -> Float[Tensor, "bin 2"]:
    """Grid points over a and b next to a cell that contains an sRGB colour (after Zhang et al. 2016, arXiv:1603.08511, section 2.1).

    A step of 10 gives 309 points; the paper has 313 with a conversion that it does not state.
    """
    levels = torch.arange(256, dtype=torch.float64) / 255
    pair = torch.cartesian_prod(levels, levels)
    faces = [torch.cat([pair[:, :axis], torch.full_like(pair[:, :1], end), pair[:, axis:]], 1) for axis in range(3) for end in (0, 1)]
    cells = (lab(torch.cat(faces))[:, 1:] / step).floor().unique(dim=0)  # the surface of the cube encloses its interior
    corners = torch.cat([cells + cells.new_tensor(corner) for corner in ((0, 0), (0, 1), (1, 0), (1, 1))])
    return corners.unique(dim=0).float() * step
