"""Banks on disk: one memory-mapped array a layer, a table of items, and where they came from. Torch-free."""

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float

from selfsight.core.errors import UsageError
from selfsight.render.panels import facts, panel, table

__all__ = ["OUTPUT", "Bank", "BankWriter", "write_bank"]

OUTPUT = "output"
"""The layer name of the network's own pooled vector."""


class Bank:
    """What Φ says of a source, on disk.

    Args:
        path: the bank's folder.

    Attributes:
        layers: names of the layers kept.
        origin: representation, data, size and precision that it was made with.

    Raises:
        UsageError: there is no bank in the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not (path / "origin.json").is_file():
            raise UsageError(f"{path} is not a bank: it has no origin.json.", "Make one with: selfsight bank RUN --data DATA")
        self.origin: dict[str, Any] = json.loads((path / "origin.json").read_text())
        self.layers: tuple[str, ...] = tuple(self.origin["layers"])

    @property
    def items(self) -> pa.Table:
        """One row a sample: its name."""
        return pq.read_table(self.path / "items.parquet")

    def __len__(self) -> int:
        return int(self.origin["count"])

    def pooled(self, layer: str | None = None) -> Float[np.ndarray, "sample dim"]:
        """The vectors of a layer, memory-mapped; by default the network's own output.

        Raises:
            UsageError: the layer was not kept.
        """
        name = layer or OUTPUT
        if name not in self.layers:
            raise UsageError(f"The bank does not hold the layer {name!r}.", f"It holds: {', '.join(self.layers)}.")
        return np.load(self.path / f"{name}.npy", mmap_mode="r")

    def _repr_html_(self) -> str:
        rows = [(layer, int(np.prod(self.pooled(layer).shape[1:]))) for layer in self.layers]
        about = {name: value for name, value in self.origin.items() if name not in ("layers", "count")}
        return panel(f"What is said of {len(self):,} pictures", facts(about), table(("layer", "numbers a picture"), rows))


class BankWriter:
    """Writes a bank batch by batch into memory-mapped arrays; inside a ``with``, whole or not at all.

    Args:
        path: the bank's folder.
        count: samples in all.
        kind: float16 or float32.
    """

    def __init__(self, path: Path, count: int, kind: str = "float32") -> None:
        self.path, self.count, self.kind, self.done = path, count, kind, 0
        self._arrays: dict[str, np.memmap[Any, Any]] = {}

    def __enter__(self) -> "BankWriter":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._temporary = Path(tempfile.mkdtemp(dir=self.path.parent, prefix=".partial-"))
        return self

    def add(self, rows: Mapping[str, Float[np.ndarray, "batch ..."]]) -> None:
        """The next samples' vectors by layer."""
        size = len(next(iter(rows.values())))
        for name, some in rows.items():
            if name not in self._arrays:
                file, shape = self._temporary / f"{name}.npy", (self.count, *some.shape[1:])
                self._arrays[name] = np.lib.format.open_memmap(file, "w+", np.dtype(self.kind), shape)
            self._arrays[name][self.done : self.done + size] = some
        self.done += size

    def finish(self, names: Sequence[str], origin: Mapping[str, Any]) -> Bank:
        """Put the bank in its place."""
        layers = list(self._arrays)
        for array in self._arrays.values():
            array.flush()
        self._arrays.clear()
        return _placed(self._temporary, self.path, layers, names, origin)

    def __exit__(self, *problem: object) -> None:
        self._arrays.clear()
        shutil.rmtree(self._temporary, ignore_errors=True)


def write_bank(path: Path, layers: Mapping[str, np.ndarray], names: Sequence[str], origin: Mapping[str, Any]) -> Bank:
    """Write a bank of arrays in memory, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=".partial-"))
    try:
        for name, rows in layers.items():
            np.save(temporary / f"{name}.npy", rows)
        return _placed(temporary, path, list(layers), names, origin)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _placed(temporary: Path, path: Path, layers: list[str], names: Sequence[str], origin: Mapping[str, Any]) -> Bank:
    """Add the table of samples and the origin, and move the folder to its place."""
    pq.write_table(pa.table({"name": list(names)}), temporary / "items.parquet")
    content = dict(origin) | {"layers": layers, "count": len(names)}
    (temporary / "origin.json").write_text(json.dumps(content, indent=1) + "\n")
    temporary.chmod(0o755)
    shutil.rmtree(path, ignore_errors=True)
    temporary.replace(path)
    return Bank(path)
