"""Contrastive losses: each query is matched with its own key among negatives."""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax, normalize, softplus

from selfsight.objectives.precision import in_full_precision

__all__ = ["binary_nce", "info_nce", "instance_discrimination", "jensen_shannon_pairs", "nt_xent", "supervised_contrastive"]


@in_full_precision
def info_nce(
    query: Float[Tensor, "batch dim"],
    key: Float[Tensor, "batch dim"],
    temperature: float,
    *,
    negatives: Float[Tensor, "negative dim"] | None = None,
    unit: bool = True,
) -> Float[Tensor, ""]:
    """InfoNCE, the mean over queries of ``-q·k⁺/τ + log Σ exp(q·k/τ)`` (van den Oord et al. 2018, arXiv:1807.03748).

    Args:
        query: queries (N, D).
        key: positive keys (N, D), one per query.
        temperature: τ.
        negatives: keys (M, D) that the sum runs over besides the query's own (MoCo); by default the batch's other keys.
        unit: whether queries and keys are normalised to unit length; ``negatives`` are used unchanged.
    """
    query, key = (normalize(query), normalize(key)) if unit else (query, key)
    if negatives is None:
        logits = query @ key.T / temperature
        return cross_entropy(logits, torch.arange(len(query), device=query.device))
    own = (query * key).sum(1, keepdim=True)
    logits = torch.cat([own, query @ negatives.to(query.dtype).T], 1) / temperature
    return cross_entropy(logits, torch.zeros(len(query), dtype=torch.long, device=query.device))


@in_full_precision
def instance_discrimination(
    rows: Float[Tensor, "batch dim"],
    bank: Float[Tensor, "sample dim"],
    index: Int[Tensor, " batch"],
    temperature: float,
    drawn: Float[Tensor, "negative dim"] | None = None,
) -> Float[Tensor, ""]:
    """Mean of ``-v·b_i/τ + log Σ_j exp(v·b_j/τ)``: instance discrimination with a memory bank (Wu et al. 2018, arXiv:1805.01978, eq. 2).

    Args:
        rows: embeddings v (N, D); normalised to unit length here.
        bank: stored embeddings b (M, D), used unchanged.
        index: row of the bank (N,) that belongs to each embedding.
        temperature: τ.
        drawn: sampled negatives (K, D); the sum then runs over these and the own row instead of the whole bank.
    """
    if drawn is not None:
        return info_nce(rows, bank[index].to(rows.dtype), temperature, negatives=drawn)
    return cross_entropy(normalize(rows) @ bank.to(rows.dtype).T / temperature, index)


@in_full_precision
def nt_xent(left: Float[Tensor, "batch dim"], right: Float[Tensor, "batch dim"], temperature: float) -> Float[Tensor, ""]:
    """NT-Xent, the normalised temperature-scaled cross-entropy (Chen et al. 2020, arXiv:2002.05709, eq. 1).

    Each of the 2N views is an anchor: ``-s(i, i⁺)/τ + log Σ_{k ≠ i} exp(s(i, k)/τ)``, with s the cosine similarity; the mean over anchors.

    Args:
        left: embeddings (N, D) of the first views.
        right: embeddings (N, D) of the second views.
        temperature: τ.
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
    """Noise-contrastive estimation for instance discrimination (Wu et al. 2018, arXiv:1805.01978, eq. 7).

    The batch mean of ``-log h(own) - Σ_j log(1 - h(other_j))``, with ``h = P / (P + m / n)`` and ``P = exp(score) / Z``.

    Args:
        own: scores ``v·z / τ`` (N,) of the positives.
        others: scores (N, m) of m noise samples, drawn uniformly.
        log_partition: ln Z.
        samples: n, number of instances.
    """
    offset = log_partition + math.log(others.shape[1] / samples)
    return (softplus(offset - own) + softplus(others - offset).sum(1)).mean()


@in_full_precision
def supervised_contrastive(rows: Float[Tensor, "view dim"], labels: Int[Tensor, " view"], temperature: float) -> Float[Tensor, ""]:
    """Supervised contrastive loss (Khosla et al. 2020, arXiv:2004.11362, eq. 2).

    The mean over views of ``-1/|P(i)| Σ_{p ∈ P(i)} log softmax_{k ≠ i}(s(i, k)/τ)_p``, with P(i) the other views with the label of view i
    and s the cosine similarity.

    Args:
        rows: embeddings (N, D) of all views.
        labels: labels (N,); each has to occur at least twice.
        temperature: τ.
    """
    unit = normalize(rows)
    itself = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    logits = (unit @ unit.T / temperature).masked_fill(itself, float("-inf"))
    alike = (labels[:, None] == labels) & ~itself
    chances = log_softmax(logits, 1).masked_fill(~alike, 0.0)
    return -(chances.sum(1) / alike.sum(1)).mean()


@in_full_precision
def jensen_shannon_pairs(scores: Float[Tensor, "left right"], alike: Bool[Tensor, "left right"]) -> Float[Tensor, ""]:
    """``E softplus(-T)`` over positive pairs ``+ E softplus(T)`` over negative ones (Hjelm et al. 2018, arXiv:1808.06670, eq. 4).

    ``2 ln 2`` minus this is a lower bound of twice the Jensen-Shannon divergence between positive and negative pairs.

    Args:
        scores: T (L, R) for each pair.
        alike: mask (L, R), True for positive pairs.
    """
    return softplus(-scores[alike]).mean() + softplus(scores[~alike]).mean()
