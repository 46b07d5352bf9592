"""What came out of an explanation: raw maps, kept as they are; ranges and signs are shown, never changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Num, UInt8
from torch import Tensor

from selfsight.core.errors import UsageError
from selfsight.core.progress import ProgressCallback, no_progress
from selfsight.core.representation import Representation
from selfsight.explain.attribution.perturbation import BLUR, blurred
from selfsight.explain.attribution.saliency import Maps, part_kept, scores
from selfsight.explain.attribution.table import ATTRIBUTIONS
from selfsight.explain.targets import Target
from selfsight.render.panels import facts, inlined, panel, table
from selfsight.render.sheet import Tile, finite_or_none, save_result, sheet, unique_names

__all__ = ["HIDDEN", "Explanation", "explain", "score_drop"]

HIDDEN = 0.1
"""The part of an image that is hidden to see how far the score falls."""
WIDE = 8
"""Methods beside each other on a sheet."""


@dataclass(frozen=True)
class Explanation:
    """Maps of several methods for some images.

    Attributes:
        images: pixels, 0 to 255.
        names: what to call the images.
        maps: raw maps of each method (batch, 1, height, width).
        target: what was explained.
        scores: the target's number of each image.
        falls: for each method the part of the score that is lost when the tenth of the places with the highest values is blurred.
        facts: the representation, and how it was done.
    """

    images: UInt8[Tensor, "batch 3 height width"]
    names: tuple[str, ...]
    maps: Mapping[str, Maps]
    target: str
    scores: Float[Tensor, " batch"]
    falls: Mapping[str, Float[Tensor, " batch"]]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """All but the pictures, for JSON."""
        about = {
            method: [
                {"low": float(one.min()), "high": float(one.max()), "fall": finite_or_none(fallen)}
                for one, fallen in zip(maps, self.falls[method], strict=True)
            ]
            for method, maps in self.maps.items()
        }
        return {
            "target": self.target,
            "images": list(self.names),
            "scores": [float(score) for score in self.scores],
            "hidden": HIDDEN,
            "methods": about,
            **self.facts,
        }

    def save(self, folder: Path) -> list[Path]:
        """Write ``sheet.png``, ``maps.npz`` (one array a method, and the images) and ``explanation.json``."""
        arrays = {name: maps.cpu().numpy() for name, maps in self.maps.items()}
        return save_result(folder, self._repr_png_(), ("maps", {"images": self.images.numpy(), **arrays}), ("explanation", self.to_json()))

    def _repr_png_(self) -> bytes:
        """A sheet: a row an image, a column a method; more methods than fit beside each other stand below, beside the images again."""
        rows, methods, names = {}, list(self.maps), unique_names(self.names)
        for start in range(0, max(len(methods), 1), WIDE):
            for row, name in enumerate(names):
                rows[name if start == 0 else f"{name} · {start // WIDE + 1}"] = self._row(row, methods[start : start + WIDE])
        return sheet(rows)

    def _repr_html_(self) -> str:
        numbers = {name: [float(one) for one in some] for name, some in ({"score": self.scores} | dict(self.falls)).items()}
        told = table(("image", *numbers), [(name, *some) for name, *some in zip(self.names, *numbers.values(), strict=True)])
        words = "the part of the score that is lost when the tenth of the places with the highest values is blurred"
        about = facts({**self.facts, "under each method:": words})
        return panel(f"What {self.target} rests on", about, inlined(self._repr_png_(), "maps of the images"), told)

    def _row(self, row: int, methods: Sequence[str]) -> list[Tile]:
        """The image and some maps; above the first image's their names."""

        def title(words: str) -> str:
            return words.replace("_", " ") if row == 0 else ""

        found = [Tile(self.images[row].permute(1, 2, 0).numpy(), f"{self.scores[row]:.3g}", title=title(self.target))]
        for name in methods:
            one = self.maps[name][row, 0].float().cpu().numpy()
            words = f"{one.min():.1e} … {one.max():.1e}\n{_percent('fall', self.falls[name][row])}"
            found.append(Tile(overlay(found[0].picture, one), words, title=title(name)))
        return found


