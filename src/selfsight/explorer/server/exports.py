"""A selection as a file: for spreadsheets, scripts, other explorers, and whoever labels. Torch-free."""

import csv
import io
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, Int

from selfsight.core.errors import UsageError
from selfsight.core.names import look_up, unused_name
from selfsight.discover.images.label_selection import first_of_group
from selfsight.explorer.server.mutual_knn import nearest_rows
from selfsight.explorer.server.store import ExplorerStore

__all__ = ["KINDS", "exported", "neighbours_of"]

NEAREST, COMPARED, PICTURED = 15, 20_000, 200_000
"""Of an atlas: neighbours of a picture; rows up to which there are any; rows at most."""
PART = 1024


def exported(shelf: ExplorerStore, rows: Int[np.ndarray, " row"], kind: str) -> tuple[bytes, str]:
    """A selection as a file, and the file's name.

    Args:
        shelf: the data set.
        rows: that are written, in this order.
        kind: ``csv``, ``parquet``, ``txt`` (paths), ``labels`` (files and names given to clusters; of near-duplicates the first), or
            ``atlas``, for Embedding Atlas: the table, places on the map, small pictures, and of up to 20,000 rows the neighbours.

    Raises:
        UsageError: there is no such kind, or there are too many rows for it.
    """
    return KINDS[look_up("kind of file", kind, KINDS)](shelf, rows)


def _csv(shelf: ExplorerStore, rows: Int[np.ndarray, " row"]) -> tuple[bytes, str]:
    return _lines(shelf.table(rows)), "selection.csv"


def _parquet(shelf: ExplorerStore, rows: Int[np.ndarray, " row"]) -> tuple[bytes, str]:
    buffer = io.BytesIO()
    pq.write_table(pa.table({name: pa.array(values.tolist()) for name, values in shelf.table(rows).items()}), buffer)
    return buffer.getvalue(), "selection.parquet"


def _atlas(shelf: ExplorerStore, rows: Int[np.ndarray, " row"]) -> tuple[bytes, str]:
    """A table for Embedding Atlas, with pictures inside.

    ``embedding-atlas atlas.parquet --image image --x projection_x --y projection_y --neighbors neighbors`` opens it. Neighbours are exact,
    by the first network, within the selection, and there for up to 20,000 rows; of more, leave the last option away. As in what Embedding
    Atlas works out itself, each row's first neighbour is the row itself; 15 others follow.
    """
    if len(rows) > PICTURED:
        raise UsageError(f"{len(rows):,} pictures are too many for one file.", f"Select {PICTURED:,} or fewer.")
    names, places = shelf.pack.names.to_numpy()[rows], shelf.pack.places()[rows]
    pictures = [pa.array([shelf.pack.thumb(row) for row in rows.tolist()], pa.binary()), pa.array(names, pa.string())]
    own = {
        "projection_x": pa.array(places[:, 0], pa.float32()),
        "projection_y": pa.array(places[:, 1], pa.float32()),
        "image": pa.StructArray.from_arrays(pictures, ["bytes", "path"]),
    }
    if len(rows) <= COMPARED:
        distances, ids = neighbours_of(next(iter(shelf.networks.values())).bank.pooled()[rows], min(NEAREST, max(len(rows) - 1, 0)))
        starts = pa.array(np.arange(len(rows) + 1) * ids.shape[1], pa.int32())
        lists = [pa.ListArray.from_arrays(starts, pa.array(one.ravel())) for one in (ids, distances)]
        own["neighbors"] = pa.StructArray.from_arrays(lists, ["ids", "distances"])
    columns: dict[str, pa.Array] = {}
    for name, values in shelf.table(rows).items():
        columns[unused_name(name, {*own, *columns})] = pa.array(values, from_pandas=True)
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns | own), buffer)
    return buffer.getvalue(), "atlas.parquet"


def neighbours_of(
    vectors: Float[np.ndarray, "row dim"], count: int
) -> tuple[Float[np.ndarray, "row neighbour"], Int[np.ndarray, "row neighbour"]]:
    """Of each row ``1 - cos`` to itself and to the ``count`` rows nearest to it, nearest first, and which rows these are; exact."""
    parts = [(rows, alike) for _, rows, alike in nearest_rows(vectors, count, PART)]
    rows, alike = (
        (np.concatenate(some) for some in zip(*parts, strict=True)) if parts else (np.zeros((0, count), np.int64), np.zeros((0, count)))
    )
    own = np.arange(len(rows))[:, None]
    return np.concatenate([np.zeros_like(own), 1 - alike], 1).clip(min=0).astype(np.float32), np.concatenate([own, rows], 1)


def _paths(shelf: ExplorerStore, rows: Int[np.ndarray, " row"]) -> tuple[bytes, str]:
    return "".join(f"{name}\n" for name in shelf.table(rows)["file"]).encode(), "selection.txt"


def _labels(shelf: ExplorerStore, rows: Int[np.ndarray, " row"]) -> tuple[bytes, str]:
    table, labels = shelf.table(rows), shelf.labelled()[rows]
    named = np.flatnonzero(labels != "")
    if "duplicates" in table:
        named = named[first_of_group(table["duplicates"][named])]
    return _lines({"file": table["file"][named], "label": labels[named]}), "labels.csv"


def _lines(table: dict[str, np.ndarray]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(table)
    writer.writerows(zip(*(values.tolist() for values in table.values()), strict=True))
    return text.getvalue().encode()


KINDS: dict[str, Callable[[ExplorerStore, Int[np.ndarray, " row"]], tuple[bytes, str]]] = {
    "atlas": _atlas,
    "csv": _csv,
    "labels": _labels,
    "parquet": _parquet,
    "txt": _paths,
}
