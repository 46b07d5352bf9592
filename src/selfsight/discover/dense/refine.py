"""Edges of masks moved to edges of colour: a fully connected random field, exact."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate

__all__ = ["Field", "cells_of", "mean_field", "refined"]


FINE = 48
"""Cells along the longer side of a refined mask at most: the field is exact, and its kernel has a number for each pair of cells."""


@dataclass(frozen=True)
class Field:
    """How strongly cells pull each other to the same label (Krähenbühl & Koltun 2011, arXiv:1210.5644).

    ``k_ij = colour exp(-|p_i - p_j|² / 2 reach² - |c_i - c_j|² / 2 tone²) + smooth exp(-|p_i - p_j|² / 2 near²)``, p in cells, c in [0, 1].

    Attributes:
        colour, reach, tone: weight of likeness in place and colour; how far and how different in colour it reaches.
        smooth, near: weight of likeness in place alone; how far that reaches.
        rounds: of mean field.
    """

    colour: float = 10.0
    reach: float = 8.0
    tone: float = 0.08
    smooth: float = 3.0
    near: float = 1.0
    rounds: int = 10

    def kernel(self, colours: Float[Tensor, "batch 3 rows columns"]) -> Float[Tensor, "batch cell cell"]:
        """``k_ij``, none of a cell with itself, divided by the root of both its sums, so that weights mean the same on every grid."""
        rows, columns = colours.shape[2:]
        places = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).to(colours)
        apart = torch.cdist(places, places).square()
        tones = colours.flatten(2).transpose(1, 2)
        differ = torch.cdist(tones, tones).square()
        total = torch.zeros_like(differ)
        for weight, exponent in (
            (self.colour, apart / (2 * self.reach**2) + differ / (2 * self.tone**2)),
            (self.smooth, (apart / (2 * self.near**2)).expand_as(differ)),
        ):
            if weight:
                one = (-exponent).exp()
                one.diagonal(dim1=1, dim2=2).zero_()
                root = one.sum(2).clamp(min=1e-6).rsqrt()
                total += weight * one * root[:, :, None] * root[:, None]
        return total


def mean_field(
    unary: Float[Tensor, "batch label cell"], kernel: Float[Tensor, "batch cell cell"], rounds: int = 10
) -> Float[Tensor, "batch label cell"]:
    """Labels' probabilities of cells that pull each other to the same label: ``Q_i(l) ∝ exp(-u_i(l) + Σ_j k_ij Q_j(l))``.

    Mean field of the energy ``Σ u_i(x_i) + Σ_i<j k_ij [x_i ≠ x_j]`` (Potts), all cells at once in every round, with nothing left out.

    Args:
        unary: what each label costs each cell.
        kernel: how strongly cells pull.
        rounds: after which it ends.
    """
    chance = (-unary).softmax(1)
    for _ in range(rounds):
        chance = (chance @ kernel - unary).softmax(1)
    return chance


def cells_of(shape: Sequence[int]) -> tuple[int, int]:
    """Cells down and across of the field over a picture (height, width): its pixels, or ``FINE`` along the longer side."""
    scale = min(FINE / max(shape), 1)
    down, across = (max(round(side * scale), 1) for side in shape)
    return down, across


def refined(
    masks: Bool[np.ndarray, "batch rows columns"],
    pixels: Float[Tensor, "batch 3 height width"],
    *,
    sure: float = 0.8,
    field: Field = Field(),
) -> Bool[np.ndarray, "batch rows2 columns2"]:
    """Masks over places made again over finer cells, with edges where colours have theirs.

    Args:
        masks: over places.
        pixels: of the same pictures, in [0, 1].
        sure: the probability that a mask is right about a cell, before its neighbours are asked.
        field: how they pull.
    """
    size = cells_of(pixels.shape[2:])
    colours = adaptive_avg_pool2d(pixels.float(), size)
    inside = interpolate(torch.from_numpy(masks).to(colours)[:, None], size, mode="bilinear")[:, 0].flatten(1)
    chance = (1 - sure) + (2 * sure - 1) * inside
    unary = -torch.stack([1 - chance, chance], 1).log()
    found = [  # a picture at a time: the kernel of 48 x 48 cells has 21 MB
        mean_field(unary[row : row + 1], field.kernel(colours[row : row + 1]), field.rounds) for row in range(len(pixels))
    ]
    return (torch.cat(found)[:, 1] > 0.5).unflatten(1, size).cpu().numpy()
