"""Agreement: one prediction matches another."""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cosine_similarity, log_softmax

from selfsight.objectives.precision import in_full_precision

__all__ = ["cosine_distance", "soft_cross_entropy"]


@in_full_precision
def cosine_distance(guess: Float[Tensor, "batch dim"], target: Float[Tensor, "batch dim"]) -> Float[Tensor, ""]:
    """The mean of ``2 - 2 cos(guess, target)`` (Grill et al. 2020, arXiv:2006.07733, eq. 2)."""
    return 2 - 2 * cosine_similarity(guess, target, dim=1).mean()


@in_full_precision
def soft_cross_entropy(logits: Float[Tensor, "batch cluster"], target: Float[Tensor, "batch cluster"]) -> Float[Tensor, ""]:
    """The mean of ``-Σ_k target_k log softmax(logits)_k``; rows of ``target`` are probabilities."""
    return -(target * log_softmax(logits, dim=1)).sum(1).mean()
