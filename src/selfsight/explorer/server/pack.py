"""A prepared data set of the explorer: a table of items, thumbnails in one file, positions on maps. Torch-free."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float

from selfsight.core.cache import AtomicFolder
from selfsight.core.errors import DataError, UsageError
from selfsight.core.files import inside, parsing, read_json
from selfsight.core.json_text import json_text
from selfsight.core.names import look_up
from selfsight.core.results import results_folder

__all__ = [
    "CLUSTER",
    "Pack",
    "PackWriter",
    "edits_file",
    "is_prepared",
    "jobs_folder",
    "nearness_column",
    "network_folders",
    "run_folder",
    "stamp",
]

VERSION = 2
CLUSTER = "cluster"
"""Column of the first clustering; others are named after their number of clusters, such as ``cluster_8``."""


REMEDY = "Delete the folder; it will be prepared again."


def stamp(folder: Path) -> str:
    """Version of a prepared data set: it changes each time the data set is prepared, which invalidates earlier results."""
    return f"{folder.name} {(folder / 'pack.json').stat().st_mtime_ns}"


def run_folder(run: Path) -> Path:
    """The folder of a run, also for the folder of one of its checkpoints."""
    return run.parents[1] if run.parent.name == "checkpoints" else run


def network_folders(folder: Path, network: Mapping[str, Any]) -> tuple[Path, Path | None]:
    """Folders of the bank and of the run of a network, as named in ``pack.json``; no run for an untrained network.

    Args:
        folder: the prepared data set.
        network: the entry of the network.

    Raises:
        DataError: an entry is missing, or the bank is in neither the network's run nor that of the prepared data set.
    """
    with parsing(folder / "pack.json", REMEDY):
        bank, run = folder / network["bank"], folder / network["run"] if network["run"] else None
        bank = bank.resolve()
        places = [folder.resolve().parent.parent]
    if run is not None:
        places += [run_folder(run.resolve()), results_folder(run_folder(run.resolve()), "banks").parent]
    return inside(next((place for place in places if bank.is_relative_to(place)), places[0]), bank), run


def edits_file(folder: Path) -> Path:
    """File of the edits of a prepared data set, next to it.

    Args:
        folder: the prepared data set.

    Raises:
        DataError: it is a link to another place.
    """
    return inside(folder.parent, f"{folder.name}.edits.sqlite")


def jobs_folder(folder: Path) -> Path:
    """Folder of the results of jobs on a prepared data set, next to it.

    Args:
        folder: the prepared data set.

    Raises:
        DataError: it is a link to another place.
    """
    return inside(folder.parent, f"{folder.name}.jobs")


def nearness_column(column: str) -> str:
    """Name of the column of cosines with the cluster centre, for the column of a clustering."""
    return "nearness" + column.removeprefix(CLUSTER)


def is_prepared(folder: Path) -> bool:
    """Whether a folder contains a data set prepared by this version."""
    try:
        file = inside(folder, "pack.json")
        return file.is_file() and read_json(file).get("version") == VERSION
    except DataError:
        return False


class Pack:
    """A prepared data set.

    Args:
        path: its folder.

    Raises:
        UsageError: the folder contains no prepared data set, or one of another version.
        DataError: a file is damaged, or is a link to one outside of the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        for name in ("pack.json", "thumbs.npy", "thumbs.bin", "items.parquet", "clusters.json"):
            inside(path, name)
        if not (path / "pack.json").is_file():
            raise UsageError(f"{path} contains nothing to explore.", "Prepare it with: selfsight explore RUN --data DATA")
        self.about: dict[str, Any] = read_json(path / "pack.json", REMEDY)
        if self.about.get("version") != VERSION:
            raise UsageError(f"{path} was prepared by another version.", "Delete the folder; it will be prepared again.")
        with parsing(path / "thumbs.npy", REMEDY):
            self._offsets = np.load(path / "thumbs.npy", mmap_mode="r")

    def __len__(self) -> int:
        return int(self.about["count"])

    def thumb(self, row: int) -> bytes:
        """A thumbnail as JPEG.

        Raises:
            DataError: the row does not exist.
        """
        if not 0 <= row < len(self):
            raise DataError(f"There is no image {row}.", f"Rows go from 0 to {len(self) - 1}.")
        start, end = int(self._offsets[row]), int(self._offsets[row + 1])
        with (self.path / "thumbs.bin").open("rb", buffering=0) as file:  # memory mapping would block other threads during disk access
            file.seek(start)
            return file.read(end - start)

    @cached_property
    def names(self) -> pa.ChunkedArray:
        """Names of the images."""
        with parsing(self.path / "items.parquet", REMEDY):
            return pq.read_table(self.path / "items.parquet", columns=["name"])["name"]

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of all columns except the names of the items."""
        with parsing(self.path / "items.parquet", REMEDY):
            return tuple(name for name in pq.read_schema(self.path / "items.parquet").names if name != "name")

    def column(self, name: str) -> np.ndarray:
        """One value per item: float64, or text.

        Raises:
            UsageError: the column does not exist.
        """
        if name not in self.columns:
            raise UsageError(f"There is no column {name!r}.", f"There are: {', '.join(self.columns)}.")
        if name not in self._read:
            with parsing(self.path / "items.parquet", REMEDY):
                column = pq.read_table(self.path / "items.parquet", columns=[name])[name]
            if pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_boolean(column.type):
                self._read[name] = column.to_numpy(zero_copy_only=False).astype(np.float64)
            else:  # repeated texts share one string
                coded = column.dictionary_encode().combine_chunks()
                texts = np.array([str(text or "") for text in coded.dictionary.to_pylist()] + [""], object)
                self._read[name] = texts[coded.indices.fill_null(len(texts) - 1).to_numpy(zero_copy_only=False)]
        return self._read[name]

    @cached_property
    def _read(self) -> dict[str, np.ndarray]:
        return {}

    @property
    def maps(self) -> tuple[str, ...]:
        """Names of the maps; the first is shown first."""
        return tuple(self.about["maps"])

    def places(self, name: str = "") -> Float[np.ndarray, "item 2"]:
        """Positions of items on a map (empty: the first), from about -1 to 1.

        Raises:
            UsageError: the map does not exist.
        """
        index = self.maps.index(look_up("map", name or self.maps[0], self.maps))
        file = inside(self.path, f"map-{index}.npy")
        with parsing(file, REMEDY):
            return np.load(file, mmap_mode="r")

    @cached_property
    def clusterings(self) -> dict[str, list[dict[str, Any]]]:
        """Descriptions of clusters by the column of their clustering; empty without clusters."""
        return read_json(self.path / "clusters.json", REMEDY)


class PackWriter:
    """Writes a pack atomically: ``with PackWriter(folder) as pack: pack.thumbs(…); pack.finish(…)``."""

    def __init__(self, path: Path) -> None:
        self.path, self._folder = path, AtomicFolder(path)
        self._partial = self._folder.partial

    def __enter__(self) -> "PackWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.discard()

    def thumbs(self, images: Iterator[bytes]) -> int:
        """Write JPEGs one after the other; returns their number."""
        offsets = [0]
        with (self._partial / "thumbs.bin").open("wb") as file:
            for image in images:
                file.write(image)
                offsets.append(offsets[-1] + len(image))
        np.save(self._partial / "thumbs.npy", np.array(offsets, dtype=np.int64))
        return len(offsets) - 1

    def finish(
        self,
        names: Sequence[str],
        columns: Mapping[str, np.ndarray],
        places: Mapping[str, Float[np.ndarray, "item 2"]],
        clusters: Mapping[str, Sequence[Mapping[str, Any]]],
        about: Mapping[str, Any],
    ) -> Pack:
        """Write the rest and move the folder to its destination.

        Args:
            names: names of the items.
            columns: values per item, by column.
            places: positions by map; at least one map.
            clusters: descriptions of clusters, by the column of their clustering.
            about: origin of the data.
        """
        table = {name: pa.array(values.tolist() if values.dtype == object else values) for name, values in columns.items()}
        pq.write_table(pa.table({"name": pa.array(list(names), pa.string()), **table}), self._partial / "items.parquet")
        for index, positions in enumerate(places.values()):
            np.save(self._partial / f"map-{index}.npy", np.asarray(positions, dtype=np.float32))
        (self._partial / "clusters.json").write_text(json_text({name: list(described) for name, described in clusters.items()}) + "\n")
        facts = {**about, "maps": list(places), "count": len(names), "version": VERSION}
        (self._partial / "pack.json").write_text(json_text(facts, indent=1) + "\n")
        return Pack(self._folder.commit())
