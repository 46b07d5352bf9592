"""Similarity of representations of the same samples: linear centred kernel alignment (Kornblith et al. 2019, arXiv:1905.00414).

With ``K = X Xᵀ`` and ``L = Y Yᵀ``, n samples each::

    CKA(X, Y) = HSIC(K, L) / √(HSIC(K, K) HSIC(L, L))

HSIC has an unbiased estimate (Song et al. 2012, JMLR 13, eq. 5), where ``~`` sets the diagonal to zero::

    HSIC(K, L) = [tr(K~ L~) + 1ᵀK~1 · 1ᵀL~1 / ((n - 1)(n - 2)) - 2 · 1ᵀK~ L~1 / (n - 2)] / (n (n - 3))

The biased estimate, ``|Xᵀ Y|² / (n - 1)²`` of centred rows, is high for independent noise unless samples outnumber dimensions: 0.89 for 64
samples of 512 dimensions. For batches, HSICs are summed before the ratio is taken (Nguyen et al. 2020, arXiv:2010.15327).
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from selfsight.core.errors import DataError, UsageError

__all__ = ["cka", "similarity_of_batches", "similarity_table"]

LEAST = 4
"""Minimum samples per batch: the unbiased estimate divides by n - 3."""
Rows = Float[np.ndarray, "sample _"]


def cka(left: Rows, right: Rows, *, unbiased: bool = True, batch: int | None = None, seed: int = 0) -> float:
    """Linear CKA of two representations of the same samples.

    1 for representations that are equal up to rotation, isotropic scaling and translation, about 0 for independent ones.

    Args:
        left: features (N, D) of the first representation.
        right: features (N, E) of the second one, in the same order.
        unbiased: use the unbiased estimate of HSIC; the value may then be slightly below 0.
        batch: minimum size of shuffled batches; all samples at once by default.
        seed: seed of the shuffling.

    Raises:
        UsageError: the numbers of samples differ.
        DataError: there are fewer than four samples.
    """
    return float(similarity_table([left, right], unbiased=unbiased, batch=batch, seed=seed)[0, 1])


def similarity_table(
    features: Sequence[Rows], *, unbiased: bool = True, batch: int | None = None, seed: int = 0
) -> Float[np.ndarray, "row column"]:
    """CKA of every pair of representations: layers, runs or models.

    Args:
        features: features (N, D) of each representation, of the same samples.
        unbiased: use the unbiased estimate of HSIC.
        batch: minimum size of shuffled batches; all samples at once by default.
        seed: seed of the shuffling.

    Raises:
        UsageError: the numbers of samples differ.
        DataError: there are fewer than four samples.
    """
    counts = {len(rows) for rows in features}
    if len(counts) != 1:
        raise UsageError(f"The representations have {' and '.join(map(str, sorted(counts)))} samples.", "Use the same samples for all.")
    count = counts.pop()
    order = np.random.default_rng(seed).permutation(count) if batch else np.arange(count)
    parts = np.array_split(order, max(count // batch, 1)) if batch else [order]
    return similarity_of_batches(([rows[part] for rows in features] for part in parts), unbiased=unbiased)


def similarity_of_batches(batches: Iterable[Sequence[Rows]], *, unbiased: bool = True) -> Float[np.ndarray, "row column"]:
    """CKA of every pair of representations whose rows come in batches, for data that do not fit into memory.

    Args:
        batches: features (n, D) of each representation, batch by batch; at least four samples per batch, of similar size.
        unbiased: use the unbiased estimate of HSIC, whose sum is unbiased for any batch sizes.

    Raises:
        DataError: a batch has fewer than four samples, or there is none.
    """
    total: Tensor | None = None
    for batch in batches:
        hsic = _hsic([torch.from_numpy(np.array(rows, dtype=np.float64)) for rows in batch], unbiased=unbiased)
        total = hsic if total is None else total + hsic
    if total is None:
        raise DataError("There are no samples.", "Pass at least one batch.")
    norms = total.diagonal().clamp(min=0).sqrt()  # the unbiased estimate can be negative
    scale = norms[:, None] * norms
    return torch.where(scale > 0, total / scale.clamp(min=torch.finfo(total.dtype).tiny), torch.zeros_like(total)).numpy()


def _hsic(features: list[Float[Tensor, "sample _"]], *, unbiased: bool) -> Float[Tensor, "row column"]:
    """HSIC of every pair."""
    count = len(features[0])
    if count < LEAST:
        raise DataError(f"{count} samples are too few to compare representations.", f"Use at least {LEAST} in every batch.")
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
    """``tr(K L) = |Xᵀ Y|²`` of every pair, by products of features or by Gram matrices, whichever needs fewer operations."""
    count, dims = len(features[0]), [rows.shape[1] for rows in features]
    by_features = count * (sum(dims) ** 2 + sum(dim**2 for dim in dims)) / 2
    by_grams = count**2 * (sum(dims) + len(dims) * (len(dims) + 1) / 2)
    if by_grams < by_features:
        grams = torch.stack([(rows @ rows.T).flatten() for rows in features])
        return grams @ grams.T
    traces = torch.empty(len(features), len(features), dtype=torch.float64)
    for row, left in enumerate(features):
        for column, right in enumerate(features[: row + 1]):
            traces[row, column] = traces[column, row] = (left.T @ right).square().sum()
    return traces
