"""Is a network right for the right reason? For each image the smallest part that is enough, and whether it lies on the object."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Num, UInt8
from torch import Tensor

from selfsight.core.representation import Representation
from selfsight.explain.gallery import Gallery
from selfsight.explain.perturbation import Substrate, extremal_perturbation
from selfsight.explain.sheet import Shown, number
from selfsight.explain.targets import Target

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
        inside: the part of the object that the mask shows; None where no object is known.
        beside: the part of everything else that it shows.
        objects: where the objects are.
        facts: the target and the representation.
    """

    images: UInt8[Tensor, "batch 3 height width"]
    names: tuple[str, ...]
    masks: Float[Tensor, "batch height width"]
    areas: Float[Tensor, " batch"]
    share: Float[Tensor, " batch"]
    enough: float
    inside: Float[Tensor, " batch"] | None
    beside: Float[Tensor, " batch"] | None
    objects: Bool[Tensor, "batch height width"] | None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def suspects(self) -> Int[Tensor, " image"]:
        """Images where a mask is enough that shows less of the object than of the rest, the farthest first.

        Parts of each are compared, so that an object smaller than the mask, or larger, makes no suspect.
        """
        if self.inside is None or self.beside is None:
            return torch.zeros(0, dtype=torch.int64)
        astray = self.beside - self.inside
        order = astray.argsort(descending=True, stable=True)
        return order[((astray > 0) & (self.share >= self.enough))[order]]

    def to_plain(self) -> dict[str, Any]:
        """All but the pictures, for JSON."""
        rows = [
            {"image": name, "area": float(area), "share": number(share)} | self._shown(row)
            for row, (name, area, share) in enumerate(zip(self.names, self.areas, self.share, strict=True))
        ]
        suspects = None if self.inside is None else [self.names[row] for row in self.suspects.tolist()]
        return {"images": rows, "evidence outside the object": suspects, "enough": self.enough, **self.facts}

    def _shown(self, row: int) -> dict[str, float]:
        if self.inside is None or self.beside is None:
            return {}
        return {"of the object": float(self.inside[row]), "of the rest": float(self.beside[row])}

    def gallery(self, most: int = 24) -> Gallery:
        """Each image beside what is enough of it, suspects first; the object is drawn around."""
        first = self.suspects.tolist()
        order = [*first, *(row for row in range(len(self.images)) if row not in first)][:most]
        wide = 6
        rows: dict[str, list[Shown]] = {}
        for start in range(0, len(order), wide // 2):
            line: list[Shown] = []
            for row in order[start : start + wide // 2]:
                picture = self.images[row].float()
                dimmed = picture * self.masks[row] + (picture * 0.15 + 100) * (1 - self.masks[row])
                kept = f"keeps {100 * float(self.share[row]):.0f} %" if bool(self.share[row].isfinite()) else "keeps –"
                words = f"{100 * float(self.areas[row]):.0f} % {kept}"
                words += "".join(f"\n{100 * part:.0f} % {name}" for name, part in self._shown(row).items())
                line += [Shown(self.images[row].permute(1, 2, 0).numpy(), self.names[row][-24:]), Shown(self._outlined(dimmed, row), words)]
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
        return Gallery(gallery.rows, self.to_plain()).save(folder)


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
        substrate: what stands where a mask does not show the image. The mean colour: a blurred background keeps its hue, and
            if that gives the class away, the blur does.
    """
    tried = tuple(sorted(areas))
    found = extremal_perturbation(phi, images, target, areas=tried, steps=steps, substrate=substrate)
    good = found.share >= enough
    chosen = torch.where(good.any(1), good.int().argmax(1), len(tried) - 1)
    rows = torch.arange(len(images), device=chosen.device)
    masks = found.masks[rows, chosen].cpu()
    inside, beside = (None, None) if objects is None else (_part_shown(masks, objects), _part_shown(masks, ~objects))
    levels = (images * 255).round() if images.is_floating_point() else images
    return Diagnosis(
        levels.to(torch.uint8).cpu(),
        tuple(names) or tuple(f"image {number}" for number in range(len(images))),
        masks,
        found.visible[rows, chosen].cpu(),
        found.share[rows, chosen].cpu(),
        enough,
        inside,
        beside,
        objects,
        {"target": target.name, "representation": phi.name, "substrate": substrate},
    )


def _part_shown(masks: Float[Tensor, "batch height width"], of: Bool[Tensor, "batch height width"]) -> Float[Tensor, " batch"]:
    return (masks * of).sum((1, 2)) / of.sum((1, 2)).clamp(min=1)
