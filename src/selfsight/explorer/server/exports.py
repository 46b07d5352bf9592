"""Export of a selection: spreadsheets, scripts, other explorers, labelling tools. Torch-free.

Text in tables that a spreadsheet would evaluate as a formula gets an apostrophe in front (``core.spreadsheets``).
"""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, Int

from selfsight.core.errors import UsageError
from selfsight.core.names import look_up, one_per_line, unused_name
from selfsight.core.spreadsheets import as_text, write_csv
from selfsight.discover.images.label_selection import first_of_group
from selfsight.explorer.server.mutual_knn import nearest_rows
from selfsight.explorer.server.store import ExplorerStore

__all__ = ["KINDS", "exported", "neighbours_of"]

NEAREST, COMPARED, PICTURED = 15, 20_000, 200_000
"""Embedding Atlas: neighbours per image; maximum number of rows with neighbours; maximum number of rows."""
PART = 1024


def exported(store: ExplorerStore, rows: Int[np.ndarray, " row"], kind: str) -> tuple[bytes, str]:
    """A selection as a file, and the name of the file.

    Args:
        store: the data set.
        rows: rows in order.
        kind: ``csv``, ``parquet``, ``txt`` (paths), ``labels`` (files and cluster names; the first of near-duplicates), or ``atlas`` for
            Embedding Atlas: the table, map positions, thumbnails, and the neighbours of up to 20,000 rows.

    Raises:
        UsageError: the kind does not exist, or there are too many rows for it.
    """
    return KINDS[look_up("kind of file", kind, KINDS)](store, rows)


def _csv(store: ExplorerStore, rows: Int[np.ndarray, " row"]) -> tuple[bytes, str]:
    return _lines(store.table(rows)), "selection.csv"


def _parquet(store: ExplorerStore, rows: Int[np.ndarray, " row"]) -> tuple[bytes, str]:
    buffer = io.BytesIO()
    pq.write_table(pa.table({as_text(name): pa.array(_cells(values)) for name, values in store.table(rows).items()}), buffer)
    return buffer.getvalue(), "selection.parquet"


def _atlas(store: ExplorerStore, rows: Int[np.ndarray, " row"]) -> tuple[bytes, str]:
    """A table for Embedding Atlas, with images.

    ``embedding-atlas atlas.parquet --image image --x projection_x --y projection_y --neighbors neighbors`` opens it. Neighbours are exact, by
    the first network and within the selection, for up to 20,000 rows; with more, omit the last option. As in Embedding Atlas, the first
    neighbour of a row is the row itself; 15 others follow.
    """
    if len(rows) > PICTURED:
        raise UsageError(f"{len(rows):,} images are too many for one file.", f"Select at most {PICTURED:,}.")
    names, places = store.pack.names.to_numpy()[rows], store.pack.places()[rows]
    images = [pa.array([store.pack.thumb(row) for row in rows.tolist()], pa.binary()), pa.array(names, pa.string())]
    atlas_columns = {
        "projection_x": pa.array(places[:, 0], pa.float32()),
        "projection_y": pa.array(places[:, 1], pa.float32()),
        "image": pa.StructArray.from_arrays(images, ["bytes", "path"]),
    }
    if len(rows) <= COMPARED:
        distances, ids = neighbours_of(next(iter(store.networks.values())).bank.pooled()[rows], min(NEAREST, max(len(rows) - 1, 0)))
        starts = pa.array(np.arange(len(rows) + 1) * ids.shape[1], pa.int32())
        lists = [pa.ListArray.from_arrays(starts, pa.array(values.ravel())) for values in (ids, distances)]
        atlas_columns["neighbors"] = pa.StructArray.from_arrays(lists, ["ids", "distances"])
    columns: dict[str, pa.Array] = {}
    for name, values in store.table(rows).items():
        cells = pa.array(_cells(values) if values.dtype == object else values, from_pandas=True)
        columns[unused_name(as_text(name), {*atlas_columns, *columns})] = cells
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns | atlas_columns), buffer)
    return buffer.getvalue(), "atlas.parquet"


def neighbours_of(
    vectors: Float[np.ndarray, "row dim"], count: int
) -> tuple[Float[np.ndarray, "row neighbour"], Int[np.ndarray, "row neighbour"]]:
    """Exact nearest neighbours by cosine distance ``1 - cos``, nearest first; the first is the row itself.

    Args:
        vectors: features ``(N, D)``.
        count: number of neighbours besides the row itself.

    Returns:
        ``(N, count + 1)`` distances and rows.
    """
    parts = [(rows, similarities) for _, rows, similarities in nearest_rows(vectors, count, PART)]
    rows, similarities = (
        (np.concatenate(columns) for columns in zip(*parts, strict=True))
        if parts
        else (np.zeros((0, count), np.int64), np.zeros((0, count)))
    )
    indices = np.arange(len(rows))[:, None]
    return np.concatenate([np.zeros_like(indices), 1 - similarities], 1).clip(min=0).astype(np.float32), np.concatenate([indices, rows], 1)


def _paths(store: ExplorerStore, rows: Int[np.ndarray, " row"]) -> tuple[bytes, str]:
    return one_per_line(store.table(rows)["file"]).encode(), "selection.txt"


def _labels(store: ExplorerStore, rows: Int[np.ndarray, " row"]) -> tuple[bytes, str]:
    table, labels = store.table(rows), store.labelled()[rows]
    named = np.flatnonzero(labels != "")
    if "duplicates" in table:
        named = named[first_of_group(table["duplicates"][named])]
    return _lines({"file": table["file"][named], "label": labels[named]}), "labels.csv"


def _cells(values: np.ndarray) -> list[Any]:
    return [as_text(value) for value in values.tolist()]


def _lines(table: dict[str, np.ndarray]) -> bytes:
    text = io.StringIO()
    write_csv(text, table, zip(*(values.tolist() for values in table.values()), strict=True))
    return text.getvalue().encode()


KINDS: dict[str, Callable[[ExplorerStore, Int[np.ndarray, " row"]], tuple[bytes, str]]] = {
    "atlas": _atlas,
    "csv": _csv,
    "labels": _labels,
    "parquet": _parquet,
    "txt": _paths,
}
