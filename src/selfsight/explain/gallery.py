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
from selfsight.explain.activation import Fourier, Maximised, Phase, Pixels, Writing, maximise
from selfsight.explain.inversion import invert
from selfsight.explain.priors import Spectrum
from selfsight.explain.sheet import Shown, sheet, unique, written
from selfsight.explain.targets import Target

__all__ = ["Gallery", "inversions", "maximisers", "writing_of"]


@dataclass(frozen=True)
class Gallery:
    """Rows of pictures.

    Attributes:
        rows: by name, from left to right.
        facts: the representation, and how it was done.
    """

    rows: Mapping[str, Sequence[Shown]]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_plain(self) -> dict[str, Any]:
        """All but the pictures, for JSON."""
        rows = {name: [{"words": one.words, **one.facts} for one in row] for name, row in self.rows.items()}
        return {"rows": rows, **self.facts}

    def save(self, folder: Path) -> list[Path]:
        """Write ``sheet.png``, ``pictures.npz`` (one array a row) and ``gallery.json``."""
        arrays = {f"row_{number}": np.stack([one.picture for one in row]) for number, row in enumerate(self.rows.values())}
        return written(folder, self._repr_png_(), ("pictures", arrays), ("gallery", self.to_plain()))

    def _repr_png_(self) -> bytes:
        """A sheet."""
        return sheet(self.rows)


def _levels(picture: Float[Tensor, "3 height width"] | UInt8[Tensor, "3 height width"]) -> UInt8[np.ndarray, "height width 3"]:
    """A picture in [0, 1] or in levels, as levels."""
    levels = (picture * 255).round() if picture.is_floating_point() else picture
    return levels.clamp(0, 255).to(torch.uint8).permute(1, 2, 0).cpu().numpy()


def inversions(
    phi: Representation,
    images: Num[Tensor, "batch 3 height width"],
    layers: Sequence[str],
    *,
    names: Sequence[str] = (),
    restarts: int = 1,
    weight: float = 100.0,
    steps: tuple[int, int] = (300, 50),
    seed: int = 0,
) -> Gallery:
    """Each image beside what its layers have kept of it, shallow to deep; see ``invert``."""
    found = {layer: invert(phi, images, layer, weight=weight, steps=steps, restarts=restarts, seed=seed) for layer in layers}
    rows: dict[str, list[Shown]] = {}
    for number, name in enumerate(unique(names or [f"image {number}" for number in range(len(images))])):
        rows[name] = [Shown(_levels(images[number]), "the image")]
        for layer, each in found.items():
            for restart in range(restarts):
                error = float(each.errors[number, restart])
                rows[name].append(Shown(_levels(each.pictures[number, restart]), f"{layer}\nerror {error:.2f}", {"error": error}))
    return Gallery(rows, {"representation": phi.name, "layers": list(layers), "weight": weight, "steps": list(steps), "seed": seed})


def writing_of(name: str, spectrum: Spectrum | None = None) -> Writing:
    """How pictures are written down, by name: pixels, fourier, or phase with the spectrum that it needs."""
    if name == "phase":
        assert spectrum is not None
        return Phase(spectrum)
    return Pixels() if name == "pixels" else Fourier()


def maximisers(
    phi: Representation,
    targets: Sequence[Target],
    *,
    count: int = 3,
    writing: Writing = Fourier(),
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
            Shown(_levels(picture), f"{score:.3g}\nshifted {least:.3g}", {"score": score, "shifted": least})
            for picture, score, least in numbers
        ]
    return Gallery(rows, {"representation": phi.name, "writing": type(writing).__name__.lower(), "steps": steps, "seed": seed})
