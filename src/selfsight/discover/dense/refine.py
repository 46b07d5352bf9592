"""Mask refinement to colour edges by an exact fully connected conditional random field."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate

__all__ = ["Field", "cells_of", "mean_field", "refined"]


FINE = 48
"""Maximum cells along the longer side of a refined mask: the kernel has a value for each pair of cells."""


@dataclass(frozen=True)
class Field:
    """Pairwise potentials of a fully connected CRF (Krähenbühl & Koltun 2011, arXiv:1210.5644).

    ``k_ij = colour exp(-|p_i - p_j|² / 2 reach² - |c_i - c_j|² / 2 tone²) + smooth exp(-|p_i - p_j|² / 2 near²)``, p in cells, c in [0, 1].

    Attributes:
        colour: weight of the appearance kernel.
        reach: its range in cells.
        tone: its range in colour.
        smooth: weight of the smoothness kernel.
        near: its range in cells.
        rounds: mean-field iterations.
    """

    colour: float = 10.0
    reach: float = 8.0
    tone: float = 0.08
    smooth: float = 3.0
    near: float = 1.0
    rounds: int = 10

    def kernel(self, colours: Float[Tensor, "batch 3 rows columns"]) -> Float[Tensor, "batch cell cell"]:
        """``k_ij`` with a zero diagonal, normalised symmetrically by the row sums, so that weights do not depend on the grid."""
        rows, columns = colours.shape[2:]
        positions = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).to(colours)
        distances = torch.cdist(positions, positions).square()
        flat = colours.flatten(2).transpose(1, 2)
        differences = torch.cdist(flat, flat).square()
        total = torch.zeros_like(differences)
        for weight, exponent in (
            (self.colour, distances / (2 * self.reach**2) + differences / (2 * self.tone**2)),
            (self.smooth, (distances / (2 * self.near**2)).expand_as(differences)),
        ):
            if weight:
                affinity = (-exponent).exp()
                affinity.diagonal(dim1=1, dim2=2).zero_()
                root = affinity.sum(2).clamp(min=1e-6).rsqrt()
                total += weight * affinity * root[:, :, None] * root[:, None]
        return total


def mean_field(
    unary: Float[Tensor, "batch label cell"], kernel: Float[Tensor, "batch cell cell"], rounds: int = 10
) -> Float[Tensor, "batch label cell"]:
    """Mean-field inference ``Q_i(l) ∝ exp(-u_i(l) + Σ_j k_ij Q_j(l))`` of the Potts energy ``Σ u_i(x_i) + Σ_i<j k_ij [x_i ≠ x_j]``.

    All cells are updated in parallel, with the full kernel.

    Args:
        unary: ``(B, label, cell)`` unary potentials.
        kernel: ``(B, cell, cell)`` pairwise weights.
        rounds: number of iterations.

    Returns:
        ``(B, label, cell)`` probabilities.
    """
    probabilities = (-unary).softmax(1)
    for _ in range(rounds):
        probabilities = (probabilities @ kernel - unary).softmax(1)
    return probabilities


def cells_of(shape: Sequence[int]) -> tuple[int, int]:
    """Rows and columns of cells for an image (height, width): its pixels, or ``FINE`` along the longer side."""
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
    """Refine masks over locations to finer cells, with edges at colour edges.

    Args:
        masks: ``(B, rows, columns)`` masks over locations.
        pixels: images ``(B, 3, H, W)`` in [0, 1].
        sure: prior probability that the mask of a cell is correct.
        field: pairwise potentials.
    """
    size = cells_of(pixels.shape[2:])
    colours = adaptive_avg_pool2d(pixels.float(), size)
    coverage = interpolate(torch.from_numpy(masks).to(colours)[:, None], size, mode="bilinear")[:, 0].flatten(1)
    probability = (1 - sure) + (2 * sure - 1) * coverage
    unary = -torch.stack([1 - probability, probability], 1).log()
    labels = [  # one image at a time: the kernel of 48 x 48 cells has 21 MB
        mean_field(unary[row : row + 1], field.kernel(colours[row : row + 1]), field.rounds) for row in range(len(pixels))
    ]
    return (torch.cat(labels)[:, 1] > 0.5).unflatten(1, size).cpu().numpy()
