"""Banks on disk: one memory-mapped array per layer, a table of samples, and metadata. Torch-free."""

import os
from collections.abc import Mapping, Sequence
from mmap import MADV_DONTNEED, mmap
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float

from selfsight.core.cache import AtomicFolder
from selfsight.core.errors import DataError, UsageError
from selfsight.core.files import disk_fault, inside, is_disk_full, parsing, read_json
from selfsight.core.json_text import json_text
from selfsight.render.panels import facts, panel, table

__all__ = ["OUTPUT", "Bank", "BankWriter", "release_pages", "write_bank"]

OUTPUT = "output"
"""Layer name of the network's pooled output."""


REMEDY = "Delete the folder of the bank; it is computed again."
RELEASE = 65_536
"""Rows after which written pages are released."""


def release_pages(array: np.ndarray) -> None:
    """Release the pages of a memory-mapped array; they are read from the file again when needed.

    Arrays in memory are left as they are.
    """
    while not isinstance(array, np.memmap) and isinstance(array.base, np.ndarray):
        array = array.base
    if not isinstance(array, np.memmap) or array.mode not in ("r", "r+", "w+"):  # pages of mode "c" hold changes that no file has
        return
    mapped = getattr(array, "_mmap", None)
    if isinstance(mapped, mmap):
        mapped.madvise(MADV_DONTNEED)


class Bank:
    """Features of a representation on a source, on disk.

    Args:
        path: the bank's folder.

    Attributes:
        layers: names of the stored layers.
        origin: representation, data, size and precision that it was made with.

    Raises:
        UsageError: there is no bank in the folder.
        DataError: a file of the bank is damaged, or lies outside of its folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not (path / "origin.json").is_file():
            raise UsageError(f"{path} is not a bank: it has no origin.json.", "Make one with: selfsight bank RUN --data DATA")
        self.origin: dict[str, Any] = read_json(inside(path, "origin.json"), REMEDY)
        with parsing(path / "origin.json", REMEDY):
            self.layers: tuple[str, ...] = tuple(str(layer) for layer in self.origin["layers"])
            self.origin["count"] = int(self.origin["count"])

    @property
    def items(self) -> pa.Table:
        """One row per sample: its name."""
        with parsing(self.path / "items.parquet", REMEDY):  # errors of pyarrow are ValueErrors
            return pq.read_table(inside(self.path, "items.parquet"))

    def __len__(self) -> int:
        return int(self.origin["count"])

    def pooled(self, layer: str | None = None) -> Float[np.ndarray, "sample dim"]:
        """Features of a layer, memory-mapped; by default the network's output.

        Raises:
            UsageError: the layer is not in the bank.
            DataError: its file is damaged, or lies outside of the bank's folder.
        """
        name = layer or OUTPUT
        if name not in self.layers:
            raise UsageError(f"The bank does not contain the layer {name!r}.", f"It contains: {', '.join(self.layers)}.")
        file = inside(self.path, f"{name}.npy")
        with parsing(file, REMEDY):
            rows = np.load(file, mmap_mode="r")
            if len(rows) != len(self):
                raise ValueError(f"it has {len(rows)} rows, and not {len(self)}")
            return rows

    def _repr_html_(self) -> str:
        rows = [(layer, int(np.prod(self.pooled(layer).shape[1:]))) for layer in self.layers]
        about = {name: value for name, value in self.origin.items() if name not in ("layers", "count")}
        return panel(f"Features of {len(self):,} images", facts(about), table(("layer", "features per image"), rows))


class BankWriter:
    """Writes a bank batch by batch into memory-mapped arrays, atomically, inside a ``with`` block.

    Args:
        path: the bank's folder.
        count: number of samples.
        kind: float16 or float32.
    """

    def __init__(self, path: Path, count: int, kind: str = "float32") -> None:
        self.path, self.count, self.kind, self.done = path, count, kind, 0
        self._arrays: dict[str, np.memmap[Any, Any]] = {}

    def __enter__(self) -> "BankWriter":
        self._folder = AtomicFolder(self.path)
        return self

    def add(self, rows: Mapping[str, Float[np.ndarray, "batch ..."]]) -> None:
        """Add the next samples' features by layer.

        Args:
            rows: features (N, …) by layer.

        Raises:
            DataError: they overflow half precision.
        """
        size = len(next(iter(rows.values())))
        for name, values in rows.items():
            if name not in self._arrays:
                file, shape = self._folder.partial / f"{name}.npy", (self.count, *values.shape[1:])
                self._arrays[name] = np.lib.format.open_memmap(file, "w+", np.dtype(self.kind), shape)
                _reserve(file)
            self._arrays[name][self.done : self.done + size] = self._converted(name, values)
            if (self.done + size) // RELEASE > self.done // RELEASE:
                self._arrays[name].flush()
                release_pages(self._arrays[name])
        self.done += size

    def _converted(self, name: str, values: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            converted = values.astype(self.kind)
        if (np.isinf(converted) & np.isfinite(values)).any():
            largest = np.abs(values[np.isfinite(values)]).max()
            raise DataError(
                f"Features of {name} reach {largest:,.0f}, above the largest number of half precision (65,504).",
                "Store them in full precision, without --half.",
            )
        return converted

    def finish(self, names: Sequence[str], origin: Mapping[str, Any]) -> Bank:
        """Move the bank to its folder.

        Args:
            names: names of the samples.
            origin: metadata.
        """
        layers = list(self._arrays)
        for array in self._arrays.values():
            array.flush()
        self._arrays.clear()
        return _finished(self._folder, layers, names, origin)

    def __exit__(self, *problem: object) -> None:
        self._arrays.clear()
        self._folder.discard()


def _reserve(file: Path) -> None:
    """Reserve the disk space of a mapped file, because a write to a mapping on a full disk would end the process (SIGBUS).

    Raises:
        EnvironmentFault: there is not enough.
    """
    size = file.stat().st_size
    with file.open("r+b") as opened:
        try:
            os.posix_fallocate(opened.fileno(), 0, size)
        except OSError as error:
            if is_disk_full(error):
                raise disk_fault(f"The bank {file.parent.name}", file.parent, size, error) from error
        except AttributeError:  # not on every system
            pass


def write_bank(path: Path, layers: Mapping[str, np.ndarray], names: Sequence[str], origin: Mapping[str, Any]) -> Bank:
    """Write a bank from arrays in memory, atomically.

    Args:
        path: the bank's folder.
        layers: features (N, D) by layer.
        names: names of the samples.
        origin: metadata.
    """
    with AtomicFolder(path) as folder:
        for name, rows in layers.items():
            np.save(folder.partial / f"{name}.npy", rows)
        return _finished(folder, list(layers), names, origin)


def _finished(folder: AtomicFolder, layers: list[str], names: Sequence[str], origin: Mapping[str, Any]) -> Bank:
    """Write the table of samples and the metadata, and move the folder to its destination."""
    pq.write_table(pa.table({"name": list(names)}), folder.partial / "items.parquet")
    content = dict(origin) | {"layers": layers, "count": len(names)}
    (folder.partial / "origin.json").write_text(json_text(content, indent=1) + "\n")
    return Bank(folder.commit())
