"""How embeddings are distributed: rank, uniformity, alignment, distance from a normal distribution."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from selfsight.objectives.precision import in_full_precision

__all__ = ["alignment", "effective_rank", "embedding_spread", "gaussianity", "nearest_spread", "uniformity"]


@torch.no_grad()
@in_full_precision
def embedding_spread(rows: Float[Tensor, "batch dim"]) -> Float[Tensor, ""]:
    """``√d`` times the mean over coordinates of the standard deviation of the normalised embeddings.

    1 for embeddings that are uniform on the sphere, 0 for a constant one (Chen & He 2020, arXiv:2011.10566, figure 2).
    """
    return normalize(rows).std(0, correction=0).mean() * rows.shape[1] ** 0.5


@torch.no_grad()
@in_full_precision
def effective_rank(rows: Float[Tensor, "batch dim"]) -> Float[Tensor, ""]:
    """Exponential of the entropy of the normalised singular values of centred embeddings (Roy & Vetterli 2007; RankMe, arXiv:2210.02885).

    Between 1 (all rows on a line, or all equal) and the smaller of N and D.
    """
    centred = (rows - rows.mean(0)).cpu().double()
    gram = centred @ centred.T if len(centred) < centred.shape[1] else centred.T @ centred
    squares = torch.linalg.eigvalsh(gram)  # squared singular values, from the smaller of the two Gram matrices
    noise = squares.amax().clamp(min=0) * len(squares) * torch.finfo(squares.dtype).eps
    values = torch.where(squares > noise, squares, 0.0).sqrt()
    share = values / values.sum().clamp(min=torch.finfo(values.dtype).tiny)
    return torch.special.entr(share).sum().exp()


@in_full_precision
def alignment(left: Float[Tensor, "batch dim"], right: Float[Tensor, "batch dim"], power: float = 2.0) -> Float[Tensor, ""]:
    """``E |x - y|^α`` over positive pairs of normalised embeddings; 0 is best (Wang & Isola 2020, arXiv:2005.10242).

    Args:
        left: embeddings (N, D) of the first views.
        right: embeddings (N, D) of the second views.
        power: α.
    """
    return (normalize(left) - normalize(right)).norm(dim=1).pow(power).mean()


@in_full_precision
def uniformity(rows: Float[Tensor, "batch dim"], sharpness: float = 2.0) -> Float[Tensor, ""]:
    """``log E exp(-t |x - y|²)`` over pairs of different unit-length rows; lower is more uniform (Wang & Isola 2020, arXiv:2005.10242).

    A row of zeros stays zero, so that embeddings that are all zero have the value of equal ones, 0, the largest.

    Args:
        rows: embeddings (N, D); normalised here.
        sharpness: t.
    """
    count = len(rows)
    unit = normalize(rows)
    above = torch.ones(count, count, dtype=torch.bool, device=rows.device).triu(1)
    squared = _squared_distances(unit)[above]
    return (-sharpness * squared).logsumexp(0) - torch.tensor(count * (count - 1) / 2, dtype=squared.dtype).log()


@in_full_precision
def nearest_spread(rows: Float[Tensor, "batch dim"]) -> Float[Tensor, ""]:
    """KoLeo: ``-E log(min_{j≠i} |x_i - x_j| + 10⁻⁸)`` of normalised embeddings (Sablayrolles et al. 2018, arXiv:1806.03198, eq. 3).

    A row of zeros stays zero; its distance from another one is 0.
    """
    unit = normalize(rows)
    with torch.no_grad():
        nearest = _squared_distances(unit).fill_diagonal_(torch.inf).argmin(1)
    return -((unit - unit[nearest]).norm(dim=1) + 1e-8).log().mean()


def _squared_distances(rows: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch batch"]:
    """``|x|² + |y|² - 2 x·y`` of all pairs; normalised rows may have length 1 or, if they were zero, 0."""
    norms = rows.square().sum(1)
    return norms[:, None] + norms - 2 * rows @ rows.T


@in_full_precision
def gaussianity(rows: Float[Tensor, "batch dim"], directions: Float[Tensor, "direction dim"]) -> Float[Tensor, ""]:
    """Distance from a standard normal distribution along random directions (SIGReg; Balestriero & LeCun 2025, arXiv:2511.08544).

    The mean over directions of the Epps-Pulley statistic ``N ∫ |φ(t) - exp(-t²/2)|² exp(-t²/2) dt`` over [-3, 3], with φ the empirical
    characteristic function of ``rows · direction``. The integrand is even: twice the trapezoidal rule with 17 knots in [0, 3], the grid of
    the authors' code. Its step is 0.1875, so that a shift of less than 33.5 standard deviations is not mistaken for none.

    Args:
        rows: embeddings (N, D).
        directions: unit vectors (K, D).
    """
    knots = torch.linspace(0, 3, 17, dtype=rows.dtype, device=rows.device)
    normal = (-knots.square() / 2).exp()
    angles = (rows @ directions.to(rows).T)[..., None] * knots
    deviation = (angles.cos().mean(0) - normal).square() + angles.sin().mean(0).square()
    return len(rows) * 2 * torch.trapezoid(deviation * normal, knots, dim=1).mean()
