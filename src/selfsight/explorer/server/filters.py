"""Which items are shown, and in which order: typed conditions on columns, never text that is run."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from selfsight.core.errors import UsageError
from selfsight.explorer.server.pack import Pack

__all__ = ["filter_rows", "inside_polygon"]

CONDITIONS, CORNERS, WORDS = 16, 2000, 200
"""How many conditions, corners of a lasso, and letters of a text are allowed."""
NUMBERS = {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal, "=": np.equal, "!=": np.not_equal}
SIGNS = (*NUMBERS, "has")


def filter_rows(
    pack: Pack,
    conditions: Sequence[Mapping[str, Any]] = (),
    *,
    lasso: Sequence[Any] = (),
    on: str = "",
    sort: str = "",
    descending: bool = False,
    extra: Mapping[str, np.ndarray] | None = None,
) -> Int[np.ndarray, " row"]:
    """Rows that fulfil all conditions and lie in the lasso, in the order that was asked for.

    Args:
        pack: the data set.
        conditions: each a ``column``, a ``sign`` (< <= > >= = != for numbers; = != has for text) and a ``value``.
        lasso, on: corners of a polygon, at least three, and the map on which it lies, the first by default.
        sort: a column; by default in the data's order. What is unknown comes last.
        descending: the largest first.
        extra: columns that are not in the pack, such as what a user said.

    Raises:
        UsageError: a column, a sign or a value cannot be meant.
    """
    if len(conditions) > CONDITIONS:
        raise UsageError(f"{len(conditions)} conditions are too many.", f"Give {CONDITIONS} or fewer.")
    keep = np.ones(len(pack), dtype=bool)
    for condition in conditions:
        keep &= _fulfilled(_column(pack, str(condition.get("column", "")), extra), condition)
    if lasso:
        keep &= inside_polygon(pack.places(on), lasso)
    rows = np.flatnonzero(keep)
    if not sort:
        return rows[::-1] if descending else rows
    values = _column(pack, sort, extra)[rows]
    if values.dtype == object:
        kinds, codes = np.unique(values.astype(str), return_inverse=True)
        values = np.where(kinds[codes] == "", np.nan, codes) if len(kinds) else codes
    unknown = ~np.isfinite(values)
    order = np.lexsort((-values if descending else values, unknown))
    return rows[order]


def _column(pack: Pack, name: str, extra: Mapping[str, np.ndarray] | None) -> np.ndarray:
    if extra and name in extra:
        return extra[name]
    if name == "name":
        return pack.names.to_numpy()
    return pack.column(name)


def _fulfilled(values: np.ndarray, condition: Mapping[str, Any]) -> Bool[np.ndarray, " row"]:
    sign, value = condition.get("sign"), condition.get("value")
    if sign not in SIGNS:
        raise UsageError(f"{sign!r} is no sign.", f"Signs are: {' '.join(SIGNS)}.")
    if values.dtype == object:
        text = str(value)
        if sign not in ("=", "!=", "has") or len(text) > WORDS:
            raise UsageError(f"A text cannot be asked for {sign} {text[:20]!r}.", "Ask a text with = != or has.")
        if sign == "has":
            wanted = text.casefold()
            return np.array([wanted in str(one).casefold() for one in values], dtype=bool)
        same = np.array([one == text for one in values], dtype=bool)
        return same if sign == "=" else ~same
    if sign == "has" or isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"A number cannot be asked for {sign} {str(value)[:20]!r}.", "Give a number.")
    try:
        return NUMBERS[sign](values, float(value))
    except OverflowError:
        raise UsageError("This number is too large.", "Give a smaller one.") from None


def inside_polygon(points: Float[np.ndarray, "point 2"], corners: Sequence[Any]) -> Bool[np.ndarray, " point"]:
    """Which points lie in a polygon, by the number of its sides to their right (even-odd rule).

    Raises:
        UsageError: it has fewer than three corners, or too many, or they are no pairs of numbers.
    """
    try:
        polygon: np.ndarray[Any, Any] = np.asarray(corners, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        polygon = np.zeros(0)
    if polygon.ndim != 2 or polygon.shape[1] != 2 or not 3 <= len(polygon) <= CORNERS or not np.isfinite(polygon).all():
        raise UsageError("This is no lasso.", f"Give 3 to {CORNERS} corners, each an x and a y.")
    low, high = polygon.min(0), polygon.max(0)
    near = np.flatnonzero(((points >= low) & (points <= high)).all(1))
    x, y = points[near, 0], points[near, 1]
    odd = np.zeros(len(near), dtype=bool)
    for (left, top), (right, bottom) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if top != bottom:
            crosses = (top > y) != (bottom > y)
            odd ^= crosses & (x < (right - left) * (y - top) / (bottom - top) + left)
    found = np.zeros(len(points), dtype=bool)
    found[near] = odd
    return found
