"""Attribution maps of several methods for some images. Maps are kept raw: range and sign are changed for display only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Num, UInt8
from torch import Tensor

from selfsight.core.errors import UsageError
from selfsight.core.pixels import Normalised, as_normalised
from selfsight.core.progress import ProgressCallback, no_progress
from selfsight.core.representation import Representation
from selfsight.explain.attribution.integrated import completeness_error
from selfsight.explain.attribution.perturbation import BLUR, blurred
from selfsight.explain.attribution.saliency import Maps, score_fraction, scores
from selfsight.explain.attribution.table import ATTRIBUTIONS
from selfsight.explain.targets import Target
from selfsight.render.overlay import overlay_map
from selfsight.render.panels import facts, inlined, panel, table
from selfsight.render.sheet import Tile, finite_or_none, save_result, sheet, unique_names

__all__ = ["HIDDEN", "Explanation", "explain", "score_drop"]

HIDDEN = 0.1
"""Fraction of an image that is blurred to measure the drop of the score."""
WIDE = 8
"""Methods per row of a sheet."""


@dataclass(frozen=True)
class Explanation:
    """Maps of several methods for some images.

    Attributes:
        images: pixels, 0 to 255.
        names: names of the images.
        maps: raw maps of each method (batch, 1, height, width).
        target: name of the explained score.
        scores: the target's score of each image.
        score_drops: per method, the fraction of the score that is lost when the tenth of the pixels with the highest values is blurred.
        facts: the representation and the settings.
    """

    images: UInt8[Tensor, "batch 3 height width"]
    names: tuple[str, ...]
    maps: Mapping[str, Maps]
    target: str
    scores: Float[Tensor, " batch"]
    score_drops: Mapping[str, Float[Tensor, " batch"]]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Everything except the images and maps, for JSON."""
        methods = {
            method: [
                {"low": float(values.min()), "high": float(values.max()), "fall": finite_or_none(fall)}
                for values, fall in zip(maps, self.score_drops[method], strict=True)
            ]
            for method, maps in self.maps.items()
        }
        return {
            "target": self.target,
            "images": list(self.names),
            "scores": [float(score) for score in self.scores],
            "hidden": HIDDEN,
            "methods": methods,
            **self.facts,
        }

    def save(self, folder: Path) -> list[Path]:
        """Write ``sheet.png``, ``maps.npz`` (one array per method, and the images) and ``explanation.json``.

        Args:
            folder: where the files are written.
        """
        arrays = {name: maps.cpu().numpy() for name, maps in self.maps.items()}
        return save_result(folder, self._repr_png_(), ("maps", {"images": self.images.numpy(), **arrays}), ("explanation", self.to_json()))

    def _repr_png_(self) -> bytes:
        """A sheet with a row per image and a column per method; methods beyond the width follow in further rows that repeat the image."""
        rows, methods, names = {}, list(self.maps), unique_names(self.names)
        for start in range(0, max(len(methods), 1), WIDE):
            for row, name in enumerate(names):
                rows[name if start == 0 else f"{name} · {start // WIDE + 1}"] = self._row(row, methods[start : start + WIDE])
        return sheet(rows)

    def _repr_html_(self) -> str:
        numbers = {name: [float(value) for value in values] for name, values in ({"score": self.scores} | dict(self.score_drops)).items()}
        scores_table = table(("image", *numbers), [(name, *row) for name, *row in zip(self.names, *numbers.values(), strict=True)])
        meaning = "fraction of the score that is lost when the tenth of the pixels with the highest values is blurred"
        about = facts({**self.facts, "value per method:": meaning})
        return panel(f"Attribution of {self.target}", about, inlined(self._repr_png_(), "attribution maps of the images"), scores_table)

    def _row(self, row: int, methods: Sequence[str]) -> list[Tile]:
        """The image and some maps as tiles; the tiles of the first row have titles."""

        def title(method: str) -> str:
            return method.replace("_", " ") if row == 0 else ""

        tiles = [Tile(self.images[row].permute(1, 2, 0).numpy(), f"{self.scores[row]:.3g}", title=title(self.target))]
        for name in methods:
            values = self.maps[name][row, 0].float().cpu().numpy()
            caption = f"{values.min():.1e} … {values.max():.1e}\n{_percent('fall', self.score_drops[name][row])}"
            tiles.append(Tile(overlay_map(tiles[0].image, values), caption, title=title(name)))
        return tiles


