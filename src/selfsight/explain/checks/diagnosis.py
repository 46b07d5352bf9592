"""Is a network right for the right reason? For each image the smallest part that is enough, and what the object and the rest keep alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Num, UInt8
from torch import Tensor

from selfsight.core.representation import Representation
from selfsight.explain.attribution.perturbation import Substrate, extremal_perturbation, pyramid
from selfsight.explain.attribution.saliency import part_kept, scores
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
        names: what to call them.
        masks: the smallest mask that keeps enough of the score; the largest that was tried where none does.
        areas: its area.
        share: the part of the score that it keeps; NaN where the image has no more of it than its substrate.
        enough: the part that was asked for.
        alone: the part of the score that the object keeps alone; None where no object is known.
        without: the part that everything else keeps.
        objects: where the objects are.
        facts: the target and the representation.
    """

    images: UInt8[Tensor, "batch 3 height width"]
    names: tuple[str, ...]
    masks: Float[Tensor, "batch height width"]
    areas: Float[Tensor, " batch"]
    share: Float[Tensor, " batch"]
    enough: float
    alone: Float[Tensor, " batch"] | None
    without: Float[Tensor, " batch"] | None
    objects: Bool[Tensor, "batch height width"] | None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def suspects(self) -> Int[Tensor, " image"]:
        """Images that keep more of the score without the object than by it alone, those by most first.

        That is asked of the object itself, not of the mask: where several parts are enough, the search may find any of them.
        """
        if self.alone is None or self.without is None:
            return torch.zeros(0, dtype=torch.int64)
        astray = (self.without - self.alone).nan_to_num(-torch.inf)
        order = astray.argsort(descending=True, stable=True)
        return order[astray[order] > 0]

    def to_json(self) -> dict[str, Any]:
        """All but the pictures, for JSON."""
        rows = [
            {"image": name, "area": float(area), "share": finite_or_none(share)} | self._shown(row)
            for row, (name, area, share) in enumerate(zip(self.names, self.areas, self.share, strict=True))
        ]
        suspects = None if self.alone is None else [self.names[row] for row in self.suspects.tolist()]
        return {"images": rows, "evidence outside the object": suspects, "enough": self.enough, **self.facts}

    def _shown(self, row: int) -> dict[str, float | None]:
        if self.alone is None or self.without is None:
            return {}
        return {"object alone": finite_or_none(self.alone[row]), "without it": finite_or_none(self.without[row])}

    def _order(self) -> list[int]:
        """Suspects, then all others."""
        first = self.suspects.tolist()
        return [*first, *(row for row in range(len(self.images)) if row not in first)]

    def gallery(self, most: int = 24) -> Gallery:
        """Each image beside what is enough of it, suspects first; the object is drawn around."""
        order, wide = self._order()[:most], 6
        rows: dict[str, list[Tile]] = {}
        for start in range(0, len(order), wide // 2):
            line: list[Tile] = []
            for row in order[start : start + wide // 2]:
                picture = self.images[row].float()
                dimmed = picture * self.masks[row] + (picture * 0.15 + 100) * (1 - self.masks[row])
                kept = f"keeps {100 * float(self.share[row]):.0f} %" if bool(self.share[row].isfinite()) else "keeps –"
                words = f"{100 * float(self.areas[row]):.0f} % {kept}"
                words += "".join(f"\n{name} {'–' if part is None else f'{100 * part:.0f} %'}" for name, part in self._shown(row).items())
                line += [Tile(self.images[row].permute(1, 2, 0).numpy(), self.names[row][-24:]), Tile(self._outlined(dimmed, row), words)]
            rows[f"{start // (wide // 2) + 1}"] = line
        return Gallery(rows, self.facts)

    def _outlined(self, picture: Tensor, row: int) -> Any:
        levels = picture.clamp(0, 255).to(torch.uint8)
        if self.objects is not None:
            inside = self.objects[row]
            edge = torch.zeros_like(inside)
            edge[1:] |= inside[1:] != inside[:-1]
            edge[:, 1:] |= inside[:, 1:] != inside[:, :-1]
            levels[:, edge] = torch.tensor([[213], [94], [0]], dtype=torch.uint8)
        return levels.permute(1, 2, 0).numpy()

    def save(self, folder: Path) -> list[Path]:
        """Write ``sheet.png``, ``pictures.npz`` and ``gallery.json``; the last with every image's numbers."""
        gallery = self.gallery()
        return Gallery(gallery.rows, self.to_json()).save(folder)

    def _repr_html_(self) -> str:
        plain = self.to_json()
        rows = [tuple(plain["images"][row].values()) for row in self._order()]
        suspects = None if self.alone is None else f"{len(self.suspects)} of {len(self.images)}"
        about = facts({**self.facts, "enough": self.enough, "evidence outside the object": suspects})
        shown = inlined(self.gallery()._repr_png_(), "images beside what is enough of them")
        return panel("The smallest part that is enough", about, table(list(plain["images"][0]), rows, most=24), shown)


def diagnose(
    phi: Representation,
    images: Num[Tensor, "batch 3 height width"],
    target: Target,
    *,
    objects: Bool[Tensor, "batch height width"] | None = None,
    names: Sequence[str] = (),
    areas: Sequence[float] = AREAS,
    enough: float = 0.9,
    steps: int = 100,
    substrate: Substrate = "mean",
) -> Diagnosis:
    """For each image the smallest mask that keeps enough of the score, by extremal perturbation of all images and areas at once.

    Args:
        phi, images, target: as for ``saliency``.
        objects: where the objects are, if it is known.
        names: what to call the images.
        areas: parts of the image that are tried, from small to large.
        enough: the part of the score that has to be kept, from the substrate (0) to the whole image (1).
        steps: of the search.
        substrate: what stands where a mask does not show the image; a blurred background keeps its hue, which may be the cue.
    """
    tried = tuple(sorted(areas))
    found = extremal_perturbation(phi, images, target, areas=tried, steps=steps, substrate=substrate)
    rows, chosen = torch.arange(len(images), device=found.share.device), _smallest(found.share >= enough)
    alone, without = (None, None) if objects is None else _apart(phi, images, target, objects, substrate)
    return Diagnosis(
        _levels(images),
        tuple(names) or tuple(f"image {row}" for row in range(len(images))),
        found.masks[rows, chosen].cpu(),
        found.visible[rows, chosen].cpu(),
        found.share[rows, chosen].cpu(),
        enough,
        alone,
        without,
        objects,
        {"target": target.name, "representation": phi.name, "substrate": substrate},
    )


def _smallest(good: Bool[Tensor, "batch area"]) -> Int[Tensor, " batch"]:
    """The first area that is good for each image; the last where none is."""
    return torch.where(good.any(1), good.int().argmax(1), good.shape[1] - 1)


def _levels(images: Num[Tensor, "batch 3 height width"]) -> UInt8[Tensor, "batch 3 height width"]:
    return ((images * 255).round() if images.is_floating_point() else images).to(torch.uint8).cpu()


@torch.no_grad()
def _apart(
    phi: Representation, images: Tensor, target: Target, objects: Bool[Tensor, "batch height width"], substrate: Substrate
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """The part of the score that the object keeps alone, and the part that all else keeps without it."""
    given, inside = phi.normalise(images), objects[:, None].to(phi.device)
    other = pyramid(given, substrate)[:, 0]
    whole, nothing = scores(phi, given, target), scores(phi, other, target)
    both = [scores(phi, torch.where(shown, given, other), target) for shown in (inside, ~inside)]
    kept = part_kept(torch.stack(both, 1), whole, nothing).cpu()
    return kept[:, 0], kept[:, 1]
