"""Agreement of two labelings, computed from their contingency table."""

import numpy as np
from jaxtyping import Int
from scipy.optimize import linear_sum_assignment
from scipy.special import gammaln

__all__ = ["adjusted_mutual_information", "adjusted_rand", "contingency", "matched_accuracy", "normalised_mutual_information"]

Table = Int[np.ndarray, "row column"]


def contingency(left: Int[np.ndarray, " sample"], right: Int[np.ndarray, " sample"]) -> Table:
    """Contingency table: the number of samples with each pair of labels.

    Args:
        left: labels (N,); they need not be consecutive.
        right: labels (N,) of the same samples.

    Returns:
        (R, C), with one row for each label of ``left`` and one column for each of ``right``, in ascending order.
    """
    _, left = np.unique(left, return_inverse=True)
    _, right = np.unique(right, return_inverse=True)
    table = np.zeros((left.max(initial=-1) + 1, right.max(initial=-1) + 1), dtype=np.int64)
    np.add.at(table, (left, right), 1)
    return table


def matched_accuracy(table: Table) -> float:
    """Clustering accuracy: the largest fraction of correct samples over one-to-one matchings of clusters and classes (Kuhn 1955)."""
    rows, columns = linear_sum_assignment(table, maximize=True)
    return float(table[rows, columns].sum() / table.sum())


def _entropy(counts: np.ndarray) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def _mutual_information(table: Table) -> float:
    """``Σ p_ij log(p_ij / (p_i p_j))`` in nats."""
    rows, columns = np.nonzero(table)
    cells, total = table[rows, columns].astype(float), table.sum()
    outer = table.sum(1)[rows].astype(float) * table.sum(0)[columns]
    return float(max((cells / total * (np.log(cells) + np.log(total) - np.log(outer))).sum(), 0.0))


def _trivial(table: Table) -> bool:
    """Whether both labelings have a single class, or both give every sample a class of its own."""
    rows, columns = (np.count_nonzero(table.sum(axis)) for axis in (1, 0))
    return bool(rows == columns and (rows <= 1 or rows == table.sum()))


def normalised_mutual_information(table: Table) -> float:
    """NMI: mutual information over the mean of the two entropies (Vinh, Epps & Bailey 2010, JMLR 11)."""
    if _trivial(table):
        return 1.0
    mean_entropy = (_entropy(table.sum(1)) + _entropy(table.sum(0))) / 2
    return min(_mutual_information(table) / mean_entropy, 1.0) if mean_entropy > 0 else 0.0


def adjusted_rand(table: Table) -> float:
    """ARI: the Rand index corrected for chance (Hubert & Arabie 1985)."""
    if _trivial(table):
        return 1.0

    def pairs(counts: np.ndarray) -> float:
        wide = counts.astype(float)
        return float((wide * (wide - 1)).sum() / 2)

    both, rows, columns = pairs(table), pairs(table.sum(1)), pairs(table.sum(0))
    chance = rows * columns / pairs(np.asarray([table.sum()]))
    return (both - chance) / ((rows + columns) / 2 - chance)


def adjusted_mutual_information(table: Table) -> float:
    """AMI: mutual information corrected for chance, over the mean of the entropies (Vinh, Epps & Bailey 2010, JMLR 11, eq. 24a)."""
    if _trivial(table):
        return 1.0
    chance = _expected_information(table)
    mean_entropy = (_entropy(table.sum(1)) + _entropy(table.sum(0))) / 2
    tiny = np.finfo(float).eps
    scale = mean_entropy - chance
    scale = min(scale, -tiny) if scale < 0 else max(scale, tiny)
    return (_mutual_information(table) - chance) / scale


def _expected_information(table: Table) -> float:
    """Expected mutual information of random labelings with the same class sizes: the hypergeometric mean of each cell's term.

    Counts with a probability below e⁻⁵⁰ are omitted (Bernstein's bound: ``t²/2 >= 50 (σ² + t/3)`` above or below the mean), so that
    the cost grows with the square root of the number of samples.
    """
    (rows, row_times), (columns, column_times) = (np.unique(table.sum(axis)[table.sum(axis) > 0], return_counts=True) for axis in (1, 0))
    total = int(table.sum())
    row, column = (side.ravel() for side in np.meshgrid(rows, columns, indexing="ij"))
    mean = row.astype(float) * column / total
    reach = 50 / 3 + np.sqrt((50 / 3) ** 2 + 100 * mean * (1 - np.maximum(row, column) / total))
    lowest = np.maximum(np.maximum(1, row + column - total), np.floor(mean - reach).astype(np.int64))
    highest = np.minimum(np.minimum(row, column), np.ceil(mean + reach).astype(np.int64))
    counts = highest - lowest + 1
    pair = np.repeat(np.arange(len(row)), counts)  # every pair of sizes, once for each possible count of their cell
    cell = np.arange(len(pair)) - np.repeat(counts.cumsum() - counts, counts) + lowest[pair]
    row, column, times = row[pair], column[pair], np.outer(row_times, column_times).ravel()[pair]
    factorial = gammaln(np.arange(total + 2))  # factorial[n + 1] = log n!
    above = factorial[row + 1] + factorial[column + 1] + factorial[total - row + 1] + factorial[total - column + 1]
    below = factorial[cell + 1] + factorial[row - cell + 1] + factorial[column - cell + 1] + factorial[total - row - column + cell + 1]
    chance = np.exp(above - factorial[total + 1] - below)
    return float((times * chance * cell / total * (np.log(float(total) * cell) - np.log(row.astype(float) * column))).sum())
