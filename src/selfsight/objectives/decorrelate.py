"""Decorrelation: the coordinates of an embedding say different things."""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import relu

from selfsight.objectives.precision import in_full_precision

__all__ = ["correlation_to_identity", "covariance_energy", "missing_deviation"]


@in_full_precision
def correlation_to_identity(left: Float[Tensor, "batch dim"], right: Float[Tensor, "batch dim"], off_diagonal: float) -> Float[Tensor, ""]:
    """``Σ_i (1 - C_ii)² + λ Σ_{i≠j} C_ij²`` of the cross-correlation C of two views (Zbontar et al. 2021, arXiv:2103.03230, eq. 1).

    Each view is standardised by its own mean and (biased) standard deviation over the batch.
    """
    correlation = _standard(left).T @ _standard(right) / len(left)
    diagonal = correlation.diagonal()
    return (1 - diagonal).square().sum() + off_diagonal * (correlation.square().sum() - diagonal.square().sum())


def _standard(rows: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
    centred = rows - rows.mean(0)
    return centred / (centred.square().mean(0) + 1e-5).sqrt()


@in_full_precision
def missing_deviation(rows: Float[Tensor, "batch dim"], wanted: float = 1.0) -> Float[Tensor, ""]:
    """The mean over coordinates of ``max(0, γ - √(Var + 10⁻⁴))``, Var unbiased (Bardes et al. 2021, arXiv:2105.04906, eq. 1)."""
    return relu(wanted - (rows.var(0) + 1e-4).sqrt()).mean()


@in_full_precision
def covariance_energy(rows: Float[Tensor, "batch dim"]) -> Float[Tensor, ""]:
    """``Σ_{i≠j} C_ij² / d`` of the unbiased covariance C (Bardes et al. 2021, arXiv:2105.04906, eqs. 3 and 4)."""
    centred = rows - rows.mean(0)
    covariance = centred.T @ centred / (len(rows) - 1)
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / rows.shape[1]