def _percent(word: str, value: Tensor) -> str:
    return f"{word} {100 * float(value):.0f} %" if bool(value.isfinite()) else f"{word} –"


def overlay(picture: UInt8[np.ndarray, "height width 3"], one: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "height width 3"]:
    """A map over its picture in grey: what speaks for the target in orange, what speaks against it in blue.

    Full colour stands for the value that 99 % of the absolute values stay below; a map that is the same everywhere has none.
    """
    grey = (picture @ np.array([0.299, 0.587, 0.114]) / 255)[..., None] * 0.55 + 0.35
    level = one - one.min() if one.min() >= 0 else one
    top = float(np.quantile(np.abs(level), 0.99)) or float(np.abs(level).max()) or 1.0
    strength = np.clip(np.abs(level) / top, 0, 1)[..., None]
    colour = np.where(level[..., None] >= 0, np.array([0.835, 0.369, 0.0]), np.array([0.0, 0.447, 0.698]))
    return np.clip(grey * (1 - strength) + colour * strength, 0, 1)


def score_drop(
    phi: Representation,
    given: Float[Tensor, "batch channel height width"],
    target: Target,
    maps: Maps,
    *,
    part: float = HIDDEN,
) -> Float[Tensor, " batch"]:
    """How much of the score is lost when the places with the highest values are blurred: 1 if all that the whole blur loses.

    NaN where the whole blur loses nothing.
    """
    soft = blurred(given, BLUR)
    count = max(round(part * maps[0].numel()), 1)
    hidden = torch.zeros_like(maps).flatten(1).scatter(1, maps.flatten(1).topk(count, 1).indices, 1.0).view_as(maps)
    whole, nothing = scores(phi, given, target), scores(phi, soft, target)
    left = scores(phi, torch.where(hidden.bool(), soft, given), target)
    return 1 - part_kept(left, whole, nothing)


def explain(
    phi: Representation,
    images: Num[Tensor, "batch 3 height width"],
    target: Target,
    methods: Sequence[str] = ("gradient", "grad_cam", "integrated_gradients", "extremal"),
    *,
    names: Sequence[str] = (),
    facts: Mapping[str, Any] | None = None,
    progress: ProgressCallback = no_progress,
) -> Explanation:
    """Maps of several attribution methods.

    Args:
        phi: the representation.
        images: images in [0, 1] or 0 to 255.
        target: what is explained.
        methods: names of ``ATTRIBUTIONS``; ``["all"]``: all that can explain this network.
        names: what to call the images.
        facts: what to keep with the result.
        progress: called with what is being done.

    Raises:
        UsageError: a method does not exist, or cannot explain this network.
    """
    maps, refused = _maps(phi, images, target, methods, progress)
    given = phi.normalise(images)
    pixels = images if not images.is_floating_point() else (images * 255).round()
    return Explanation(
        pixels.to(torch.uint8).cpu(),
        tuple(names) or tuple(f"image {number}" for number in range(len(images))),
        maps,
        target.name,
        scores(phi, given, target),
        {name: score_drop(phi, given, target, one) for name, one in maps.items()},
        {"representation": phi.name, "architecture": phi.spec, **({"left out": refused} if refused else {}), **(facts or {})},
    )


def _maps(
    phi: Representation, images: Tensor, target: Target, methods: Sequence[str], progress: ProgressCallback
) -> tuple[dict[str, Maps], dict[str, str]]:
    """Maps by method; where all were asked for, also what refused and why."""
    every = list(methods) == ["all"]
    chosen: dict[str, Any] = {ATTRIBUTIONS.resolve(name).name: ATTRIBUTIONS.load(name) for name in (ATTRIBUTIONS if every else methods)}
    maps: dict[str, Maps] = {}
    refused: dict[str, str] = {}
    for name, method in chosen.items():
        progress(f"{name} of {len(images)} images")
        try:
            maps[name] = method(phi, images, target)
        except UsageError as problem:
            if not every:
                raise
            refused[name] = problem.cause
            progress(f"{name} is left out: {problem.cause}")
    return maps, refused
