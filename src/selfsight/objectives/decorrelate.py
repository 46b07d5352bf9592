"""Decorrelation: the coordinates of an embedding say different things."""

from jaxtyping import Float
from torch import Tensor

from selfsight.objectives.precision import in_full_precision

__all__ = ["correlation_to_identity"]


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