def _percent(word: str, value: Tensor) -> str:
    return f"{word} {100 * float(value):.0f} %" if bool(value.isfinite()) else f"{word} –"


def score_drop(
    phi: Representation,
    inputs: Float[Normalised, "batch channel height width"],
    target: Target,
    maps: Maps,
    *,
    part: float = HIDDEN,
) -> Float[Tensor, " batch"]:
    """Fraction of the score that is lost when the pixels with the highest values are blurred; 1: as much as blurring the whole image.

    Args:
        phi: the representation.
        inputs: normalised images ``(B, C, H, W)``.
        target: the score.
        maps: attribution maps ``(B, 1, H, W)``.
        part: fraction of the pixels that is blurred.

    Returns:
        ``(B,)``; NaN where blurring the whole image does not lower the score.
    """
    blurry = as_normalised(blurred(inputs, BLUR))
    count = max(round(part * maps[0].numel()), 1)
    hidden = torch.zeros_like(maps).flatten(1).scatter(1, maps.flatten(1).topk(count, 1).indices, 1.0).view_as(maps)
    full, baseline = scores(phi, inputs, target), scores(phi, blurry, target)
    remaining = scores(phi, as_normalised(torch.where(hidden.bool(), blurry, inputs)), target)
    return 1 - score_fraction(remaining, full, baseline)


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
        images: images ``(B, 3, H, W)``, uint8 or in [0, 1].
        target: the score that is explained.
        methods: names in ``ATTRIBUTIONS``; ``["all"]``: every method that supports this network.
        names: names of the images; empty: numbered.
        facts: settings to store with the result.
        progress: called with a line per step.

    Raises:
        UsageError: a method does not exist, or does not support this network.
        DataError: the scores of some images are NaN or infinite.
    """
    inputs = phi.normalise(images)
    full_scores = scores(phi, inputs, target, names=names)
    maps, refused = _maps(phi, images, target, methods, progress)
    missing = _completeness(phi, images, target, maps, progress)
    pixels = images if not images.is_floating_point() else (images * 255).round()
    return Explanation(
        pixels.to(torch.uint8).cpu(),
        tuple(names) or tuple(f"image {number}" for number in range(len(images))),
        maps,
        target.name,
        full_scores,
        {name: score_drop(phi, inputs, target, values) for name, values in maps.items()},
        {"representation": phi.name, "architecture": phi.spec, **({"left out": refused} if refused else {}), **missing, **(facts or {})},
    )


def _completeness(
    phi: Representation, images: Tensor, target: Target, maps: Mapping[str, Maps], progress: ProgressCallback
) -> dict[str, list[float | None]]:
    """The completeness error of integrated gradients, per image, if they are among the maps."""
    if "integrated_gradients" not in maps:
        return {}
    errors = completeness_error(phi, images, target, maps["integrated_gradients"])
    progress(f"integrated_gradients: completeness error at most {100 * float(errors.max()):.2g} % of the difference in score")
    return {"completeness error": [None if error is None else round(error, 6) for error in map(finite_or_none, errors.cpu())]}


def _maps(
    phi: Representation, images: Tensor, target: Target, methods: Sequence[str], progress: ProgressCallback
) -> tuple[dict[str, Maps], dict[str, str]]:
    """Maps by method, and with ``all`` the methods that do not support the network and why."""
    all_methods = list(methods) == ["all"]
    functions: dict[str, Any] = {
        ATTRIBUTIONS.resolve(name).name: ATTRIBUTIONS.load(name) for name in (ATTRIBUTIONS if all_methods else methods)
    }
    maps: dict[str, Maps] = {}
    refused: dict[str, str] = {}
    for name, method in functions.items():
        progress(f"{name} of {len(images)} images")
        try:
            maps[name] = method(phi, images, target)
        except UsageError as problem:
            if not all_methods:
                raise
            refused[name] = problem.cause
            progress(f"{name} is skipped: {problem.cause}")
    return maps, refused
