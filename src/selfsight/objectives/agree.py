"""Losses that make one prediction match another.

Apart from the sources at the functions: cross-views as in DINO (Caron et al. 2021, arXiv:2104.14294).
"""

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
    "neighbour_consistency",
    "soft_cross_entropy",
]


def across_views(loss: Callable[[Tensor, Tensor], Tensor], guesses: Sequence[Tensor], targets: Sequence[Tensor]) -> Float[Tensor, ""]:
    """Mean loss over all pairs of a prediction and the target of another view.

    Args:
        loss: function of a prediction and a target.
        guesses: predictions, one per view.
        targets: targets of the first ``len(targets)`` views.
    """
    terms = [
        loss(guess, target)
        for target_view, target in enumerate(targets)
        for guess_view, guess in enumerate(guesses)
        if guess_view != target_view
    ]
    return torch.stack(terms).mean()


def across_pairs(loss: Callable[[Tensor, Tensor], Tensor], rows: Sequence[Tensor], large: int) -> Float[Tensor, ""]:
    """``across_views`` for a symmetric loss whose targets are the first ``large`` views themselves.

    The loss of a pair of large views is computed once and has weight two.

    Args:
        loss: symmetric function of two views' embeddings.
        rows: embeddings, one tensor per view, large views first.
        large: number of large views.
    """
    pairs = [(one, other) for one in range(large) for other in range(one + 1, len(rows))]
    weights = [2 if other < large else 1 for _, other in pairs]
    terms = [weight * loss(rows[one], rows[other]) for weight, (one, other) in zip(weights, pairs, strict=True)]
    return torch.stack(terms).sum() / sum(weights)


@in_full_precision
def cosine_distance(guess: Float[Tensor, "batch dim"], target: Float[Tensor, "batch dim"]) -> Float[Tensor, ""]:
    """Mean of ``2 - 2 cos(guess, target)`` (Grill et al. 2020, arXiv:2006.07733, eq. 2).

    Args:
        guess: predictions (N, D), of any length.
        target: targets (N, D), of any length.
    """
    return 2 - 2 * cosine_similarity(guess, target, dim=1).mean()


@in_full_precision
def counting(
    parts: Float[Tensor, "batch thing"], whole: Float[Tensor, "batch thing"], other: Float[Tensor, "batch thing"], margin: float
) -> Float[Tensor, ""]:
    """Mean of ``|whole - parts|² + max(0, M - |other - parts|²)`` (Noroozi et al. 2017, arXiv:1708.06734, eq. 4).

    Args:
        parts: counts (N, D) summed over the tiles of each image.
        whole: counts (N, D) of the downsampled image.
        other: counts (N, D) of another downsampled image.
        margin: M.
    """
    return ((whole - parts).square().sum(1) + relu(margin - (other - parts).square().sum(1))).mean()


@in_full_precision
def soft_cross_entropy(logits: Float[Tensor, "batch cluster"], target: Float[Tensor, "batch cluster"]) -> Float[Tensor, ""]:
    """Mean of ``-Σ_k target_k log softmax(logits)_k``.

    Args:
        logits: predictions (N, K).
        target: probabilities (N, K); rows sum to one.
    """
    return -(target * log_softmax(logits, dim=1)).sum(1).mean()


@in_full_precision
def mean_absolute_error(guess: Float[Tensor, "batch *shape"], target: Float[Tensor, "batch *shape"]) -> Float[Tensor, ""]:
    """Mean absolute difference over all elements.

    Args:
        guess: predictions (N, ...).
        target: targets (N, ...).
    """
    return (guess - target).abs().mean()


@in_full_precision
def mean_squared_error(guess: Float[Tensor, "batch *shape"], target: Float[Tensor, "batch *shape"]) -> Float[Tensor, ""]:
    """Mean squared difference over all elements.

    Args:
        guess: predictions (N, ...).
        target: targets (N, ...).
    """
    return (guess - target).square().mean()


@in_full_precision
def mutual_information(left: Float[Tensor, "batch cluster"], right: Float[Tensor, "batch cluster"]) -> Float[Tensor, ""]:
    """``I(c; c') = Σ P ln(P / (P_c P_c'))`` of two views' cluster probabilities (Ji et al. 2018, arXiv:1807.06653, eq. 3).

    P is the batch mean of ``p p'ᵀ``, symmetrised.

    Args:
        left: cluster probabilities (N, K) of one view.
        right: cluster probabilities (N, K) of the other view.

    Returns:
        Nats, between 0 and ln K. A loss minimises its negative.
    """
    joint = left.T @ right / len(left)
    joint = ((joint + joint.T) / 2).clamp(min=torch.finfo(joint.dtype).tiny)
    return (joint * (joint.log() - joint.sum(1, keepdim=True).log() - joint.sum(0, keepdim=True).log())).sum()


@in_full_precision
def neighbour_consistency(one: Float[Tensor, "batch cluster"], other: Float[Tensor, "batch cluster"], balance: float) -> Float[Tensor, ""]:
    """``-E log p·p' - λ H(E p)`` of neighbours' cluster probabilities (Van Gansbeke et al. 2020, arXiv:2005.12320, eq. 2).

    Args:
        one: cluster probabilities (N, K) of the images.
        other: cluster probabilities (N, K) of one neighbour of each image.
        balance: λ, weight of the entropy of the mean assignment.
    """
    tiny = torch.finfo(one.dtype).tiny
    agreed = (one * other).sum(1).clamp(min=tiny).log().mean()
    return -agreed - balance * torch.special.entr(one.mean(0)).sum()


@in_full_precision
def masked_cross_entropy(
    logits: Float[Tensor, "row cluster"], target: Float[Tensor, "row cluster"], hidden: Bool[Tensor, "batch patch"]
) -> Float[Tensor, ""]:
    """``-Σ_k target_k log softmax(logits)_k`` of masked patches (Zhou et al. 2021, arXiv:2111.07832, eq. 2).

    Args:
        logits: predictions (N · P, K), the patches of one image after those of another.
        target: probabilities (N · P, K) in the same order.
        hidden: mask (N, P), True for masked patches.

    Returns:
        The mean over the masked patches of each image, then over images; an image without masked patches contributes zero.
    """
    loss = -(target * log_softmax(logits, 1)).sum(1).view(hidden.shape)
    return ((loss * hidden).sum(1) / hidden.sum(1).clamp(min=1)).mean()
