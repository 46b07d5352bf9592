"""Agreement: one prediction matches another."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import cosine_similarity, log_softmax, relu

from selfsight.objectives.precision import in_full_precision

__all__ = [
    "across_pairs",
    "across_views",
    "cosine_distance",
    "counting",
    "masked_cross_entropy",
    "mean_absolute_error",
    "mean_squared_error",
    "mutual_information",
    "neighbours_agree",
    "soft_cross_entropy",
]


def across_views(loss: Callable[[Tensor, Tensor], Tensor], guesses: Sequence[Tensor], targets: Sequence[Tensor]) -> Float[Tensor, ""]:
    """The mean loss of every view's guess against every target of another view; the first views are those that have targets."""
    terms = [loss(guess, target) for own, target in enumerate(targets) for other, guess in enumerate(guesses) if other != own]
    return torch.stack(terms).mean()


def across_pairs(loss: Callable[[Tensor, Tensor], Tensor], rows: Sequence[Tensor], large: int) -> Float[Tensor, ""]:
    """``across_views`` of views with themselves as targets, the first ``large`` ones, for a loss that is alike both ways.

    A pair of large views is computed once and counts twice.
    """
    pairs = [(one, other) for one in range(large) for other in range(one + 1, len(rows))]
    weights = [2 if other < large else 1 for _, other in pairs]
    terms = [weight * loss(rows[one], rows[other]) for weight, (one, other) in zip(weights, pairs, strict=True)]
    return torch.stack(terms).sum() / sum(weights)


@in_full_precision
def cosine_distance(guess: Float[Tensor, "batch dim"], target: Float[Tensor, "batch dim"]) -> Float[Tensor, ""]:
    """The mean of ``2 - 2 cos(guess, target)`` (Grill et al. 2020, arXiv:2006.07733, eq. 2)."""
    return 2 - 2 * cosine_similarity(guess, target, dim=1).mean()


@in_full_precision
def counting(
    parts: Float[Tensor, "batch thing"], whole: Float[Tensor, "batch thing"], other: Float[Tensor, "batch thing"], margin: float
) -> Float[Tensor, ""]:
    """The mean of ``|whole - parts|² + max(0, M - |other - parts|²)`` (Noroozi et al. 2017, arXiv:1708.06734, eq. 4)."""
    return ((whole - parts).square().sum(1) + relu(margin - (other - parts).square().sum(1))).mean()


@in_full_precision
def soft_cross_entropy(logits: Float[Tensor, "batch cluster"], target: Float[Tensor, "batch cluster"]) -> Float[Tensor, ""]:
    """The mean of ``-Σ_k target_k log softmax(logits)_k``; rows of ``target`` are probabilities."""
    return -(target * log_softmax(logits, dim=1)).sum(1).mean()


@in_full_precision
def mean_absolute_error(guess: Float[Tensor, "batch *shape"], target: Float[Tensor, "batch *shape"]) -> Float[Tensor, ""]:
    """The mean of absolute differences over all numbers."""
    return (guess - target).abs().mean()


@in_full_precision
def mean_squared_error(guess: Float[Tensor, "batch *shape"], target: Float[Tensor, "batch *shape"]) -> Float[Tensor, ""]:
    """The mean of squared differences over all numbers."""
    return (guess - target).square().mean()


@in_full_precision
def mutual_information(left: Float[Tensor, "batch cluster"], right: Float[Tensor, "batch cluster"]) -> Float[Tensor, ""]:
    """``I(c; c') = Σ P ln(P / (P_c P_c'))`` of two views' cluster probabilities (Ji et al. 2018, arXiv:1807.06653, eq. 3).

    P is the mean over the batch of ``p p'ᵀ``, made symmetric. Between 0 and the logarithm of the number of clusters.
    """
    joint = left.T @ right / len(left)
    joint = ((joint + joint.T) / 2).clamp(min=torch.finfo(joint.dtype).tiny)
    return (joint * (joint.log() - joint.sum(1, keepdim=True).log() - joint.sum(0, keepdim=True).log())).sum()


@in_full_precision
def neighbours_agree(one: Float[Tensor, "batch cluster"], other: Float[Tensor, "batch cluster"], balance: float) -> Float[Tensor, ""]:
    """``-E log p·p' - λ H(E p)`` of neighbours' cluster probabilities (Van Gansbeke et al. 2020, arXiv:2005.12320, eq. 2)."""
    tiny = torch.finfo(one.dtype).tiny
    agreed = (one * other).sum(1).clamp(min=tiny).log().mean()
    return -agreed - balance * torch.special.entr(one.mean(0)).sum()


@in_full_precision
def masked_cross_entropy(
    logits: Float[Tensor, "row cluster"], target: Float[Tensor, "row cluster"], hidden: Bool[Tensor, "batch patch"]
) -> Float[Tensor, ""]:
    """``-Σ_k target_k log softmax(logits)_k`` of hidden patches (Zhou et al. 2021, arXiv:2111.07832, eq. 2).

    The mean over those of an image, then over images. Rows are patches, image after image; an image that hides nothing adds nothing.
    """
    loss = -(target * log_softmax(logits, 1)).sum(1).view(hidden.shape)
    return ((loss * hidden).sum(1) / hidden.sum(1).clamp(min=1)).mean()
