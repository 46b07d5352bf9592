"""Assignment of samples to clusters: Sinkhorn-Knopp, balanced assignment, k-means."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from selfsight.core.errors import UsageError
from selfsight.objectives.precision import at_least_single, in_full_precision
from selfsight.objectives.seeding import spread_seeds, swapped_seeds

__all__ = [
    "BalancedAssignment",
    "Clustering",
    "balanced_assignment",
    "balanced_assignment_in_chunks",
    "balanced_weights",
    "by_size",
    "concentrations",
    "kmeans",
    "sinkhorn",
    "transport_plan",
    "whitened",
]


@torch.no_grad()
@in_full_precision
def sinkhorn(scores: Float[Tensor, "batch cluster"], *, epsilon: float = 0.05, rounds: int = 3) -> Float[Tensor, "batch cluster"]:
    """Soft assignments with equal marginals: Sinkhorn-Knopp on ``exp(scores / ε)`` (Cuturi 2013; Caron et al. 2020, arXiv:2006.09882).

    Args:
        scores: similarity (N, K) of samples and clusters.
        epsilon: ε, strength of the entropy regularisation; smaller gives harder assignments.
        rounds: iterations; each normalises clusters, then samples, in the log domain.

    Returns:
        Probabilities (N, K); rows sum to one.
    """
    log = scores / epsilon
    for _ in range(rounds):
        log = log - log.logsumexp(0, keepdim=True)  # every cluster has the same mass
        log = log - log.logsumexp(1, keepdim=True)  # every sample has the same mass
    return log.exp()


@torch.no_grad()
def transport_plan(
    log_probabilities: Float[Tensor, "sample cluster"],
    shares: Float[Tensor, " cluster"],
    *,
    sharpness: float = 25.0,
    tolerance: float = 0.01,
    most: int = 1000,
) -> Float[Tensor, "sample cluster"]:
    """Log of the transport plan ``Q ∝ diag(a) P^λ diag(b)`` with row sums ``1 / N`` and column sums ``shares``.

    Sinkhorn-Knopp over the whole data set, in the log domain and in float64 (Asano et al. 2019, arXiv:1911.05371, eq. 8).

    Args:
        log_probabilities: ln P (N, K).
        shares: wanted fraction (K,) of samples in each cluster.
        sharpness: λ.
        tolerance: sum of absolute differences between column sums and ``shares`` at which iteration stops.
        most: maximum number of iterations.

    Returns:
        ln Q (N, K), in float64.

    Raises:
        UsageError: the shares are not positive or do not sum to one.
    """
    wanted = _checked_shares(shares)
    log = sharpness * log_probabilities.double()
    log = log - log.logsumexp(1, keepdim=True) - math.log(len(log))
    for _ in range(most):
        masses = log.logsumexp(0)
        if float((masses.exp() - wanted).abs().sum()) < tolerance:
            break
        log = log + (wanted.log() - masses)
        log = log - log.logsumexp(1, keepdim=True) - math.log(len(log))
    return log


def _checked_shares(shares: Tensor) -> Tensor:
    wanted = shares.double()
    if not bool((wanted > 0).all()) or abs(float(wanted.sum()) - 1) > 1e-6:
        raise UsageError("The clusters' shares must be positive and sum to one.", "Divide them by their sum.")
    return wanted


@torch.no_grad()
def balanced_assignment(
    log_probabilities: Float[Tensor, "sample cluster"], shares: Float[Tensor, " cluster"], *, sharpness: float = 25.0, wrong: float = 0.02
) -> Int[Tensor, " sample"]:
    """Hard assignment with given cluster sizes: the argmax of ``transport_plan`` (Asano et al. 2019, arXiv:1911.05371).

    A plan that is too soft assigns most samples to the largest clusters. λ is then doubled, at most ten times, each time starting from the
    plan before: ``Q² ∝ diag(a²) P^2λ diag(b²)``.

    Args:
        log_probabilities: ln P (N, K).
        shares: wanted fraction (K,) of samples in each cluster, summing to one.
        sharpness: λ at the start.
        wrong: accepted fraction of samples by which cluster sizes deviate from ``shares``.

    Returns:
        The cluster (N,) of each sample.

    Raises:
        UsageError: the shares are not positive or do not sum to one.
    """
    plan = transport_plan(log_probabilities, shares, sharpness=sharpness)
    for _ in range(10):
        sizes = torch.bincount(plan.argmax(1), minlength=len(shares)).double() / len(plan)
        if float((sizes - shares.double()).abs().sum()) / 2 <= wrong:
            break
        plan = transport_plan(plan, shares, sharpness=2.0)
    return plan.argmax(1)


@dataclass(frozen=True)
class BalancedAssignment:
    """Clusters of prescribed sizes, with the rule that assigns any sample: the argmax of ``sharpness * score + offset``.

    Attributes:
        labels: cluster (N,) of each sample.
        offsets: offset (K,) of each cluster.
        sharpness: λ at the end.
        wrong: fraction of samples by which cluster sizes deviate from the shares.
        rounds: passes over the scores.
    """

    labels: Int[Tensor, " sample"]
    offsets: Float[Tensor, " cluster"]
    sharpness: float
    wrong: float
    rounds: int


@torch.no_grad()
def balanced_assignment_in_chunks(
    scores: Callable[[slice], Float[Tensor, "part cluster"]], count: int, shares: Float[Tensor, " cluster"], *, sharpness: float = 25.0,
    wrong: float = 0.02, tolerance: float = 0.01, most: int = 1000, part: int = 1024,
) -> BalancedAssignment:  # fmt: skip
    """``balanced_assignment`` in constant memory: scores are recomputed chunk by chunk in every iteration (Asano et al. 2019, arXiv:1911.05371).

    The plan is ``Q_ij = exp(λ s_ij + b_j + a_i)``, where a_i follows from the row's sum, so only the offsets b are stored.
    Log probabilities and logits give the same result, because they differ by a constant per row. Deterministic.

    Args:
        scores: function that gives the scores (n, K) of a slice of samples, such as ``lambda some: features[some] @ weight.T + bias``;
            its result may be overwritten.
        count: number of samples.
        shares: wanted fraction (K,) of samples in each cluster, summing to one.
        sharpness: λ at the start; see ``balanced_assignment``.
        wrong: accepted fraction of samples by which cluster sizes deviate from ``shares``.
        tolerance: sum of absolute differences of masses at which iteration stops; see ``transport_plan``.
        most: maximum number of iterations for each λ.
        part: samples per chunk.

    Raises:
        UsageError: the shares are not positive or do not sum to one.
    """
    wanted = _checked_shares(shares)
    labels = torch.empty(count, dtype=torch.long, device=shares.device)
    offsets, rounds, doublings, tries = torch.zeros_like(wanted), 0, 0, 0
    while True:
        masses = _pass(scores, offsets, sharpness, labels, part)
        rounds, tries = rounds + 1, tries + 1
        if tries <= most and float((masses - wanted).abs().sum()) >= tolerance:
            offsets = offsets + wanted.log() - masses.log()
            continue
        sizes = torch.bincount(labels, minlength=len(wanted)).double() / count
        deviation = float((sizes - wanted).abs().sum()) / 2
        if deviation <= wrong or doublings == 10:
            return BalancedAssignment(labels, offsets, sharpness, deviation, rounds)
        offsets, sharpness, doublings, tries = 2 * offsets, 2 * sharpness, doublings + 1, 0


def _pass(scores: Callable[[slice], Tensor], offsets: Tensor, sharpness: float, labels: Tensor, part: int) -> Tensor:
    """Cluster masses of the plan after its rows are normalised; writes each sample's argmax into ``labels``."""
    masses = torch.zeros_like(offsets)
    for start in range(0, len(labels), part):
        some = slice(start, min(start + part, len(labels)))
        log = at_least_single(scores(some))
        torch.add(offsets.to(log.dtype), log, alpha=sharpness, out=log)
        best = log.max(1, keepdim=True)
        labels[some] = best.indices[:, 0]
        plan = log.sub_(best.values).exp_()
        masses += (plan.T @ (1 / plan.sum(1))).double()
    return masses.clamp(min=torch.finfo(torch.float64).tiny) / len(labels)


