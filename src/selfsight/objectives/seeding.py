"""Seeds of k-means: greedy k-means++ and local search."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["spread_seeds", "swapped_seeds"]

CHUNK = 16_384
"""Rows whose distances to all seeds are held at once."""
PATIENCE = 8
"""Draws without an exchange after which the search ends, besides half the number of seeds."""


def spread_seeds(rows: Float[Tensor, "sample dim"], clusters: int, seed: int) -> Float[Tensor, "cluster dim"]:
    """Greedy k-means++: ``2 + ln K`` candidates are drawn with probability proportional to their squared distance from the seeds before.

    The candidate that leaves the smallest sum of squared distances is kept (Arthur & Vassilvitskii 2007, section 5; as in scikit-learn).

    Args:
        rows: samples (N, D).
        clusters: K.
        seed: seed of the random numbers.

    Returns:
        K of the rows.
    """
    generator = torch.Generator().manual_seed(seed)
    first = torch.randint(len(rows), (1,), generator=generator).to(rows.device)
    draws = torch.rand(clusters - 1, 2 + int(math.log(clusters)), generator=generator, dtype=torch.float64).to(rows.device)
    centred = rows - rows.mean(0)  # short vectors lose fewer digits in |x|² + |y|² - 2 x·y
    chosen, nearest = [first], _distances(centred, centred[first])[0]
    for draw in draws:
        drawn = _drawn(nearest, draw)
        left = torch.minimum(nearest, _distances(centred, centred[drawn]))
        best = left.sum(1).argmin(0, keepdim=True)
        chosen.append(drawn[best])
        nearest = left[best][0]
    return rows[torch.cat(chosen)]


def swapped_seeds(
    rows: Float[Tensor, "sample dim"], seeds: Float[Tensor, "cluster dim"], seed: int, *, steps: int | None = None
) -> Float[Tensor, "cluster dim"]:
    """Local search: a seed is exchanged for a sample if that lowers the sum of squared distances (Lattanzi & Sohler 2019, ICML).

    Each step draws a sample with probability proportional to its squared distance from the nearest seed, and makes the best exchange. Two
    seeds in one class and none in another are put right, which Lloyd's algorithm cannot do. A step costs two passes over the rows.

    Args:
        rows: samples (N, D).
        seeds: K of the rows.
        seed: seed of the random numbers.
        steps: maximum number of steps; None: K. The search ends after ``8 + K / 2`` steps without an exchange.
    """
    clusters = len(seeds)
    if clusters < 2:
        return seeds
    draws = torch.rand(clusters if steps is None else steps, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    mean = rows.mean(0)
    centred, centres = rows - mean, seeds - mean
    squared, places = _two_nearest(centred, centres)
    waited = 0
    for draw in draws.to(rows.device):
        total = float(squared[:, 0].sum(dtype=torch.float64))
        if total <= 0 or waited > PATIENCE + clusters // 2:
            break
        place = _drawn(squared[:, 0], draw[None])
        reached = _distances(centred, centred[place])[0]
        with_it, without = torch.minimum(squared[:, 0], reached), torch.minimum(squared[:, 1], reached)
        losses = torch.zeros(clusters, dtype=torch.float64, device=rows.device)
        losses.index_add_(0, places[:, 0], (without - with_it).double())
        worst = losses.argmin()
        waited += 1
        if float(with_it.sum(dtype=torch.float64) + losses[worst]) < total * (1 - 1e-6):
            waited = 0
            centres[worst] = centred[place[0]]
            changed = ((places == worst).any(1) | (reached < squared[:, 1])).nonzero()[:, 0]
            squared[changed], places[changed] = _two_nearest(centred[changed], centres)
    return centres + mean


def _drawn(weights: Float[Tensor, " sample"], draws: Float[Tensor, " draw"]) -> Int[Tensor, " draw"]:
    """Samples drawn with probability proportional to their weights, by numbers in [0, 1)."""
    reach = weights.cumsum(0, dtype=torch.float64)
    return torch.searchsorted(reach, draws * reach[-1]).clamp(max=len(weights) - 1)


def _distances(rows: Float[Tensor, "sample dim"], points: Float[Tensor, "point dim"]) -> Float[Tensor, "point sample"]:
    """Squared distances of all rows to some points; 0 where they are rounding errors of equal rows."""
    total = rows.square().sum(1) + points.square().sum(1, keepdim=True)
    squared = total - 2 * points @ rows.T
    return torch.where(squared > 8 * torch.finfo(rows.dtype).eps * total, squared, 0.0)


def _two_nearest(rows: Tensor, points: Tensor) -> tuple[Float[Tensor, "sample 2"], Int[Tensor, "sample 2"]]:
    """Squared distances to the two nearest points, and their indices."""
    found = [_distances(points, part).topk(2, dim=1, largest=False) for part in rows.split(CHUNK)]
    return torch.cat([part.values for part in found]), torch.cat([part.indices for part in found])
