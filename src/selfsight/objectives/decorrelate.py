"""Losses that decorrelate the coordinates of an embedding."""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import relu

from selfsight.objectives.precision import in_full_precision

__all__ = ["correlation_to_identity", "covariance_energy", "variance_hinge"]


@in_full_precision
def correlation_to_identity(left: Float[Tensor, "batch dim"], right: Float[Tensor, "batch dim"], off_diagonal: float) -> Float[Tensor, ""]:
    """Barlow Twins: ``Σ_i (1 - C_ii)² + λ Σ_{i≠j} C_ij²`` (Zbontar et al. 2021, arXiv:2103.03230, eq. 1).

    C is the cross-correlation of the two views, each standardised by its own batch mean and (biased) standard deviation.

    Args:
        left: embeddings (N, D) of the first views.
        right: embeddings (N, D) of the second views.
        off_diagonal: λ.
    """
    correlation = _standard(left).T @ _standard(right) / len(left)
    diagonal = correlation.diagonal()
    return (1 - diagonal).square().sum() + off_diagonal * (correlation.square().sum() - diagonal.square().sum())


def _standard(embeddings: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
    centred = embeddings - embeddings.mean(0)
    return centred / (centred.square().mean(0) + 1e-5).sqrt()


@in_full_precision
def variance_hinge(rows: Float[Tensor, "batch dim"], wanted: float = 1.0) -> Float[Tensor, ""]:
    """VICReg's variance term: mean over coordinates of ``max(0, γ - √(Var + 10⁻⁴))`` (Bardes et al. 2021, arXiv:2105.04906, eq. 1).

    Args:
        rows: embeddings (N, D); the variance is unbiased.
        wanted: γ, target standard deviation.
    """
    return relu(wanted - (rows.var(0) + 1e-4).sqrt()).mean()


@in_full_precision
def covariance_energy(rows: Float[Tensor, "batch dim"]) -> Float[Tensor, ""]:
    """VICReg's covariance term: ``Σ_{i≠j} C_ij² / d`` of the unbiased covariance C (Bardes et al. 2021, arXiv:2105.04906, eqs. 3 and 4)."""
    centred = rows - rows.mean(0)
    covariance = centred.T @ centred / (len(rows) - 1)
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / rows.shape[1]