@torch.no_grad()
def by_size(shares: Float[Tensor, " cluster"], log_probabilities: Float[Tensor, "sample cluster"]) -> Float[Tensor, " cluster"]:
    """Sort the shares so that the cluster with the most probability mass has the largest share, and so on (for ``transport_plan``).

    Used with the unequal cluster sizes of Asano et al. 2019 (arXiv:1911.05371).

    Args:
        shares: relative cluster sizes (K,) in any order; normalised to sum to one.
        log_probabilities: ln P (N, K).
    """
    order = log_probabilities.double().exp().sum(0).argsort(descending=True)
    wanted = torch.empty(len(shares), dtype=torch.float64, device=order.device)
    wanted[order] = (shares.double() / shares.sum()).sort(descending=True).values.to(order.device)
    return wanted


@dataclass(frozen=True)
class Clustering:
    """Result of k-means.

    Attributes:
        labels: cluster (N,) of each sample.
        centroids: (K, D).
        inertia: sum of squared distances of samples to their centroids.
        rounds: iterations that were run.
    """

    labels: Int[Tensor, " sample"]
    centroids: Float[Tensor, "cluster dim"]
    inertia: float
    rounds: int


@torch.no_grad()
def kmeans(
    rows: Float[Tensor, "sample dim"], clusters: int, *, seed: int = 0, rounds: int = 50, restarts: int = 1, spherical: bool = False
) -> Clustering:
    """Lloyd's algorithm (Lloyd 1982) from seeds of greedy k-means++ and local search (``objectives.seeding``).

    An empty cluster is moved to the sample that is farthest from its centroid.

    Args:
        rows: samples (N, D).
        clusters: K.
        seed: seed of the random numbers.
        rounds: maximum number of iterations.
        restarts: number of runs; the one with the smallest inertia is returned.
        spherical: whether rows and centroids are normalised to unit length (spherical k-means).

    Raises:
        UsageError: fewer samples than clusters.
    """
    if len(rows) < clusters:
        raise UsageError(f"{len(rows)} samples cannot make {clusters} clusters.", "Ask for fewer clusters.")
    rows = normalize(rows) if spherical else rows
    runs = [_lloyd(rows, clusters, seed + 7919 * restart, rounds, spherical) for restart in range(restarts)]
    return min(runs, key=lambda clustering: clustering.inertia)


