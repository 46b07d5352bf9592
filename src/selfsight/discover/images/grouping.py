"""Ways to group the vectors of pictures into clusters, and how many clusters they speak for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize, one_hot

from selfsight.bank.nearest import nearest
from selfsight.core.errors import UsageError
from selfsight.core.progress import ProgressCallback, no_progress
from selfsight.discover.images.table import GROUPERS
from selfsight.objectives.agree import neighbours_agree
from selfsight.objectives.assign import kmeans, shared_out_in_parts

__all__ = ["Choice", "Grouper", "choose_count", "group", "silhouette"]

Rows = Float[Tensor, "picture dim"]
Labels = Int[Tensor, " picture"]
Grouper = Callable[..., Labels]
"""From rows of unit length and the number of clusters to the cluster of each."""

JUDGED = 2000
"""Pictures whose distances to all others of them are known for a silhouette."""


def spherical(rows: Rows, count: int, *, seed: int = 0, restarts: int = 5) -> Labels:
    """k-means whose centroids have unit length, so that it goes by cosines (Dhillon & Modha 2001)."""
    return kmeans(rows, count, seed=seed, restarts=restarts, spherical=True).labels


def kmeans_groups(rows: Rows, count: int, *, seed: int = 0, restarts: int = 5) -> Labels:
    """k-means of unit-length rows (Lloyd 1982), from k-means++ seeds."""
    return kmeans(rows, count, seed=seed, restarts=restarts).labels


def balanced(rows: Rows, count: int, *, seed: int = 0, rounds: int = 20, sharpness: float = 25.0, wrong: float = 0.02) -> Labels:
    """Clusters of one size but for a part ``wrong`` (Asano et al. 2019, arXiv:1911.05371).

    Pictures are shared out by Sinkhorn and Knopp's scaling of their cosines with the centroids, which are then made again, until nothing
    moves or ``rounds`` are over.
    """
    found = kmeans(rows, count, seed=seed, spherical=True)
    centroids, labels = found.centroids, found.labels
    shares = torch.full((count,), 1 / count, device=rows.device)
    for _ in range(rounds):
        scores = partial(_cosines, rows, centroids)
        before, labels = labels, shared_out_in_parts(scores, len(rows), shares, sharpness=sharpness, wrong=wrong).labels
        if torch.equal(before, labels):
            break
        centroids = normalize(one_hot(labels, count).to(rows).T @ rows)
    return labels


def _cosines(rows: Rows, centroids: Tensor, some: slice) -> Tensor:
    return rows[some] @ centroids.T


@torch.enable_grad()
def scan(
    rows: Rows,
    count: int,
    *,
    seed: int = 0,
    neighbours: int = 20,
    heads: int = 5,
    balance: float = 5.0,
    steps: int = 300,
    batch: int = 512,
    rate: float = 3e-3,
) -> Labels:
    """Linear clusterers under which neighbours belong together and all clusters are filled; of several, that with the smallest loss.

    On vectors as they are (Van Gansbeke et al. 2020, arXiv:2005.12320).

    Args:
        rows, count, seed: vectors, clusters, of all chance.
        neighbours, heads: of each picture, one of which is drawn at a time; clusterers, each of which starts from a k-means of its own.
        balance: λ, weight of the entropy of all clusters.
        steps, batch, rate: of Adam.
    """
    _, near = nearest(rows.cpu().numpy(), rows.cpu().numpy(), neighbours, exclude_self=True)
    around = torch.from_numpy(near).to(rows.device)
    generator = torch.Generator().manual_seed(seed)
    centred = (rows - rows.mean(0)) / rows.std(0).mean().clamp(min=1e-6) / rows.shape[1] ** 0.5
    every = nn.Linear(rows.shape[1], heads * count, device=rows.device)
    _begin(every, centred, [kmeans(rows, count, seed=seed + place, spherical=True).labels for place in range(heads)])
    optimiser, losses = torch.optim.Adam(every.parameters(), lr=rate), torch.zeros(heads)
    for _ in range(steps):
        drawn = torch.randint(len(rows), (batch,), generator=generator)
        beside = around[drawn, torch.randint(around.shape[1], (batch,), generator=generator)]
        chances = [every(centred[some]).unflatten(1, (heads, count)).softmax(2).unbind(1) for some in (drawn, beside)]
        each = torch.stack([neighbours_agree(one, other, balance) for one, other in zip(*chances, strict=True)])
        optimiser.zero_grad()
        torch.autograd.backward(each.sum())
        optimiser.step()
        losses = 0.95 * losses + 0.05 * each.detach().cpu()
    with torch.no_grad():
        return every(centred).unflatten(1, (heads, count))[:, int(losses.argmin())].argmax(1)


def _begin(every: nn.Linear, centred: Rows, labels: Sequence[Labels]) -> None:
    """Clusterers that begin as the softmax regressions of clusters, twenty steps of L-BFGS."""
    nn.init.zeros_(every.weight)
    nn.init.zeros_(every.bias)
    optimiser = torch.optim.LBFGS(every.parameters(), max_iter=20, line_search_fn="strong_wolfe")

    def loss() -> float:
        optimiser.zero_grad()
        told = every(centred).unflatten(1, (len(labels), -1)).unbind(1)
        value = torch.stack([cross_entropy(one, known) for one, known in zip(told, labels, strict=True)]).sum()
        value = value + 1e-3 * every.weight.square().sum()
        value.backward()
        return value.item()

    optimiser.step(loss)


def group(rows: Float[np.ndarray, "picture dim"], count: int, method: str = "spherical", *, seed: int = 0, **options: Any) -> Labels:
    """The cluster of each picture, from 0, the largest first.

    Args:
        rows: one vector a picture, of any length.
        count: clusters.
        method: a name of ``GROUPERS``.
        seed: of all chance.
        options: of the method.

    Raises:
        UsageError: there is no such method, fewer than two clusters are asked for, or more than there are pictures.
    """
    grouper = GROUPERS.load(method)
    if not 2 <= count <= len(rows):
        raise UsageError(f"{len(rows):,} pictures cannot make {count} clusters.", f"Ask for 2 to {len(rows):,}.")
    found = grouper(normalize(torch.from_numpy(np.array(rows, dtype=np.float32))), count, seed=seed, **options).cpu()
    order = torch.bincount(found, minlength=count).argsort(descending=True, stable=True)
    return torch.empty(count, dtype=torch.long).scatter_(0, order, torch.arange(count))[found]


def silhouette(rows: Float[np.ndarray, "picture dim"], labels: Int[np.ndarray, " picture"], *, seed: int = 0) -> float:
    """The mean of ``(b - a) / max(a, b)`` (Rousseeuw 1987) over at most 2,000 pictures drawn by the seed.

    a: a picture's mean distance ``1 - cos`` to the others of its cluster, b: the least of its mean distances to those of another.
    A picture that is alone in its cluster counts 0.
    """
    drawn = np.sort(np.random.default_rng(seed).permutation(len(rows))[:JUDGED])
    unit = normalize(torch.from_numpy(np.array(rows[drawn], dtype=np.float32))).double()
    some = torch.from_numpy(np.unique(np.asarray(labels)[drawn], return_inverse=True)[1])
    member = one_hot(some).double()
    sizes = member.sum(0)
    if len(sizes) < 2:
        return 0.0
    distance = 1 - unit @ unit.T
    distance.fill_diagonal_(0)
    sums = distance @ member
    own = sums.gather(1, some[:, None])[:, 0] / (sizes[some] - 1).clamp(min=1)
    other = (sums / sizes).masked_fill(member.bool(), torch.inf).amin(1)
    value = torch.where(sizes[some] > 1, (other - own) / torch.maximum(own, other).clamp(min=1e-12), torch.zeros_like(own))
    return float(value.mean())


@dataclass(frozen=True)
class Choice:
    """How well several numbers of clusters fit.

    Attributes:
        counts: numbers of clusters.
        silhouettes: see ``silhouette``; the largest is the choice.
        spread: the mean of ``1 - cos`` to a cluster's mean direction, which falls with their number whatever there is.
    """

    counts: tuple[int, ...]
    silhouettes: tuple[float, ...]
    spread: tuple[float, ...]

    @property
    def best(self) -> int:
        """The number with the largest silhouette, the smaller of equals."""
        return self.counts[int(np.argmax(self.silhouettes))]


def choose_count(
    rows: Float[np.ndarray, "picture dim"],
    counts: Sequence[int] = (2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50),
    method: str = "spherical",
    *,
    seed: int = 0,
    progress: ProgressCallback = no_progress,
    **options: Any,
) -> Choice:
    """How many clusters vectors speak for: the number with the largest silhouette.

    Args:
        rows: one vector a picture.
        counts: numbers to try; those above half the number of pictures are left out.
        method, seed, options: see ``group``.
        progress: called with each result.
    """
    tried = tuple(count for count in sorted(set(counts)) if 2 <= count <= len(rows) // 2)
    if not tried:
        raise UsageError(f"Of {len(rows)} pictures no number of clusters can be chosen.", "Give more pictures, or --classes.")
    unit = normalize(torch.from_numpy(np.array(rows, dtype=np.float32)))
    scores, spreads = list[float](), list[float]()
    for count in tried:
        labels = group(rows, count, method, seed=seed, **options)
        scores.append(silhouette(rows, labels.numpy(), seed=seed))
        means = normalize(one_hot(labels, count).float().T @ unit)
        spreads.append(float((1 - (unit * means[labels]).sum(1)).mean()))
        progress(f"{count} clusters: silhouette {scores[-1]:.3f}")
    return Choice(tried, tuple(scores), tuple(spreads))
