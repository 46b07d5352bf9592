"""Histograms of oriented gradients as a backbone."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, unfold

from selfsight.core.errors import UsageError
from selfsight.core.representation import Backbone, Features

__all__ = ["HOG"]


class HOG(Backbone):
    """Histograms of gradient orientations over cells, normalised over blocks of 2 x 2 cells (Dalal & Triggs 2005, CVPR).

    At each pixel the channel with the largest gradient is used. A block is normalised, clipped at 0.2 and normalised again. The only
    layer, ``blocks``, has one position per block, one fewer per side than cells.

    Args:
        size: side of the images in pixels.
        channels: channels of the images.
        cell: side of a cell in pixels.
        orientations: directions between 0 and 180 degrees.
        soft: divide a gradient between the two neighbouring directions, so that the histogram is differentiable; otherwise each
            counts for one direction, as published.

    Raises:
        UsageError: the image has fewer than two cells per side.
    """

    def __init__(self, *, size: int = 96, channels: int = 3, cell: int = 8, orientations: int = 9, soft: bool = True) -> None:
        super().__init__()
        if size < 2 * cell:
            raise UsageError(f"Images of {size} px have no block of two cells of {cell} px.", "Choose smaller cells: hog?cell=4.")
        self.channels, self.stride, self.cell, self.soft = channels, cell, cell, soft
        self.dim = 4 * orientations
        self.middles = nn.Parameter(torch.arange(orientations) + 0.5, requires_grad=False)
        self.blocks = nn.Identity()
        self.layers = ("blocks",)

    def forward(self, images: Float[Tensor, "batch channel *size"]) -> Features:
        down, across = torch.zeros_like(images), torch.zeros_like(images)
        down[:, :, 1:-1] = images[:, :, 2:] - images[:, :, :-2]
        across[:, :, :, 1:-1] = images[:, :, :, 2:] - images[:, :, :, :-2]
        strength = (down.square() + across.square()).clamp(min=1e-20).sqrt()
        chosen = strength.detach().argmax(1, keepdim=True)
        down, across, strength = (values.gather(1, chosen) for values in (down, across, strength))
        cells = avg_pool2d(strength * self._direction_weights(down, across), self.cell)
        windows = unfold(cells, 2).unflatten(2, (cells.shape[2] - 1, cells.shape[3] - 1))  # the four cells of each direction
        normalised = _normalised(_normalised(windows).clamp(max=0.2))
        grid = self.blocks(normalised)
        return Features(grid.mean((2, 3)), grid)

    def _direction_weights(self, down: Tensor, across: Tensor) -> Tensor:
        """Weight of a gradient for each direction."""
        count = len(self.middles)
        angle = torch.atan2(down, across) % math.pi * (count / math.pi)  # in units of a direction's width
        distance = (angle - self.middles[:, None, None]).abs()
        if not self.soft:
            return ((angle.floor() % count + 0.5 - self.middles[:, None, None]).abs() < 0.25).to(down)
        return (1 - torch.minimum(distance, count - distance)).clamp(min=0)


def _normalised(blocks: Tensor) -> Tensor:
    return blocks / (blocks.square().sum(1, keepdim=True) + 1e-10).sqrt()
