"""Clustering methods for image vectors, and the choice of the number of clusters."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Unpack

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize, one_hot

from selfsight.bank.nearest import nearest
from selfsight.core.errors import UsageError
from selfsight.core.progress import ProgressCallback, no_progress
from selfsight.discover.images.table import GROUPERS
from selfsight.discover.options import GrouperOptions
from selfsight.objectives.agree import neighbour_consistency
from selfsight.objectives.assign import balanced_assignment_in_chunks, kmeans

__all__ = ["Choice", "Grouper", "choose_count", "group", "silhouette"]

Rows = Float[Tensor, "image dim"]
Labels = Int[Tensor, " image"]
Grouper = Callable[..., Labels]
"""From unit-length rows and the number of clusters to cluster labels."""

JUDGED = 2000
"""Sample size of a silhouette."""


def spherical(rows: Rows, count: int, *, seed: int = 0, restarts: int = 5) -> Labels:
    """Spherical k-means: unit-length centroids, cosine similarity (Dhillon & Modha 2001).

    Args:
        rows: unit-length vectors ``(N, D)``.
        count: number of clusters.
        seed: seed of the initial centroids.
        restarts: number of runs; the best is kept.
    """
    return kmeans(rows, count, seed=seed, restarts=restarts, spherical=True).labels


def kmeans_groups(rows: Rows, count: int, *, seed: int = 0, restarts: int = 5) -> Labels:
    """k-means of unit-length rows (Lloyd 1982) with greedy k-means++ initialisation.

    Args:
        rows: unit-length vectors ``(N, D)``.
        count: number of clusters.
        seed: seed of the initial centroids.
        restarts: number of runs; the best is kept.
    """
    return kmeans(rows, count, seed=seed, restarts=restarts).labels


def balanced(rows: Rows, count: int, *, seed: int = 0, rounds: int = 20, sharpness: float = 25.0, wrong: float = 0.02) -> Labels:
    """Clusters of equal size by optimal transport (Asano et al. 2019, arXiv:1911.05371).

    Sinkhorn-Knopp assigns images to centroids by cosine; centroids are then recomputed, until nothing changes.

    Args:
        rows: unit-length vectors ``(N, D)``.
        count: number of clusters.
        seed: seed of the initial centroids.
        rounds: maximum number of iterations.
        sharpness: inverse temperature of the cosines.
        wrong: tolerated fraction of images beyond equal sizes.
    """
    start = kmeans(rows, count, seed=seed, spherical=True)
    centroids, labels = start.centroids, start.labels
    fractions = torch.full((count,), 1 / count, device=rows.device)
    for _ in range(rounds):
        scores = partial(_cosines, rows, centroids)
        previous, labels = labels, balanced_assignment_in_chunks(scores, len(rows), fractions, sharpness=sharpness, wrong=wrong).labels
        if torch.equal(previous, labels):
            break
        centroids = normalize(one_hot(labels, count).to(rows).T @ rows)
    return labels


def _cosines(rows: Rows, centroids: Tensor, part: slice) -> Tensor:
    return rows[part] @ centroids.T


@torch.enable_grad()
def scan(
    rows: Rows, count: int, *, seed: int = 0, neighbours: int = 20, heads: int = 5, balance: float = 5.0, steps: int = 300,
    batch: int = 512, rate: float = 3e-3,
) -> Labels:  # fmt: skip
    """SCAN with linear clustering heads on fixed vectors (Van Gansbeke et al. 2020, arXiv:2005.12320); the head with the lowest loss is kept.

    The loss makes nearest neighbours share a cluster and maximises the entropy of the cluster sizes.

    Args:
        rows: unit-length vectors ``(N, D)``.
        count: number of clusters.
        seed: seed of all random choices.
        neighbours: nearest neighbours per image, one of which is drawn per step.
        heads: number of heads, each initialised by its own k-means.
        balance: λ, weight of the entropy.
        steps: number of steps of Adam.
        batch: batch size.
        rate: learning rate.
    """
    _, indices = nearest(rows.cpu().numpy(), rows.cpu().numpy(), neighbours, exclude_self=True)
    neighbour_rows = torch.from_numpy(indices).to(rows.device)
    generator = torch.Generator().manual_seed(seed)
    centred = (rows - rows.mean(0)) / rows.std(0).mean().clamp(min=1e-6) / rows.shape[1] ** 0.5
    layer = nn.Linear(rows.shape[1], heads * count, device=rows.device)
    _initialise(layer, centred, [kmeans(rows, count, seed=seed + head, spherical=True).labels for head in range(heads)])
    optimiser, losses = torch.optim.Adam(layer.parameters(), lr=rate), torch.zeros(heads)
    for _ in range(steps):
        drawn = torch.randint(len(rows), (batch,), generator=generator)
        neighbour = neighbour_rows[drawn, torch.randint(neighbour_rows.shape[1], (batch,), generator=generator)]
        probabilities = [layer(centred[images]).unflatten(1, (heads, count)).softmax(2).unbind(1) for images in (drawn, neighbour)]
        head_losses = torch.stack([neighbour_consistency(first, second, balance) for first, second in zip(*probabilities, strict=True)])
        optimiser.zero_grad()
        torch.autograd.backward(head_losses.sum())
        optimiser.step()
        losses = 0.95 * losses + 0.05 * head_losses.detach().cpu()
    with torch.no_grad():
        return layer(centred).unflatten(1, (heads, count))[:, int(losses.argmin())].argmax(1)


def _initialise(layer: nn.Linear, centred: Rows, labels: Sequence[Labels]) -> None:
    """Initialise the heads by softmax regression on cluster labels, with twenty steps of L-BFGS."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimiser = torch.optim.LBFGS(layer.parameters(), max_iter=20, line_search_fn="strong_wolfe")

    def loss() -> float:
        optimiser.zero_grad()
        logits = layer(centred).unflatten(1, (len(labels), -1)).unbind(1)
        total = torch.stack([cross_entropy(prediction, label) for prediction, label in zip(logits, labels, strict=True)]).sum()
        total = total + 1e-3 * layer.weight.square().sum()
        total.backward()
        return total.item()

    optimiser.step(loss)


