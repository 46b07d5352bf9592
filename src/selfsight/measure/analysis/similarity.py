"""How alike two representations of the same samples are: linear centred kernel alignment (Kornblith et al. 2019, arXiv:1905.00414).

With ``K = X Xᵀ`` and ``L = Y Yᵀ``, n samples each::

    CKA(X, Y) = HSIC(K, L) / √(HSIC(K, K) HSIC(L, L))

and HSIC is estimated without bias (Song et al. 2012, JMLR 13, eq. 5), where ``~`` sets the diagonal to zero::

    HSIC(K, L) = [tr(K~ L~) + 1ᵀK~1 · 1ᵀL~1 / ((n - 1)(n - 2)) - 2 · 1ᵀK~ L~1 / (n - 2)] / (n (n - 3))

The biased estimate, ``|Xᵀ Y|² / (n - 1)²`` of centred rows, calls independent noise alike where there are not many more samples than
numbers: 0.89 for 64 samples of 512. In batches, HSICs are summed and the ratio is taken last (Nguyen et al. 2020, arXiv:2010.15327).
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from selfsight.core.errors import DataError, UsageError

__all__ = ["cka", "similarity_of_batches", "similarity_table"]

LEAST = 4
"""Samples in a batch: the unbiased estimate divides by n - 3."""
Rows = Float[np.ndarray, "sample _"]


def cka(left: Rows, right: Rows, *, unbiased: bool = True, batch: int | None = None, seed: int = 0) -> float:
    """Linear CKA of two representations of the same samples: 1 for the same up to rotation, scale and shift, about 0 for independent ones.

    Args:
        left, right: one row a sample, in the same order.
        unbiased: estimate HSIC without bias; the value may then be slightly below 0.
        batch: take the samples in shuffled batches of at least so many; ``None``: all at once.
        seed: of the shuffling.

    Raises:
        UsageError: the rows are not of the same samples.
        DataError: there are fewer than four samples.
    """
    return float(similarity_table([left, right], unbiased=unbiased, batch=batch, seed=seed)[0, 1])


def similarity_table(
    features: Sequence[Rows], *, unbiased: bool = True, batch: int | None = None, seed: int = 0
) -> Float[np.ndarray, "row column"]:
    """CKA of every two of some representations: layers, runs or models, all of the same samples; see ``cka``."""
    counts = {len(rows) for rows in features}
    if len(counts) != 1:
        raise UsageError(
            f"The representations are of {' and '.join(map(str, sorted(counts)))} samples.", "Give rows of the same samples to all."
        )
    count = counts.pop()
    order = np.random.default_rng(seed).permutation(count) if batch else np.arange(count)
    parts = np.array_split(order, max(count // batch, 1)) if batch else [order]
    return similarity_of_batches(([rows[part] for rows in features] for part in parts), unbiased=unbiased)


def similarity_of_batches(batches: Iterable[Sequence[Rows]], *, unbiased: bool = True) -> Float[np.ndarray, "row column"]:
    """CKA of every two representations whose rows come in batches, for data that do not fit into memory.

    Args:
        batches: what each representation says of a batch of samples; at least four samples, and about as many in each.
        unbiased: estimate HSIC without bias; the sum over batches is then right whatever their size.

    Raises:
        DataError: a batch has fewer than four samples, or there is none.
    """
    total: Tensor | None = None
    for batch in batches:
        found = _hsic([torch.from_numpy(np.array(rows, dtype=np.float64)) for rows in batch], unbiased=unbiased)
        total = found if total is None else total + found
    if total is None:
        raise DataError("There are no samples.", "Give at least one batch.")
    own = total.diagonal().clamp(min=0).sqrt()  # an unbiased estimate of what is not negative may be so
    scale = own[:, None] * own
    return torch.where(scale > 0, total / scale.clamp(min=torch.finfo(total.dtype).tiny), torch.zeros_like(total)).numpy()


def _hsic(features: list[Float[Tensor, "sample _"]], *, unbiased: bool) -> Float[Tensor, "row column"]:
    """HSIC of every two."""
    count = len(features[0])
    if count < LEAST:
        raise DataError(f"{count} samples are too few to compare representations.", f"Give at least {LEAST} in every batch.")
    features = [rows - rows.mean(0) for rows in features]
    traces = _traces(features)
    if not unbiased:
        return traces / (count - 1) ** 2
    squares = torch.stack([rows.square().sum(1) for rows in features])  # the diagonals of K
    sums = torch.stack([rows @ rows.sum(0) for rows in features]) - squares  # K~1
    totals = sums.sum(1)
    without_diagonal = traces - squares @ squares.T
    corrected = without_diagonal + totals[:, None] * totals / ((count - 1) * (count - 2)) - 2 * sums @ sums.T / (count - 2)
    return corrected / (count * (count - 3))


def _traces(features: list[Float[Tensor, "sample _"]]) -> Float[Tensor, "row column"]:
    """``tr(K L) = |Xᵀ Y|²`` of every two, by products of features or by Gram matrices, whichever asks for fewer operations."""
    count, dims = len(features[0]), [rows.shape[1] for rows in features]
    by_features = count * (sum(dims) ** 2 + sum(dim**2 for dim in dims)) / 2
    by_grams = count**2 * (sum(dims) + len(dims) * (len(dims) + 1) / 2)
    if by_grams < by_features:
        grams = torch.stack([(rows @ rows.T).flatten() for rows in features])
        return grams @ grams.T
    found = torch.empty(len(features), len(features), dtype=torch.float64)
    for place, left in enumerate(features):
        for other, right in enumerate(features[: place + 1]):
            found[place, other] = found[other, place] = (left.T @ right).square().sum()
    return found
