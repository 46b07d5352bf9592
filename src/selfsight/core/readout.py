"""Fitted models of measures: a probe's weights, centroids. Torch-free."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from selfsight.core.errors import UsageError
from selfsight.core.files import inside, parsing, read_json
from selfsight.core.json_text import json_text

__all__ = ["Readout"]


@dataclass(frozen=True)
class Readout:
    """A fitted linear probe or set of centroids.

    Attributes:
        kind: linear or centroids.
        layer: the layer that it is fitted to.
        arrays: ``weight`` (K, D), ``bias`` (K,), ``mean`` and ``scale`` (D,) of a linear probe, applied to ``(x - mean) / scale``; or
            ``centroids`` (K, D).
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
        content = {"kind": self.kind, "layer": self.layer, "classes": list(self.classes), "facts": self.facts}
        path.with_suffix(".json").write_text(json_text(content, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> "Readout":
        """Read what ``save`` wrote.

        Raises:
            UsageError: it does not exist.
            DataError: it is damaged, or a link to a file outside of the folder.
        """
        if not path.with_suffix(".json").is_file():
            raise UsageError(
                f"{path.parent.parent} has no fitted {path.name} probe.", "Measure it first: selfsight measure RUN --train DATA --test DATA"
            )
        remedy = "Measure it again: selfsight measure RUN --train DATA --test DATA"
        content = read_json(inside(path.parent, path.with_suffix(".json").name), remedy)
        with (
            parsing(path.with_suffix(".npz"), remedy),
            np.load(inside(path.parent, path.with_suffix(".npz").name), allow_pickle=False) as file,
        ):
            arrays = {name: file[name] for name in file.files}
        with parsing(path.with_suffix(".json"), remedy):
            return cls(content["kind"], content["layer"], arrays, tuple(content["classes"]), content["facts"])
