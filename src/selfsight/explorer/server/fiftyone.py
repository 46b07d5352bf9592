"""A prepared data set as one of FiftyOne. Torch-free."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from selfsight.core.errors import MissingExtra, UsageError
from selfsight.core.names import unused_name
from selfsight.explorer.server.store import ExplorerStore

__all__ = ["MAP", "to_fiftyone"]

MAP = "map"
"""The brain run that holds the map."""


def to_fiftyone(folder: Path, name: str = "", *, rows: Int[np.ndarray, " row"] | None = None, pictures: Path | None = None) -> Any:
    """Make a FiftyOne data set of a prepared data set, with all that is known and was said of each picture.

    A sample is the picture's own file where the data set is a folder, else a small copy of it. Its fields: ``file`` (the name here),
    ``label`` and each clustering as a ``Classification`` (a cluster by its name, else its number), other columns as numbers and texts,
    ``note``, and ``embedding``, what the first network says. Tags are FiftyOne's tags; the map is the brain run ``map``. A column whose
    name FiftyOne forbids or has in use has underscores in it or behind it.

    Args:
        folder: of the prepared data set, such as ``selfsight.explorer.prepare.build.ready`` returns.
        name: of the FiftyOne data set; one that it makes up by default.
        rows: of the pictures; all by default.
        pictures: where small copies are written; ``FOLDER.pictures``, beside the prepared data set, by default; else in a folder of its own therein.

    Returns:
        The ``fiftyone.Dataset``; FiftyOne deletes it in the end unless its ``persistent`` is set.

    Raises:
        MissingExtra: FiftyOne is not installed.
        UsageError: the name is taken.
    """
    try:
        import fiftyone  # pyright: ignore[reportMissingImports]
        from fiftyone import brain  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise MissingExtra("fiftyone", "fiftyone", "A FiftyOne data set") from None
    if name and fiftyone.dataset_exists(name):
        raise UsageError(
            f"FiftyOne has a data set {name!r} already.", f"Give another name, or delete it: fiftyone.delete_dataset({name!r})"
        )
    shelf = ExplorerStore.of(folder)
    chosen = np.arange(len(shelf.pack)) if rows is None else np.asarray(rows, dtype=np.int64)
    dataset = fiftyone.Dataset(name or None)
    copies = pictures / folder.name if pictures else folder.parent / f"{folder.name}.pictures"
    samples = _samples(fiftyone, shelf, chosen, copies, set(dataset.get_field_schema()))
    dataset.add_samples(samples, num_samples=len(chosen), progress=False)
    if len(chosen):
        brain.compute_visualization(dataset, points=np.asarray(shelf.pack.places()[chosen], np.float64), brain_key=MAP, method="manual")
    shelf.edits.close()
    return dataset


def _samples(fiftyone: Any, shelf: ExplorerStore, rows: Int[np.ndarray, " row"], copies: Path, taken: set[str]) -> Iterator[Any]:
    """A sample a picture; ``taken``: fields that FiftyOne has itself."""
    table, notes, classes = _columns(shelf, rows), shelf.edits.values("note"), {"label", *shelf.pack.clusterings}
    tags, fields = table.pop("tag"), _fields(table, taken | {"embedding", "note"})
    vectors, root = next(iter(shelf.networks.values())).bank.pooled(), _root(str(shelf.pack.about["data"]))
    for place, row in enumerate(rows.tolist()):
        known: dict[str, Any] = {"embedding": np.array(vectors[row], np.float32)} | ({"note": notes[row]} if row in notes else {})
        for column, field in fields.items():
            value = table[column][place]
            if isinstance(value, str) and value:
                known[field] = fiftyone.Classification(label=value) if column in classes else value
            elif not isinstance(value, str) and np.isfinite(value):
                known[field] = float(value)
        path = _picture(shelf, row, str(table["file"][place]), root, copies)
        yield fiftyone.Sample(filepath=str(path), tags=[tags[place]] if tags[place] else [], **known)


def _columns(shelf: ExplorerStore, rows: Int[np.ndarray, " row"]) -> dict[str, np.ndarray]:
    """The table of the pictures, each clustering by the names of its clusters, else their numbers, with what was merged."""
    table = shelf.table(rows)
    for of in shelf.pack.clusterings:
        names, numbers = table.pop(f"{of}_name"), shelf.clusters_of(of)[rows].tolist()
        table[of] = np.array([name or str(number) for name, number in zip(names, numbers, strict=True)], dtype=object)
    return table


def _fields(columns: Iterable[str], taken: set[str]) -> dict[str, str]:
    """What FiftyOne calls each column."""
    found = dict[str, str]()
    for column in columns:
        found[column] = unused_name(column.replace(".", "_").replace("$", "_").lstrip("_") or "column", {*taken, *found.values()})
    return found


def _root(data: str) -> Path | None:
    """The folder that a data set is, if it is one; what stands behind a question mark are options."""
    some = (Path(part).expanduser() for part in (data, data.partition("?")[0]) if part)
    return next((path.resolve() for path in some if path.is_dir()), None)


def _picture(shelf: ExplorerStore, row: int, name: str, root: Path | None, copies: Path) -> Path:
    """A picture's own file, or a small copy."""
    if root is not None and (root / name).is_file():
        return root / name
    copy = copies.resolve() / f"{row:08d}.jpg"
    if not copy.is_file():
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(shelf.pack.thumb(row))
    return copy
