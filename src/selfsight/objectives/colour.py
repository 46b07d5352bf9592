"""Colours as classes."""

import torch
from jaxtyping import Float
from torch import Tensor

from selfsight.objectives.precision import in_full_precision

__all__ = ["rebalancing", "soft_bins"]


@torch.no_grad()
@in_full_precision
def soft_bins(
    values: Float[Tensor, "row dim"], middles: Float[Tensor, "bin dim"], *, nearest: int = 5, sigma: float = 5.0
) -> Float[Tensor, "row bin"]:
    """Each value as shares of its nearest bins, ``∝ exp(-|v - m|² / 2σ²)`` (Zhang et al. 2016, arXiv:1603.08511, section 2.2)."""
    found = torch.cdist(values, middles.to(values)).square().topk(min(nearest, len(middles)), largest=False)
    shares = (-found.values / (2 * sigma**2)).softmax(1)
    return values.new_zeros(len(values), len(middles)).scatter_(1, found.indices, shares)


@torch.no_grad()
@in_full_precision
def rebalancing(shares: Float[Tensor, " bin"], mix: float = 0.5) -> Float[Tensor, " bin"]:
    """Weights that raise rare colours: ``w ∝ 1 / ((1 - λ) p + λ / Q)`` with ``Σ p w = 1`` (Zhang et al. 2016, arXiv:1603.08511, eq. 4)."""
    weights = 1 / ((1 - mix) * shares + mix / len(shares))
    return weights / (shares * weights).sum()
