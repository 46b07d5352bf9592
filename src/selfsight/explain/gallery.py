"""Rows of synthesised or reconstructed images with captions."""

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
from selfsight.explain.synthesis.activation import Fourier, MaximisationResult, Parameterisation, maximise
from selfsight.explain.targets import Target
from selfsight.render.panels import facts, inlined, panel
from selfsight.render.sheet import Tile, save_result, sheet, unique_names

__all__ = ["Gallery", "inversions", "maximisers"]


@dataclass(frozen=True)
class Gallery:
    """Rows of images.

    Attributes:
        rows: tiles by row name, left to right.
        facts: the representation and the settings.
    """

    rows: Mapping[str, Sequence[Tile]]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Everything except the images, for JSON."""
        rows = {name: [{"words": tile.words, **tile.facts} for tile in tiles] for name, tiles in self.rows.items()}
        return {"rows": rows, **self.facts}

    def save(self, folder: Path) -> list[Path]:
        """Write ``sheet.png``, ``pictures.npz`` (one array per row) and ``gallery.json``.

        Args:
            folder: where the files are written.
        """
        arrays = {f"row_{number}": np.stack([tile.image for tile in tiles]) for number, tiles in enumerate(self.rows.values())}
        return save_result(folder, self._repr_png_(), ("pictures", arrays), ("gallery", self.to_json()))

    def _repr_png_(self) -> bytes:
        """The rows as one image."""
        return sheet(self.rows)

    def _repr_html_(self) -> str:
        rows = ", ".join(self.rows)
        return panel("Gallery", facts(self.facts), inlined(self._repr_png_(), f"rows of images: {rows}"))


def _levels(image: Float[Tensor, "3 height width"] | UInt8[Tensor, "3 height width"]) -> UInt8[np.ndarray, "height width 3"]:
    """Images in [0, 1] or 0 to 255 as uint8 (height, width, 3)."""
    levels = (image * 255).round() if image.is_floating_point() else image
    return levels.clamp(0, 255).to(torch.uint8).permute(1, 2, 0).cpu().numpy()


def inversions(
    images: Num[Tensor, "batch 3 height width"],
    found: Mapping[str, Inversion],
    *,
    names: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
) -> Gallery:
    """Each image next to its reconstructions from layers, shallow to deep.

    Args:
        images: the original images ``(B, 3, H, W)``, uint8 or in [0, 1].
        found: inversions by layer.
        names: names of the images; empty: numbered.
        settings: settings to store with the result.
    """
    rows: dict[str, list[Tile]] = {}
    for number, name in enumerate(unique_names(names or [f"image {number}" for number in range(len(images))])):
        rows[name] = [Tile(_levels(images[number]), "the image")]
        for layer, inversion in found.items():
            for image, error in zip(inversion.images[number], inversion.errors[number].tolist(), strict=True):
                rows[name].append(Tile(_levels(image), f"{layer}\nerror {error:.2f}", {"error": error}))
    return Gallery(rows, {"layers": list(found), **(settings or {})})


def maximisers(
    phi: Representation,
    targets: Sequence[Target],
    *,
    count: int = 3,
    parameterisation: Parameterisation = Fourier(),
    steps: int = 200,
    rate: float = 0.05,
    diversity: float = 0.0,
    seed: int = 0,
) -> Gallery:
    """A row of maximally activating synthetic images for each target; see ``maximise``.

    Args:
        phi: the representation.
        targets: scores that are maximised.
        count: images per target.
        parameterisation: parameterisation of the images.
        steps: number of steps of Adam.
        rate: learning rate.
        diversity: weight of the diversity term.
        seed: seed of the noise and the transformations.
    """
    rows = {}
    for target in targets:
        result: MaximisationResult = maximise(
            phi, target, count=count, parameterisation=parameterisation, steps=steps, rate=rate, diversity=diversity, seed=seed
        )
        values = zip(result.images, result.scores.tolist(), result.shifted.tolist(), strict=True)
        rows[target.name] = [
            Tile(_levels(image), f"{score:.3g}\nshifted {shifted:.3g}", {"score": score, "shifted": shifted})
            for image, score, shifted in values
        ]
    return Gallery(rows, {"representation": phi.name, "writing": type(parameterisation).__name__.lower(), "steps": steps, "seed": seed})
