"""Colour prediction as classification (Zhang et al. 2016, arXiv:1603.08511)."""

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
    """Soft-encode each value over its nearest bins, ``∝ exp(-|v - m|² / 2σ²)`` (Zhang et al. 2016, arXiv:1603.08511, section 2.2).

    Args:
        values: colours v (N, D), such as the a and b channels of CIE Lab.
        middles: bin centres m (K, D).
        nearest: number of bins with a weight above zero.
        sigma: σ, in units of the values.

    Returns:
        Weights (N, K); rows sum to one.
    """
    found = torch.cdist(values, middles.to(values)).square().topk(min(nearest, len(middles)), largest=False)
    weights = (-found.values / (2 * sigma**2)).softmax(1)
    return values.new_zeros(len(values), len(middles)).scatter_(1, found.indices, weights)


@torch.no_grad()
@in_full_precision
def rebalancing(shares: Float[Tensor, " bin"], mix: float = 0.5) -> Float[Tensor, " bin"]:
    """Class weights that raise rare colours (Zhang et al. 2016, arXiv:1603.08511, eq. 4): ``w ∝ 1 / ((1 - λ) p + λ / Q)``, ``Σ p w = 1``.

    Args:
        shares: p (Q,), relative frequency of each bin.
        mix: λ, weight of the uniform distribution.
    """
    weights = 1 / ((1 - mix) * shares + mix / len(shares))
    return weights / (shares * weights).sum()
