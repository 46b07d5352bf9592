"""Pictures that came out of an explanation, in rows, with words under each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Num, UInt8
from torch import Tensor

from selfsight.core.representation import Representation
from selfsight.explain.inversion.descent import Inversion
from selfsight.explain.synthesis.activation import Fourier, Maximised, Parameterisation, maximise
from selfsight.explain.targets import Target
from selfsight.render.panels import facts, inlined, panel
from selfsight.render.sheet import Tile, save_result, sheet, unique_names

__all__ = ["Gallery", "inversions", "maximisers"]


@dataclass(frozen=True)
class Gallery:
    """Rows of pictures.

    Attributes:
        rows: by name, from left to right.
        facts: the representation, and how it was done.
    """

    rows: Mapping[str, Sequence[Tile]]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """All but the pictures, for JSON."""
        rows = {name: [{"words": one.words, **one.facts} for one in row] for name, row in self.rows.items()}
        return {"rows": rows, **self.facts}

    def save(self, folder: Path) -> list[Path]:
        """Write ``sheet.png``, ``pictures.npz`` (one array a row) and ``gallery.json``."""
        arrays = {f"row_{number}": np.stack([one.picture for one in row]) for number, row in enumerate(self.rows.values())}
        return save_result(folder, self._repr_png_(), ("pictures", arrays), ("gallery", self.to_json()))

    def _repr_png_(self) -> bytes:
        """A sheet."""
        return sheet(self.rows)

    def _repr_html_(self) -> str:
        rows = ", ".join(self.rows)
        return panel("Pictures in rows", facts(self.facts), inlined(self._repr_png_(), f"rows of pictures: {rows}"))


def _levels(picture: Float[Tensor, "3 height width"] | UInt8[Tensor, "3 height width"]) -> UInt8[np.ndarray, "height width 3"]:
    """A picture in [0, 1] or in levels, as levels."""
    levels = (picture * 255).round() if picture.is_floating_point() else picture
    return levels.clamp(0, 255).to(torch.uint8).permute(1, 2, 0).cpu().numpy()


def inversions(
    images: Num[Tensor, "batch 3 height width"], found: Mapping[str, Inversion], *, names: Sequence[str] = (), **facts: Any
) -> Gallery:
    """Each image beside what its layers have kept of it, shallow to deep.

    Args:
        images: the pictures.
        found: what came out for each layer.
        names: what to call the images.
        facts: what to keep with the result.
    """
    rows: dict[str, list[Tile]] = {}
    for number, name in enumerate(unique_names(names or [f"image {number}" for number in range(len(images))])):
        rows[name] = [Tile(_levels(images[number]), "the image")]
        for layer, each in found.items():
            for picture, missed in zip(each.pictures[number], each.errors[number].tolist(), strict=True):
                rows[name].append(Tile(_levels(picture), f"{layer}\nerror {missed:.2f}", {"error": missed}))
    return Gallery(rows, {"layers": list(found), **facts})


def maximisers(
    phi: Representation,
    targets: Sequence[Target],
    *,
    count: int = 3,
    writing: Parameterisation = Fourier(),
    steps: int = 200,
    rate: float = 0.05,
    diverse: float = 0.0,
    seed: int = 0,
) -> Gallery:
    """A row of pictures for each target; see ``maximise``."""
    rows = {}
    for target in targets:
        found: Maximised = maximise(phi, target, count=count, writing=writing, steps=steps, rate=rate, diverse=diverse, seed=seed)
        numbers = zip(found.pictures, found.scores.tolist(), found.shifted.tolist(), strict=True)
        rows[target.name] = [
            Tile(_levels(picture), f"{score:.3g}\nshifted {least:.3g}", {"score": score, "shifted": least})
            for picture, score, least in numbers
        ]
    return Gallery(rows, {"representation": phi.name, "writing": type(writing).__name__.lower(), "steps": steps, "seed": seed})
