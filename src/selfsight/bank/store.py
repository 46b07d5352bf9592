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

__all__ = ["OUTPUT", "Bank", "write_bank"]

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


def write_bank(path: Path, layers: Mapping[str, np.ndarray], names: Sequence[str], origin: Mapping[str, Any]) -> Bank:
    """Write a bank, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=".partial-"))
    try:
        for name, rows in layers.items():
            np.save(temporary / f"{name}.npy", rows)
        pq.write_table(pa.table({"name": list(names)}), temporary / "items.parquet")
        content = dict(origin) | {"layers": list(layers), "count": len(names)}
        (temporary / "origin.json").write_text(json.dumps(content, indent=1) + "\n")
        temporary.chmod(0o755)
        shutil.rmtree(path, ignore_errors=True)
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Bank(path)
