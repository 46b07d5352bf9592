"""Exact nearest neighbours."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch.nn.functional import normalize

__all__ = ["nearest"]


def nearest(
    queries: Float[np.ndarray, "query dim"],
    rows: Float[np.ndarray, "sample dim"],
    count: int,
    *,
    exclude_self: bool = False,
    chunk: int = 1024,
) -> tuple[Float[np.ndarray, "query count"], Int[np.ndarray, "query count"]]:
    """The cosines and the row numbers of the ``count`` rows nearest to each query, nearest first; exact, in float32.

    ``exclude_self``: the queries are the rows themselves, and none is its own neighbour.
    """
    bank = normalize(torch.from_numpy(np.array(rows, dtype=np.float32)))
    asked = normalize(torch.from_numpy(np.array(queries, dtype=np.float32)))
    count = min(count, len(bank) - exclude_self)
    cosines, places = [], []
    for start in range(0, len(asked), chunk):
        similar = asked[start : start + chunk] @ bank.T
        if exclude_self:
            own = torch.arange(start, start + len(similar))
            similar[own - start, own] = -2.0
        best = similar.topk(count, dim=1)
        cosines.append(best.values)
        places.append(best.indices)
    return torch.cat(cosines).numpy(), torch.cat(places).numpy()
