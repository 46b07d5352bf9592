"""Learnt cluster centres."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from selfsight.core.clock import Clock
from selfsight.core.part import Part

__all__ = ["Prototypes"]


class Prototypes(Part):
    """Unit-length prototypes, whose products with unit-length embeddings are cosine similarities (Caron et al. 2020, arXiv:2006.09882).

    They are normalised after every step, without gradient.

    Args:
        count: number of prototypes.
        dim: length of a prototype.
    """

    no_weight_decay = True

    def __init__(self, count: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(normalize(torch.randn(count, dim)))

    def forward(self, rows: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch cluster"]:
        return rows @ self.weight.to(rows.dtype).T

    @torch.no_grad()
    def set(self, rows: Float[Tensor, "some dim"]) -> None:
        """Set the first prototypes to these rows and the others to zero."""
        self.weight.zero_()[: len(rows)] = rows

    @torch.no_grad()
    def after_step(self, clock: Clock) -> None:
        self.weight.copy_(normalize(self.weight))
