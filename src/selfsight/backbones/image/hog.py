"""Histograms of oriented gradients as a network, so that what is asked of networks can be asked of them."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, unfold

from selfsight.core.errors import UsageError
from selfsight.core.representation import Backbone, Features

__all__ = ["HOG"]


class HOG(Backbone):
    """Gradients by direction, summed over cells and normalised over blocks of 2 x 2 cells (Dalal & Triggs 2005, CVPR).

    At each place the channel with the largest gradient counts. A block is divided by its length, cut at 0.2 and divided again. Its
    one layer, ``blocks``, has a place for each block, one fewer than cells a side.

    Args:
        cell: side of a cell in pixels.
        orientations: directions between 0 and 180 degrees.
        soft: a gradient counts for both neighbouring directions, so that the histogram has a slope everywhere; else for the one that
            it lies in, as published.

    Raises:
        UsageError: the image has fewer than two cells a side.
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
        down, across, strength = (each.gather(1, chosen) for each in (down, across, strength))
        cells = avg_pool2d(strength * self._shares(down, across), self.cell)
        windows = unfold(cells, 2).unflatten(2, (cells.shape[2] - 1, cells.shape[3] - 1))  # each direction's four cells
        short = _to_length_one(_to_length_one(windows).clamp(max=0.2))
        grid = self.blocks(short)
        return Features(grid.mean((2, 3)), grid)

    def _shares(self, down: Tensor, across: Tensor) -> Tensor:
        """How much of a gradient belongs to each direction."""
        count = len(self.middles)
        angle = torch.atan2(down, across) % math.pi * (count / math.pi)  # in widths of a direction
        far = (angle - self.middles[:, None, None]).abs()
        if not self.soft:
            return ((angle.floor() % count + 0.5 - self.middles[:, None, None]).abs() < 0.25).to(down)
        return (1 - torch.minimum(far, count - far)).clamp(min=0)


def _to_length_one(blocks: Tensor) -> Tensor:
    return blocks / (blocks.square().sum(1, keepdim=True) + 1e-10).sqrt()
