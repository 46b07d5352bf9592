"""Contrast: a query finds its own key among others."""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax, normalize, softplus

from selfsight.objectives.precision import in_full_precision

__all__ = ["binary_nce", "info_nce", "nt_xent", "tell_pairs", "told_from_bank", "with_labels"]


@in_full_precision
def info_nce(
    query: Float[Tensor, "batch dim"],
    key: Float[Tensor, "batch dim"],
    temperature: float,
    *,
    negatives: Float[Tensor, "negative dim"] | None = None,
    unit: bool = True,
) -> Float[Tensor, ""]:
    """The mean over queries of ``-q·k⁺/τ + log Σ exp(q·k/τ)`` (van den Oord et al. 2018, arXiv:1807.03748).

    With ``negatives`` the sum runs over the query's own key and those (MoCo); without, over all keys of the batch.
    Rows are normalised to unit length here, unless ``unit`` says no.
    """
    query, key = (normalize(query), normalize(key)) if unit else (query, key)
    if negatives is None:
        logits = query @ key.T / temperature
        return cross_entropy(logits, torch.arange(len(query), device=query.device))
    own = (query * key).sum(1, keepdim=True)
    logits = torch.cat([own, query @ negatives.to(query.dtype).T], 1) / temperature
    return cross_entropy(logits, torch.zeros(len(query), dtype=torch.long, device=query.device))


@in_full_precision
def told_from_bank(
    rows: Float[Tensor, "batch dim"],
    bank: Float[Tensor, "sample dim"],
    index: Int[Tensor, " batch"],
    temperature: float,
    drawn: Float[Tensor, "negative dim"] | None = None,
) -> Float[Tensor, ""]:
    """The mean of ``-v·b_i/τ + log Σ_j exp(v·b_j/τ)`` for rows v of samples i (Wu et al. 2018, arXiv:1805.01978, eq. 2).

    The sum runs over all that is remembered, the row's own once; with ``drawn`` over the row's own and those. Rows are normalised
    to unit length here, the bank is as it is remembered.
    """
    if drawn is not None:
        return info_nce(rows, bank[index].to(rows.dtype), temperature, negatives=drawn)
    return cross_entropy(normalize(rows) @ bank.to(rows.dtype).T / temperature, index)


@in_full_precision
def nt_xent(left: Float[Tensor, "batch dim"], right: Float[Tensor, "batch dim"], temperature: float) -> Float[Tensor, ""]:
    """The normalised temperature-scaled cross-entropy (Chen et al. 2020, arXiv:2002.05709, eq. 1).

    Each of the 2B views is an anchor: ``-s(i, i⁺)/τ + log Σ_{k ≠ i} exp(s(i, k)/τ)``, s the cosine; the mean over anchors.
    """
    rows = normalize(torch.cat([left, right]))
    count = len(rows)
    logits = (rows @ rows.T / temperature).fill_diagonal_(float("-inf"))  # an anchor is not its own negative
    partner = torch.arange(count, device=rows.device).roll(count // 2)
    return cross_entropy(logits, partner)


@in_full_precision
def binary_nce(
    own: Float[Tensor, " batch"], others: Float[Tensor, "batch negative"], log_partition: Float[Tensor, ""], samples: int
) -> Float[Tensor, ""]:
    """Noise-contrastive estimation of instance discrimination (Wu et al. 2018, arXiv:1805.01978, eq. 7).

    ``-log h(own) - Σ_j log(1 - h(other_j))`` with ``h = P / (P + m / n)``, ``P = exp(score) / Z``, m noise samples of n instances,
    all alike; the mean over the batch. ``own`` and ``others`` are scores ``v·z / τ``.
    """
    offset = log_partition + math.log(others.shape[1] / samples)
    return (softplus(offset - own) + softplus(others - offset).sum(1)).mean()


@in_full_precision
def with_labels(rows: Float[Tensor, "view dim"], labels: Int[Tensor, " view"], temperature: float) -> Float[Tensor, ""]:
    """``-1/|P(i)| Σ_{p ∈ P(i)} log softmax_{k ≠ i}(s(i, k)/τ)_p``, the mean over views (Khosla et al. 2020, arXiv:2004.11362, eq. 2).

    P(i) are the other views with the label of view i, s is the cosine. Every label stands at two views or more.
    """
    unit = normalize(rows)
    itself = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    logits = (unit @ unit.T / temperature).masked_fill(itself, float("-inf"))
    alike = (labels[:, None] == labels) & ~itself
    chances = log_softmax(logits, 1).masked_fill(~alike, 0.0)
    return -(chances.sum(1) / alike.sum(1)).mean()


@in_full_precision
def tell_pairs(scores: Float[Tensor, "left right"], alike: Bool[Tensor, "left right"]) -> Float[Tensor, ""]:
    """``E softplus(-T)`` over pairs that belong together ``+ E softplus(T)`` over the others (Hjelm et al. 2018, arXiv:1808.06670, eq. 4).

    Less 2 ln 2 and with its sign turned, it bounds the Jensen-Shannon divergence of the two kinds of pairs.
    """
    return softplus(-scores[alike]).mean() + softplus(scores[~alike]).mean()
