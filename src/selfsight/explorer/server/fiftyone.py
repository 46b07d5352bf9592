"""Conversion of a prepared data set to FiftyOne. Torch-free."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from selfsight.core.errors import MissingExtra, UsageError
from selfsight.core.files import inside
from selfsight.core.names import unused_name
from selfsight.explorer.server.store import ExplorerStore

__all__ = ["MAP", "to_fiftyone"]

MAP = "map"
"""Name of the brain run with the map."""


def to_fiftyone(folder: Path, name: str = "", *, rows: Int[np.ndarray, " row"] | None = None, thumbnails: Path | None = None) -> Any:
    """Convert a prepared data set to a FiftyOne data set, with all columns and edits.

    A sample uses the image file if the data set is a folder, otherwise a thumbnail. Its fields: ``file`` (the name here), ``label`` and each
    clustering as a ``Classification`` (the name of the cluster, otherwise its number), other columns as numbers and texts, ``note``, and
    ``embedding``, the features of the first network. Tags are FiftyOne's tags; the map is the brain run ``map``. Column names that FiftyOne
    does not allow or uses itself are changed with underscores.

    Args:
        folder: the prepared data set, such as the result of ``selfsight.explorer.prepare.build.find_or_prepare``.
        name: name of the FiftyOne data set; empty: generated.
        rows: rows of the images; None: all.
        thumbnails: folder of the thumbnails; None: ``FOLDER.thumbnails`` next to the prepared data set.

    Returns:
        The ``fiftyone.Dataset``; FiftyOne deletes it eventually unless its ``persistent`` is set.

    Raises:
        MissingExtra: FiftyOne is not installed.
        UsageError: the name is in use.
    """
    try:
        import fiftyone  # pyright: ignore[reportMissingImports]
        from fiftyone import brain  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise MissingExtra("fiftyone", "fiftyone", "A FiftyOne data set") from None
    if name and fiftyone.dataset_exists(name):
        raise UsageError(f"FiftyOne has a data set {name!r} already.", f"Use another name, or delete it: fiftyone.delete_dataset({name!r})")
    store = ExplorerStore.of(folder)
    chosen = np.arange(len(store.pack)) if rows is None else np.asarray(rows, dtype=np.int64)
    dataset = fiftyone.Dataset(name or None)
    copies = thumbnails / folder.name if thumbnails else folder.parent / f"{folder.name}.pictures"
    samples = _samples(fiftyone, store, chosen, copies, set(dataset.get_field_schema()))
    dataset.add_samples(samples, num_samples=len(chosen), progress=False)
    if len(chosen):
        brain.compute_visualization(dataset, points=np.asarray(store.pack.places()[chosen], np.float64), brain_key=MAP, method="manual")
    store.edits.close()
    return dataset


def _samples(fiftyone: Any, store: ExplorerStore, rows: Int[np.ndarray, " row"], copies: Path, taken: set[str]) -> Iterator[Any]:
    """One sample per image; ``taken``: field names of FiftyOne."""
    table, notes, classes = _columns(store, rows), store.edits.values("note"), {"label", *store.pack.clusterings}
    tags, fields = table.pop("tag"), _fields(table, taken | {"embedding", "note"})
    vectors, root = next(iter(store.networks.values())).bank.pooled(), _root(str(store.pack.about["data"]))
    for index, row in enumerate(rows.tolist()):
        values: dict[str, Any] = {"embedding": np.array(vectors[row], np.float32)} | ({"note": notes[row]} if row in notes else {})
        for column, field in fields.items():
            value = table[column][index]
            if isinstance(value, str) and value:
                values[field] = fiftyone.Classification(label=value) if column in classes else value
            elif not isinstance(value, str) and np.isfinite(value):
                values[field] = float(value)
        path = _image_file(store, row, str(table["file"][index]), root, copies)
        yield fiftyone.Sample(filepath=str(path), tags=[tags[index]] if tags[index] else [], **values)


def _columns(store: ExplorerStore, rows: Int[np.ndarray, " row"]) -> dict[str, np.ndarray]:
    """The table of the images; clusterings by cluster names, otherwise numbers, after merging."""
    table = store.table(rows)
    for of in store.pack.clusterings:
        names, numbers = table.pop(f"{of}_name"), store.clusters_of(of)[rows].tolist()
        table[of] = np.array([name or str(number) for name, number in zip(names, numbers, strict=True)], dtype=object)
    return table


def _fields(columns: Iterable[str], taken: set[str]) -> dict[str, str]:
    """FiftyOne's field name for each column."""
    names = dict[str, str]()
    for column in columns:
        names[column] = unused_name(column.replace(".", "_").replace("$", "_").lstrip("_") or "column", {*taken, *names.values()})
    return names


def _root(data: str) -> Path | None:
    """The folder of a data set, if it is one; options after a question mark are ignored."""
    candidates = (Path(part).expanduser() for part in (data, data.partition("?")[0]) if part)
    return next((path.resolve() for path in candidates if path.is_dir()), None)


def _image_file(store: ExplorerStore, row: int, name: str, root: Path | None, copies: Path) -> Path:
    """The image file, or a thumbnail."""
    if root is not None and inside(root, name, links=True).is_file():
        return root / name
    copy = copies.resolve() / f"{row:08d}.jpg"
    if not copy.is_file():
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(store.pack.thumb(row))
    return copy
