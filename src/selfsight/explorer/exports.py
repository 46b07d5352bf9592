"""A selection as a file: for spreadsheets, scripts, and whoever labels. Torch-free."""

import csv
import io
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int

from selfsight.core.names import look_up
from selfsight.explorer.source import Shelf

__all__ = ["KINDS", "exported"]


def exported(shelf: Shelf, rows: Int[np.ndarray, " row"], kind: str) -> tuple[bytes, str]:
    """A selection as a file, and the file's name.

    Args:
        shelf: the data set.
        rows: that are written, in this order.
        kind: ``csv``, ``parquet``, ``txt`` (paths), or ``labels`` (files and names given to clusters; of near-duplicates the first).

    Raises:
        UsageError: there is no such kind.
    """
    return KINDS[look_up("kind of file", kind, KINDS)](shelf, rows)


def _csv(shelf: Shelf, rows: Int[np.ndarray, " row"]) -> tuple[bytes, str]:
    return _lines(shelf.table(rows)), "selection.csv"


def _parquet(shelf: Shelf, rows: Int[np.ndarray, " row"]) -> tuple[bytes, str]:
    buffer = io.BytesIO()
    pq.write_table(pa.table({name: pa.array(values.tolist()) for name, values in shelf.table(rows).items()}), buffer)
    return buffer.getvalue(), "selection.parquet"


def _paths(shelf: Shelf, rows: Int[np.ndarray, " row"]) -> tuple[bytes, str]:
    return "".join(f"{name}\n" for name in shelf.table(rows)["file"]).encode(), "selection.txt"


def _labels(shelf: Shelf, rows: Int[np.ndarray, " row"]) -> tuple[bytes, str]:
    table = shelf.table(rows)
    named = np.flatnonzero(table["cluster_name"] != "") if "cluster_name" in table else np.zeros(0, np.int64)
    if "duplicates" in table:
        named = named[_first(table["duplicates"][named])]
    return _lines({"file": table["file"][named], "label": table.get("cluster_name", table["file"])[named]}), "labels.csv"


def _first(groups: np.ndarray) -> np.ndarray:
    """Which rows are the first of their group of duplicates, or in none (NaN)."""
    first = ~np.isfinite(groups)
    first[np.unique(groups, return_index=True)[1]] = True
    return first


def _lines(table: dict[str, np.ndarray]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(table)
    writer.writerows(zip(*(values.tolist() for values in table.values()), strict=True))
    return text.getvalue().encode()


KINDS: dict[str, Callable[[Shelf, Int[np.ndarray, " row"]], tuple[bytes, str]]] = {
    "csv": _csv,
    "labels": _labels,
    "parquet": _parquet,
    "txt": _paths,
}
