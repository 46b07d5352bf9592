"""What a measure fitted, for others to read: a probe's weights, centroids. Torch-free."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from selfsight.core.errors import UsageError

__all__ = ["Readout"]


@dataclass(frozen=True)
class Readout:
    """Arrays by name, with words.

    Attributes:
        kind: linear or centroids.
        layer: the layer that it reads.
        arrays: ``weight`` (class x dim), ``bias`` (class), ``mean`` and ``scale`` (dim) of a linear probe, applied to
            ``(x - mean) / scale``; ``centroids`` (cluster x dim).
        classes: names of the classes.
        facts: settings and scores.
    """

    kind: str
    layer: str
    arrays: dict[str, np.ndarray]
    classes: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write ``path.npz`` and ``path.json``."""
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path.with_suffix(".npz"), **self.arrays)  # pyright: ignore[reportArgumentType]
        words = {"kind": self.kind, "layer": self.layer, "classes": list(self.classes), "facts": self.facts}
        path.with_suffix(".json").write_text(json.dumps(words, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> "Readout":
        """Read what ``save`` wrote.

        Raises:
            UsageError: it is not there.
        """
        if not path.with_suffix(".json").is_file():
            raise UsageError(f"There is no readout {path}.", "Measure the run first: selfsight measure RUN --train DATA --test DATA")
        words = json.loads(path.with_suffix(".json").read_text())
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return cls(words["kind"], words["layer"], arrays, tuple(words["classes"]), words["facts"])
