"""Spread: how much room an embedding takes."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from selfsight.objectives.precision import in_full_precision

__all__ = ["alignment", "effective_rank", "embedding_spread", "uniformity"]


@torch.no_grad()
@in_full_precision
def embedding_spread(rows: Float[Tensor, "batch dim"]) -> Float[Tensor, ""]:
    """``√d`` times the mean over coordinates of the standard deviation of the unit-length rows.

    One for rows spread evenly over the sphere, zero for a constant (Chen & He 2020, arXiv:2011.10566, figure 2).
    """
    return normalize(rows).std(0, correction=0).mean() * rows.shape[1] ** 0.5


@torch.no_grad()
@in_full_precision
def effective_rank(rows: Float[Tensor, "batch dim"]) -> Float[Tensor, ""]:
    """The exponential of the entropy of the normalised singular values of the centred rows (Roy & Vetterli 2007; RankMe, arXiv:2210.02885).

    Between 1 (all rows on a line, or all equal) and the smaller of the two sides.
    """
    centred = (rows - rows.mean(0)).cpu().double()
    gram = centred @ centred.T if len(centred) < centred.shape[1] else centred.T @ centred
    squares = torch.linalg.eigvalsh(gram)  # of the singular values, by the smaller of the two products
    noise = squares.amax().clamp(min=0) * len(squares) * torch.finfo(squares.dtype).eps
    values = torch.where(squares > noise, squares, 0.0).sqrt()
    share = values / values.sum().clamp(min=torch.finfo(values.dtype).tiny)
    return torch.special.entr(share).sum().exp()


@in_full_precision
def alignment(left: Float[Tensor, "batch dim"], right: Float[Tensor, "batch dim"], power: float = 2.0) -> Float[Tensor, ""]:
    """``E |x - y|^α`` over pairs of unit-length rows; 0 is best (Wang & Isola 2020, arXiv:2005.10242)."""
    return (normalize(left) - normalize(right)).norm(dim=1).pow(power).mean()


@in_full_precision
def uniformity(rows: Float[Tensor, "batch dim"], sharpness: float = 2.0) -> Float[Tensor, ""]:
    """``log E exp(-t |x - y|²)`` over pairs of different unit-length rows; lower is more even (Wang & Isola 2020, arXiv:2005.10242)."""
    count = len(rows)
    unit = normalize(rows)
    above = torch.ones(count, count, dtype=torch.bool, device=rows.device).triu(1)
    squared = (2 - 2 * unit @ unit.T)[above]  # |x - y|² of unit-length rows
    return (-sharpness * squared).logsumexp(0) - torch.tensor(count * (count - 1) / 2, dtype=squared.dtype).log()
