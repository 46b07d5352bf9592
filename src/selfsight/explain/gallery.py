"""Pictures that came out of an explanation, in rows, with words under each."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Num
from torch import Tensor

from selfsight.core.representation import Representation
from selfsight.explain.activation import Fourier, Maximised, Phase, Pixels, Writing, maximise
from selfsight.explain.inversion import invert
from selfsight.explain.priors import Spectrum
from selfsight.explain.targets import Target

__all__ = ["Gallery", "Shown", "inversions", "maximisers", "writing_of"]


@dataclass(frozen=True)
class Shown:
    """A picture (3, height, width; 0 to 255), its words, and the numbers behind them."""

    picture: np.ndarray
    words: str
    facts: Mapping[str, float] = field(default_factory=dict)


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
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / "sheet.png", folder / "pictures.npz", folder / "gallery.json"]
        paths[0].write_bytes(self._repr_png_())
        arrays = {f"row_{number}": np.stack([one.picture for one in row]) for number, row in enumerate(self.rows.values())}
        np.savez_compressed(paths[1], **arrays)  # pyright: ignore[reportArgumentType]
        paths[2].write_text(json.dumps(self.to_plain(), indent=1) + "\n")
        return paths

    def _repr_png_(self) -> bytes:
        """A sheet."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        wide, high = max(len(row) for row in self.rows.values()), len(self.rows)
        figure = Figure(figsize=(1.6 * wide + 0.5, 2.0 * high), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(high, wide, squeeze=False)
        for line, (name, row) in zip(grid, self.rows.items(), strict=True):
            line[0].set_ylabel(name, fontsize=8)
            for axes, one in zip(line, row, strict=False):
                axes.imshow(one.picture.transpose(1, 2, 0))
                axes.set_xlabel(one.words, fontsize=7)
            for axes in line:
                axes.set_xticks([])
                axes.set_yticks([])
                axes.spines[:].set_visible(False)
        buffer = io.BytesIO()
        figure.savefig(buffer, dpi=120, format="png")
        return buffer.getvalue()


def _levels(picture: Tensor) -> np.ndarray:
    """A picture in [0, 1] or in levels, as levels."""
    levels = (picture * 255).round() if picture.is_floating_point() else picture
    return levels.clamp(0, 255).to(torch.uint8).cpu().numpy()


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
    for number in range(len(images)):
        name = names[number] if names else f"image {number}"
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