def group(
    rows: Float[np.ndarray, "image dim"], count: int, method: str = "spherical", *, seed: int = 0, **options: Unpack[GrouperOptions]
) -> Labels:
    """Cluster of each image, from 0, the largest cluster first.

    Args:
        rows: vectors ``(N, D)`` of any length.
        count: number of clusters.
        method: a name in ``GROUPERS``.
        seed: seed of all random choices.
        options: options of the method.

    Raises:
        UsageError: the method does not exist, or the number of clusters is below 2 or above the number of images.
    """
    grouper = GROUPERS.load(method)
    if not 2 <= count <= len(rows):
        raise UsageError(f"{len(rows):,} images cannot form {count} clusters.", f"Use 2 to {len(rows):,}.")
    labels = grouper(normalize(torch.from_numpy(np.array(rows, dtype=np.float32))), count, seed=seed, **options).cpu()
    order = torch.bincount(labels, minlength=count).argsort(descending=True, stable=True)
    return torch.empty(count, dtype=torch.long).scatter_(0, order, torch.arange(count))[labels]


def silhouette(rows: Float[np.ndarray, "image dim"], labels: Int[np.ndarray, " image"], *, seed: int = 0) -> float:
    """Mean silhouette ``(b - a) / max(a, b)`` (Rousseeuw 1987) over a sample of at most 2,000 images.

    a: mean distance ``1 - cos`` of an image to the others in its cluster, b: the smallest mean distance to another cluster. An image
    alone in its cluster counts 0.

    Args:
        rows: vectors ``(N, D)``.
        labels: ``(N,)`` cluster of each image.
        seed: seed of the sample.
    """
    drawn = np.sort(np.random.default_rng(seed).permutation(len(rows))[:JUDGED])
    unit = normalize(torch.from_numpy(np.array(rows[drawn], dtype=np.float32))).double()
    clusters = torch.from_numpy(np.unique(np.asarray(labels)[drawn], return_inverse=True)[1])
    member = one_hot(clusters).double()
    sizes = member.sum(0)
    if len(sizes) < 2:
        return 0.0
    distance = 1 - unit @ unit.T
    distance.fill_diagonal_(0)
    sums = distance @ member
    within = sums.gather(1, clusters[:, None])[:, 0] / (sizes[clusters] - 1).clamp(min=1)
    between = (sums / sizes).masked_fill(member.bool(), torch.inf).amin(1)
    values = torch.where(
        sizes[clusters] > 1, (between - within) / torch.maximum(within, between).clamp(min=1e-12), torch.zeros_like(within)
    )
    return float(values.mean())


@dataclass(frozen=True)
class Choice:
    """Fit of several numbers of clusters.

    Attributes:
        counts: numbers of clusters.
        silhouettes: mean silhouette of each; the largest is chosen.
        spread: mean ``1 - cos`` to the cluster centre, which always falls with the number of clusters.
    """

    counts: tuple[int, ...]
    silhouettes: tuple[float, ...]
    spread: tuple[float, ...]

    @property
    def best(self) -> int:
        """The number with the largest silhouette; the smaller one at ties."""
        return self.counts[int(np.argmax(self.silhouettes))]


def choose_count(
    rows: Float[np.ndarray, "image dim"],
    counts: Sequence[int] = (2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50),
    method: str = "spherical",
    *,
    seed: int = 0,
    progress: ProgressCallback = no_progress,
    **options: Unpack[GrouperOptions],
) -> Choice:
    """Choose the number of clusters with the largest silhouette.

    Args:
        rows: vectors ``(N, D)``.
        counts: candidates; those above half the number of images are skipped.
        method: see ``group``.
        seed: see ``group``.
        progress: called with a line per candidate.
        options: options of the method.

    Raises:
        UsageError: there are too few images for any candidate.
    """
    candidates = tuple(count for count in sorted(set(counts)) if 2 <= count <= len(rows) // 2)
    if not candidates:
        raise UsageError(f"For {len(rows)} images no number of clusters can be chosen.", "Use more images, or set --classes.")
    unit = normalize(torch.from_numpy(np.array(rows, dtype=np.float32)))
    scores, spreads = list[float](), list[float]()
    for count in candidates:
        labels = group(rows, count, method, seed=seed, **options)
        scores.append(silhouette(rows, labels.numpy(), seed=seed))
        means = normalize(one_hot(labels, count).float().T @ unit)
        spreads.append(float((1 - (unit * means[labels]).sum(1)).mean()))
        progress(f"{count} clusters: silhouette {scores[-1]:.3f}")
    return Choice(candidates, tuple(scores), tuple(spreads))
