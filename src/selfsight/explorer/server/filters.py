"""Selection and order of items by typed conditions on columns; texts are never evaluated."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from selfsight.core.errors import UsageError
from selfsight.explorer.server.pack import Pack

__all__ = ["filter_rows", "inside_polygon"]

CONDITIONS, CORNERS, WORDS = 16, 2000, 200
"""Maximum number of conditions, of lasso corners, and of characters of a text."""
NUMBERS = {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal, "=": np.equal, "!=": np.not_equal}
SIGNS = (*NUMBERS, "has")


def filter_rows(
    pack: Pack, conditions: Sequence[Mapping[str, Any]] = (), *, lasso: Sequence[Any] = (), on: str = "", sort: str = "",
    descending: bool = False, extra: Mapping[str, np.ndarray] | None = None,
) -> Int[np.ndarray, " row"]:  # fmt: skip
    """Rows that meet all conditions and lie in the lasso, in the requested order.

    Args:
        pack: the data set.
        conditions: each with a ``column``, a ``sign`` (< <= > >= = != for numbers; = != has for text) and a ``value``.
        lasso: corners of a polygon, at least three; empty: no lasso.
        on: the map of the lasso; empty: the first.
        sort: a column; empty: the order of the data. Unknown values come last.
        descending: descending order.
        extra: columns that are not in the pack, such as edits.

    Raises:
        UsageError: a column, a sign or a value is invalid.
    """
    if len(conditions) > CONDITIONS:
        raise UsageError(f"{len(conditions)} conditions are too many.", f"Use at most {CONDITIONS}.")
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
        raise UsageError(f"{sign!r} is not an operator.", f"Operators are: {' '.join(SIGNS)}.")
    if values.dtype == object:
        text = str(value)
        if sign not in ("=", "!=", "has") or len(text) > WORDS:
            raise UsageError(f"A text column does not support {sign} {text[:20]!r}.", "Use = != or has.")
        if sign == "has":
            folded = text.casefold()
            return np.array([folded in str(one).casefold() for one in values], dtype=bool)
        same = np.array([one == text for one in values], dtype=bool)
        return same if sign == "=" else ~same
    if sign == "has" or isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"A numeric column does not support {sign} {str(value)[:20]!r}.", "Use a number.")
    try:
        return NUMBERS[sign](values, float(value))
    except OverflowError:
        raise UsageError("This number is too large.", "Use a smaller one.") from None


def inside_polygon(points: Float[np.ndarray, "point 2"], corners: Sequence[Any]) -> Bool[np.ndarray, " point"]:
    """Which points lie inside a polygon (even-odd rule).

    Args:
        points: ``(point, 2)`` x and y.
        corners: corners of the polygon, each an x and a y.

    Raises:
        UsageError: there are fewer than three corners or too many, or they are not pairs of numbers.
    """
    try:
        polygon: np.ndarray[Any, Any] = np.asarray(corners, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        polygon = np.zeros(0)
    if polygon.ndim != 2 or polygon.shape[1] != 2 or not 3 <= len(polygon) <= CORNERS or not np.isfinite(polygon).all():
        raise UsageError("The lasso is invalid.", f"Use 3 to {CORNERS} corners, each an x and a y.")
    low, high = polygon.min(0), polygon.max(0)
    near = np.flatnonzero(((points >= low) & (points <= high)).all(1))
    x, y = points[near, 0], points[near, 1]
    odd = np.zeros(len(near), dtype=bool)
    for (left, top), (right, bottom) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if top != bottom:
            crosses = (top > y) != (bottom > y)
            odd ^= crosses & (x < (right - left) * (y - top) / (bottom - top) + left)
    inside = np.zeros(len(points), dtype=bool)
    inside[near] = odd
    return inside
