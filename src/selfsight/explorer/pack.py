"""What the explorer shows of a data set, prepared once: a table of items, small pictures in one file, places on a map. Torch-free."""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float

from selfsight.core.errors import DataError, UsageError

__all__ = ["Pack", "PackWriter"]

VERSION = 1


class Pack:
    """A prepared data set.

    Args:
        path: its folder.

    Raises:
        UsageError: there is none in the folder, or another version of it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not (path / "pack.json").is_file():
            raise UsageError(f"{path} holds nothing to explore.", "Prepare it with: selfsight explore RUN --data DATA")
        self.about: dict[str, Any] = json.loads((path / "pack.json").read_text())
        if self.about.get("version") != VERSION:
            raise UsageError(f"{path} was prepared by another version.", "Delete the folder; it is made again.")
        self._offsets = np.load(path / "thumbs.npy", mmap_mode="r")
        self._thumbs = np.memmap(path / "thumbs.bin", dtype=np.uint8, mode="r") if self._offsets[-1] else np.zeros(0, np.uint8)

    def __len__(self) -> int:
        return int(self.about["count"])

    def thumb(self, row: int) -> bytes:
        """A small picture as JPEG.

        Raises:
            DataError: there is no such row.
        """
        if not 0 <= row < len(self):
            raise DataError(f"There is no picture {row}.", f"Rows go from 0 to {len(self) - 1}.")
        return self._thumbs[self._offsets[row] : self._offsets[row + 1]].tobytes()

    @cached_property
    def names(self) -> pa.ChunkedArray:
        """Of the pictures."""
        return pq.read_table(self.path / "items.parquet", columns=["name"])["name"]

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """All that is known of items beside their names."""
        return tuple(name for name in pq.read_schema(self.path / "items.parquet").names if name != "name")

    def column(self, name: str) -> np.ndarray:
        """One value an item: float64, or text where it is not a number.

        Raises:
            UsageError: there is no such column.
        """
        if name not in self.columns:
            raise UsageError(f"There is no column {name!r}.", f"There are: {', '.join(self.columns)}.")
        if name not in self._read:
            column = pq.read_table(self.path / "items.parquet", columns=[name])[name]
            plain = column.to_numpy(zero_copy_only=False)
            self._read[name] = (
                plain.astype(np.float64) if plain.dtype.kind in "fiub" else np.array([str(one or "") for one in plain], object)
            )
        return self._read[name]

    @cached_property
    def _read(self) -> dict[str, np.ndarray]:
        return {}

    @cached_property
    def places(self) -> Float[np.ndarray, "item 2"]:
        """Where each item lies on the map, from -1 to 1."""
        return np.load(self.path / "map.npy", mmap_mode="r")

    @property
    def clusters(self) -> list[dict[str, Any]]:
        """What is known of each cluster."""
        file = self.path / "clusters.json"
        return json.loads(file.read_text()) if file.is_file() else []


class PackWriter:
    """Writes a pack, whole or not at all: ``with PackWriter(folder) as pack: pack.thumbs(…); pack.finish(…)``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._partial = Path(tempfile.mkdtemp(dir=path.parent, prefix=".partial-"))
        self._done = False

    def __enter__(self) -> "PackWriter":
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._partial, ignore_errors=True)

    def thumbs(self, pictures: Iterator[bytes]) -> int:
        """Write JPEGs one after the other; how many there were."""
        offsets = [0]
        with (self._partial / "thumbs.bin").open("wb") as file:
            for picture in pictures:
                file.write(picture)
                offsets.append(offsets[-1] + len(picture))
        np.save(self._partial / "thumbs.npy", np.array(offsets, dtype=np.int64))
        return len(offsets) - 1

    def finish(
        self,
        names: Sequence[str],
        columns: Mapping[str, np.ndarray],
        places: Float[np.ndarray, "item 2"],
        clusters: Sequence[Mapping[str, Any]],
        about: Mapping[str, Any],
    ) -> Pack:
        """Write the rest and put the folder in its place.

        Args:
            names: of the items.
            columns: what is known of each.
            places: on the map.
            clusters: what is known of each cluster.
            about: where it came from.
        """
        table = {name: pa.array(values.tolist() if values.dtype == object else values) for name, values in columns.items()}
        pq.write_table(pa.table({"name": pa.array(list(names), pa.string()), **table}), self._partial / "items.parquet")
        np.save(self._partial / "map.npy", np.asarray(places, dtype=np.float32))
        (self._partial / "clusters.json").write_text(json.dumps(list(clusters)) + "\n")
        (self._partial / "pack.json").write_text(json.dumps({**about, "count": len(names), "version": VERSION}, indent=1) + "\n")
        self._partial.chmod(0o755)
        shutil.rmtree(self.path, ignore_errors=True)
        self._partial.replace(self.path)
        return Pack(self.path)
