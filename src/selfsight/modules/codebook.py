"""Codebook of patches."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

__all__ = ["Codebook"]


class Codebook(nn.Module):
    """Vector quantisation: each input becomes the index of its nearest row. Not trained by gradients.

    Args:
        codes: number of rows.
        dim: length of a row.
    """

    rows: Tensor

    def __init__(self, codes: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(codes, dim))

    @torch.no_grad()
    def forward(self, values: Float[Tensor, "*batch dim"]) -> Int[Tensor, "*batch"]:
        flat = values.flatten(0, -2).to(self.rows.dtype)
        return (self.rows.square().sum(1) - 2 * flat @ self.rows.T).argmin(1).view(values.shape[:-1])
