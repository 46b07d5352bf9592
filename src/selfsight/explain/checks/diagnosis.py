"""Evidence check: the smallest region of each image that keeps the score, and the scores of the object and the background alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Num, UInt8
from torch import Tensor

from selfsight.core.pixels import as_normalised
from selfsight.core.representation import Representation
from selfsight.explain.attribution.perturbation import Substrate, extremal_perturbation, pyramid
from selfsight.explain.attribution.saliency import score_fraction, scores
from selfsight.explain.gallery import Gallery
from selfsight.explain.targets import Target
from selfsight.render.panels import facts, inlined, panel, table
from selfsight.render.sheet import Tile, finite_or_none

__all__ = ["AREAS", "Diagnosis", "diagnose"]

AREAS = (0.05, 0.1, 0.2, 0.4)


@dataclass(frozen=True)
class Diagnosis:
    """The evidence in each image.

    Attributes:
        images: pixels, 0 to 255.
        names: names of the images.
        masks: the smallest mask that keeps enough of the score; the largest one tried if none does.
        areas: area of that mask as a fraction.
        share: fraction of the score that it keeps; NaN where the image does not score above its baseline.
        required_fraction: fraction that was required.
        object_fraction: fraction of the score that the object alone keeps; None without object masks.
        background_fraction: fraction that the background alone keeps.
        objects: object masks.
        facts: the target and the representation.
    """

    images: UInt8[Tensor, "batch 3 height width"]
    names: tuple[str, ...]
    masks: Float[Tensor, "batch height width"]
    areas: Float[Tensor, " batch"]
    share: Float[Tensor, " batch"]
    required_fraction: float
    object_fraction: Float[Tensor, " batch"] | None
    background_fraction: Float[Tensor, " batch"] | None
    objects: Bool[Tensor, "batch height width"] | None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def suspects(self) -> Int[Tensor, " image"]:
        """Images whose background alone keeps more of the score than the object alone, largest difference first.

        It compares object and background, not the mask: where several regions suffice, the search may find any of them.
        """
        if self.object_fraction is None or self.background_fraction is None:
            return torch.zeros(0, dtype=torch.int64)
        difference = (self.background_fraction - self.object_fraction).nan_to_num(-torch.inf)
        order = difference.argsort(descending=True, stable=True)
        return order[difference[order] > 0]

    def to_json(self) -> dict[str, Any]:
        """Everything except images and masks, for JSON."""
        rows = [
            {"image": name, "area": float(area), "share": finite_or_none(share)} | self._shown(row)
            for row, (name, area, share) in enumerate(zip(self.names, self.areas, self.share, strict=True))
        ]
        suspects = None if self.object_fraction is None else [self.names[row] for row in self.suspects.tolist()]
        return {"images": rows, "evidence outside the object": suspects, "enough": self.required_fraction, **self.facts}

    def _shown(self, row: int) -> dict[str, float | None]:
        if self.object_fraction is None or self.background_fraction is None:
            return {}
        return {"object alone": finite_or_none(self.object_fraction[row]), "without it": finite_or_none(self.background_fraction[row])}

    def _order(self) -> list[int]:
        """Suspects first, then all other images."""
        suspects = self.suspects.tolist()
        return [*suspects, *(row for row in range(len(self.images)) if row not in suspects)]

    def gallery(self, most: int = 24) -> Gallery:
        """Each image next to its smallest sufficient region, suspects first; the object is outlined.

        Args:
            most: maximum number of images.
        """
        order, columns = self._order()[:most], 6
        rows: dict[str, list[Tile]] = {}
        for start in range(0, len(order), columns // 2):
            tiles: list[Tile] = []
            for row in order[start : start + columns // 2]:
                image = self.images[row].float()
                masked = image * self.masks[row] + (image * 0.15 + 100) * (1 - self.masks[row])
                kept_text = f"keeps {100 * float(self.share[row]):.0f} %" if bool(self.share[row].isfinite()) else "keeps –"
                caption = f"{100 * float(self.areas[row]):.0f} % {kept_text}"
                caption += "".join(
                    f"\n{name} {'–' if fraction is None else f'{100 * fraction:.0f} %'}" for name, fraction in self._shown(row).items()
                )
                tiles += [
                    Tile(self.images[row].permute(1, 2, 0).numpy(), self.names[row][-24:]),
                    Tile(self._outlined(masked, row), caption),
                ]
            rows[f"{start // (columns // 2) + 1}"] = tiles
        return Gallery(rows, self.facts)

    def _outlined(self, image: Tensor, row: int) -> Any:
        levels = image.clamp(0, 255).to(torch.uint8)
        if self.objects is not None:
            mask = self.objects[row]
            edge = torch.zeros_like(mask)
            edge[1:] |= mask[1:] != mask[:-1]
            edge[:, 1:] |= mask[:, 1:] != mask[:, :-1]
            levels[:, edge] = torch.tensor([[213], [94], [0]], dtype=torch.uint8)
        return levels.permute(1, 2, 0).numpy()

    def save(self, folder: Path) -> list[Path]:
        """Write ``sheet.png``, ``pictures.npz`` and ``gallery.json``, which holds the values of every image.

        Args:
            folder: where the files are written.
        """
        gallery = self.gallery()
        return Gallery(gallery.rows, self.to_json()).save(folder)

    def _repr_html_(self) -> str:
        values = self.to_json()
        rows = [tuple(values["images"][row].values()) for row in self._order()]
        suspects = None if self.object_fraction is None else f"{len(self.suspects)} of {len(self.images)}"
        about = facts({**self.facts, "enough": self.required_fraction, "evidence outside the object": suspects})
        inline = inlined(self.gallery()._repr_png_(), "images next to their smallest sufficient regions")
        return panel("Smallest sufficient regions", about, table(list(values["images"][0]), rows, most=24), inline)


def diagnose(
    phi: Representation, images: Num[Tensor, "batch 3 height width"], target: Target, *,
    objects: Bool[Tensor, "batch height width"] | None = None, names: Sequence[str] = (), areas: Sequence[float] = AREAS,
    required_fraction: float = 0.9, steps: int = 100, substrate: Substrate = "mean",
) -> Diagnosis:  # fmt: skip
    """For each image, the smallest mask that keeps enough of the score, by extremal perturbation of all images and areas at once.

    Args:
        phi: the representation.
        images: images ``(B, 3, H, W)``, uint8 or in [0, 1].
        target: the score that is explained.
        objects: object masks ``(B, H, W)``, if known.
        names: names of the images; empty: numbered.
        areas: fractions of the image that are tried.
        required_fraction: required fraction of the score, from the baseline (0) to the full image (1).
        steps: maximum number of optimisation steps.
        substrate: baseline of hidden regions; a blurred background keeps its colours, which may be the cue.

    Raises:
        UsageError: an area is not between 0 and 1.
        DataError: the scores of some images are NaN or infinite.
    """
    with torch.no_grad():
        scores(phi, phi.normalise(images), target, names=names)
    perturbation = extremal_perturbation(phi, images, target, areas=tuple(sorted(areas)), steps=steps, substrate=substrate)
    rows, chosen = torch.arange(len(images), device=perturbation.share.device), _smallest(perturbation.share >= required_fraction)
    parts = (None, None) if objects is None else _object_and_background(phi, images, target, objects, substrate)
    return Diagnosis(
        _levels(images),
        tuple(names) or tuple(f"image {row}" for row in range(len(images))),
        perturbation.masks[rows, chosen].cpu(),
        perturbation.visible[rows, chosen].cpu(),
        perturbation.share[rows, chosen].cpu(),
        required_fraction,
        *parts,
        objects,
        {"target": target.name, "representation": phi.name, "substrate": substrate},
    )


def _smallest(sufficient: Bool[Tensor, "batch area"]) -> Int[Tensor, " batch"]:
    """Index of the first sufficient area of each image; the last where none suffices."""
    return torch.where(sufficient.any(1), sufficient.int().argmax(1), sufficient.shape[1] - 1)


def _levels(images: Num[Tensor, "batch 3 height width"]) -> UInt8[Tensor, "batch 3 height width"]:
    return ((images * 255).round() if images.is_floating_point() else images).to(torch.uint8).cpu()


@torch.no_grad()
def _object_and_background(
    phi: Representation, images: Tensor, target: Target, objects: Bool[Tensor, "batch height width"], substrate: Substrate
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """Fraction of the score that the object alone keeps, and that the background alone keeps."""
    inputs, objects_mask = phi.normalise(images), objects[:, None].to(phi.device)
    baseline = as_normalised(pyramid(inputs, substrate)[:, 0])
    whole, nothing = scores(phi, inputs, target), scores(phi, baseline, target)
    pair = [scores(phi, as_normalised(torch.where(visible, inputs, baseline)), target) for visible in (objects_mask, ~objects_mask)]
    kept = score_fraction(torch.stack(pair, 1), whole, nothing).cpu()
    return kept[:, 0], kept[:, 1]
