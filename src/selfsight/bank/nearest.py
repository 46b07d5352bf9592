"""Exact nearest neighbours."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

__all__ = ["nearest"]

BLOCK = 65_536
"""Rows that are read and normalised at a time, so that a memory-mapped bank is never copied whole."""


def nearest(
    queries: Float[np.ndarray, "query dim"],
    rows: Float[np.ndarray, "sample dim"],
    count: int,
    *,
    exclude_self: bool = False,
    chunk: int = 1024,
) -> tuple[Float[np.ndarray, "query count"], Int[np.ndarray, "query count"]]:
    """The cosines and the row numbers of the ``count`` rows nearest to each query, nearest first; exact, in float32.

    Args:
        queries: vectors.
        rows: vectors that are searched, in memory or memory-mapped; 65,536 are read at a time.
        count: neighbours of each query, at most as many as there are rows.
        exclude_self: the queries are the rows themselves, and none is its own neighbour.
        chunk: queries that are compared at a time.
    """
    count = min(count, len(rows) - exclude_self)
    best: list[tuple[Tensor, Tensor]] = []
    for low in range(0, max(len(rows), 1), BLOCK):
        block = _unit(rows[low : low + BLOCK])
        found = [
            _block(_unit(queries[at : at + chunk]), block, count, low, at if exclude_self else None) for at in range(0, len(queries), chunk)
        ]
        cosines, places = (torch.cat(part) for part in zip(*found, strict=True))
        best = [(cosines, places)] if not best else [_merged(best[0], (cosines, places), count)]
    return best[0][0].numpy(), best[0][1].numpy()


def _unit(rows: Float[np.ndarray, "row dim"]) -> Float[Tensor, "row dim"]:
    return normalize(torch.from_numpy(np.array(rows, dtype=np.float32)))


def _block(asked: Tensor, block: Tensor, count: int, low: int, start: int | None) -> tuple[Tensor, Tensor]:
    """The nearest rows of a block that begins at row ``low``; ``start``: the row that the first query is, where queries are rows."""
    similar = asked @ block.T
    if start is not None:
        own = torch.arange(len(asked)) + start - low
        inside = (own >= 0) & (own < len(block))
        similar[inside.nonzero()[:, 0], own[inside]] = -2.0
    found = similar.topk(min(count, len(block)), dim=1)
    return found.values, found.indices + low


def _merged(left: tuple[Tensor, Tensor], right: tuple[Tensor, Tensor], count: int) -> tuple[Tensor, Tensor]:
    """The best of two lists of candidates."""
    cosines, places = (torch.cat(pair, 1) for pair in zip(left, right, strict=True))
    found = cosines.topk(min(count, cosines.shape[1]), dim=1)
    return found.values, places.gather(1, found.indices)