def _lloyd(rows: Tensor, clusters: int, seed: int, rounds: int, spherical: bool) -> Clustering:  # noqa: FBT001
    centroids = swapped_seeds(rows, spread_seeds(rows, clusters, seed), seed)
    labels, done = torch.full((len(rows),), -1, device=rows.device), 0
    for _ in range(rounds):
        nearest, distances = _nearest(rows, centroids)
        done += 1
        if torch.equal(nearest, labels):
            break
        labels = nearest
        sums = torch.zeros_like(centroids).index_add_(0, labels, rows)
        counts = torch.bincount(labels, minlength=clusters)
        centroids = sums / counts.clamp(min=1)[:, None].to(rows.dtype)
        empty = (counts == 0).nonzero()[:, 0]
        if len(empty):
            centroids[empty] = rows[distances.topk(len(empty)).indices]
        centroids = normalize(centroids) if spherical else centroids
    labels, distances = _nearest(rows, centroids)
    return Clustering(labels, centroids, float(distances.sum()), done)


def _nearest(rows: Tensor, centroids: Tensor, chunk: int = 16_384) -> tuple[Tensor, Tensor]:
    """Nearest centroid of each row and the squared distance to it, ``|x|² - 2 x·c + |c|²``."""
    norms = centroids.square().sum(1)
    labels, distances = [], []
    for part in rows.split(chunk):
        best = (norms - 2 * part @ centroids.T).min(1)
        labels.append(best.indices)
        distances.append((best.values + part.square().sum(1)).clamp(min=0))
    return torch.cat(labels), torch.cat(distances)


@torch.no_grad()
def whitened(rows: Float[Tensor, "sample dim"], dim: int) -> Float[Tensor, "sample reduced"]:
    """PCA whitening, then normalisation to unit length (Caron et al. 2018, arXiv:1807.05520, section 3.3).

    Args:
        rows: samples (N, D).
        dim: maximum number of principal components.

    Returns:
        (N, min(dim, D, N - 1)).
    """
    centred = rows - rows.mean(0)
    values, vectors = torch.linalg.eigh(centred.T.double() @ centred.double() / len(rows))
    kept = min(dim, rows.shape[1], len(rows) - 1)
    values, vectors = values[-kept:], vectors[:, -kept:]
    scale = (values.clamp(min=0) + 1e-5 * values.max().clamp(min=1e-12)).rsqrt()  # directions without variance stay small
    return normalize((centred.double() @ (vectors * scale)).to(rows.dtype))


def balanced_weights(labels: Int[Tensor, " sample"], clusters: int) -> Float[Tensor, " cluster"]:
    """Class weights ``N / (K⁺ n_k)`` that give every non-empty cluster the same total weight (Caron et al. 2018, arXiv:1807.05520).

    Args:
        labels: cluster (N,) of each sample.
        clusters: K.

    Returns:
        Weights (K,), 0 for empty clusters; their mean over the samples is one.
    """
    counts = torch.bincount(labels, minlength=clusters)
    weights = len(labels) / (counts.clamp(min=1) * (counts > 0).sum())
    return torch.where(counts > 0, weights, torch.zeros_like(weights)).float()


def concentrations(
    rows: Float[Tensor, "sample dim"], found: Clustering, temperature: float, smoothing: float = 10.0
) -> Float[Tensor, " cluster"]:
    """Temperature of each cluster: ``φ = Σ |v - c| / (Z ln(Z + α))`` of its Z samples (Li et al. 2020, arXiv:2005.04966, eq. 12).

    A cluster of fewer than two samples gets the largest value. Values are clipped to their 10th and 90th percentile and scaled
    so that their mean is ``temperature``.

    Args:
        rows: samples v (N, D).
        found: clusters of these samples.
        temperature: mean of the result.
        smoothing: α.
    """
    clusters = len(found.centroids)
    counts = torch.bincount(found.labels, minlength=clusters)
    total_distance = torch.zeros(clusters, dtype=rows.dtype, device=rows.device)
    total_distance.index_add_(0, found.labels, (rows - found.centroids[found.labels]).norm(dim=1))
    width = total_distance / (counts * (counts + smoothing).log()).clamp(min=1)
    width = torch.where(counts < 2, width.max(), width)
    low, high = torch.quantile(width, torch.tensor([0.1, 0.9], dtype=width.dtype, device=width.device))
    width = width.clamp(low, high)
    return temperature * width / width.mean()
