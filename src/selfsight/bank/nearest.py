"""Exact nearest-neighbour search."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from selfsight.bank.store import release_pages

__all__ = ["nearest"]

BLOCK = 65_536
"""Rows that are read and normalised at a time, so that a memory-mapped bank is never copied into memory at once."""


def nearest(
    queries: Float[np.ndarray, "query dim"],
    rows: Float[np.ndarray, "sample dim"],
    count: int,
    *,
    exclude_self: bool = False,
    chunk: int = 1024,
) -> tuple[Float[np.ndarray, "query count"], Int[np.ndarray, "query count"]]:
    """Exact k nearest neighbours by cosine similarity, in float32.

    Args:
        queries: (Q, D).
        rows: database (N, D), in memory or memory-mapped.
        count: k, reduced to the number of rows if there are fewer.
        exclude_self: whether queries are the rows themselves, which are not their own neighbours.
        chunk: queries per chunk.

    Returns:
        Cosine similarities and row numbers (Q, k), nearest first.
    """
    count = min(count, len(rows) - exclude_self)
    best: list[tuple[Tensor, Tensor]] = []
    for low in range(0, max(len(rows), 1), BLOCK):
        block = _unit(rows[low : low + BLOCK])
        release_pages(rows)
        found = [
            _block(_unit(queries[at : at + chunk]), block, count, low, at if exclude_self else None) for at in range(0, len(queries), chunk)
        ]
        cosines, indices = (torch.cat(part) for part in zip(*found, strict=True))
        best = [(cosines, indices)] if not best else [_merged(best[0], (cosines, indices), count)]
    return best[0][0].numpy(), best[0][1].numpy()


def _unit(rows: Float[np.ndarray, "row dim"]) -> Float[Tensor, "row dim"]:
    return normalize(torch.from_numpy(np.array(rows, dtype=np.float32)))


def _block(queries: Tensor, block: Tensor, count: int, low: int, start: int | None) -> tuple[Tensor, Tensor]:
    """The nearest rows of a block that starts at row ``low``; ``start``: row of the first query if queries are rows."""
    similar = queries @ block.T
    if start is not None:
        own = torch.arange(len(queries)) + start - low
        inside = (own >= 0) & (own < len(block))
        similar[inside.nonzero()[:, 0], own[inside]] = -2.0
    found = similar.topk(min(count, len(block)), dim=1)
    return found.values, found.indices + low


def _merged(left: tuple[Tensor, Tensor], right: tuple[Tensor, Tensor], count: int) -> tuple[Tensor, Tensor]:
    """The best of two lists of candidates."""
    cosines, indices = (torch.cat(pair, 1) for pair in zip(left, right, strict=True))
    found = cosines.topk(min(count, cosines.shape[1]), dim=1)
    return found.values, indices.gather(1, found.indices)
