"""What was found in pictures: boxes and masks at the pictures' own size, as COCO JSON, CSV, PNG and a sheet."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from selfsight.core.cache import Arrays, cache_key
from selfsight.core.progress import ProgressCallback, no_progress
from selfsight.core.representation import Representation
from selfsight.data.source import Rows, Source
from selfsight.discover.dense.features import FeatureBatch, FeatureSpec, Size, iter_feature_batches
from selfsight.discover.dense.refine import refined
from selfsight.discover.objects.localise import Region, localise
from selfsight.render.panels import facts, inlined, panel, table
from selfsight.render.tiles import COLOURS, SHOWN, SIDE, mask_files, page, stretched

__all__ = ["ObjectRegions", "find_objects"]


@dataclass(frozen=True)
class ObjectRegions:
    """Regions of some pictures.

    Attributes:
        names: of the pictures.
        sizes: (height, width) of the picture files in pixels.
        read: (height, width) as the data set gives them, in whose pixels it knows the truth.
        regions: of each, masks over places.
        pictures: small copies of the first, for the sheet.
        facts: how it was done.
    """

    names: tuple[str, ...]
    sizes: tuple[Size, ...]
    read: tuple[Size, ...]
    regions: tuple[Sequence[Region], ...]
    pictures: tuple[UInt8[np.ndarray, "_ _ 3"], ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def boxes(self, row: int, *, read: bool = False) -> Float[np.ndarray, "region 5"]:
        """Left, top, right, bottom in pixels of a picture's file, or of what was read (the last two excluded), and the score."""
        height, width = self.read[row] if read else self.sizes[row]
        found = np.zeros((len(self.regions[row]), 5))
        for place, region in enumerate(self.regions[row]):
            rows, columns = region.mask.shape
            found[place] = (*np.array(region.box) * np.array([width / columns, height / rows] * 2), region.score)
        return found

    def mask(self, row: int) -> UInt8[np.ndarray, "height width"]:
        """The number of the region at each pixel of a picture, from 1; the first found lies above; 0: none."""
        found = np.zeros(self.sizes[row], dtype=np.uint8)
        for place, region in reversed(list(enumerate(self.regions[row]))):
            found[stretched(region.mask, self.sizes[row])] = place + 1
        return found

    def to_json(self) -> dict[str, Any]:
        """COCO's form: pictures, and an annotation for each region; a picture in which nothing was found has none."""
        pictures, annotations = [], []
        for row, (name, (height, width)) in enumerate(zip(self.names, self.sizes, strict=True)):
            pictures.append({"id": row, "file_name": name, "height": height, "width": width})
            for left, top, right, bottom, score in self.boxes(row).round(4).tolist():
                box = [left, top, round(right - left, 4), round(bottom - top, 4)]
                about = {"id": len(annotations), "image_id": row, "category_id": 1, "bbox": box, "area": round(box[2] * box[3], 4)}
                annotations.append({**about, "iscrowd": 0, "score": score})
        categories = [{"id": 1, "name": "object"}]
        return {"info": dict(self.facts), "images": pictures, "annotations": annotations, "categories": categories}

    def save(self, folder: Path) -> list[Path]:
        """Write ``boxes.json`` (COCO), ``boxes.csv``, ``masks/`` (a PNG of region numbers for each picture) and ``sheet.png``."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "boxes.json").write_text(json.dumps(self.to_json()) + "\n")
        with (folder / "boxes.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["file", "left", "top", "right", "bottom", "score"])
            table.writerows([[name, *self.boxes(row)[place].round(4)] for row, name, place in self._each()])
        for row, target in enumerate(mask_files(self.names, folder / "masks")):
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(self.mask(row)).save(target)
        (folder / "sheet.png").write_bytes(self._repr_png_())
        return [folder / name for name in ("sheet.png", "boxes.json", "boxes.csv", "masks")]

    def _each(self) -> Iterator[tuple[int, str, int]]:
        for row, name in enumerate(self.names):
            yield from ((row, name, place) for place in range(len(self.regions[row])))

    def _repr_png_(self) -> bytes:
        """The first pictures with their masks and boxes."""
        return page([self.tile(row) for row in range(len(self.pictures))])

    def _repr_html_(self) -> str:
        about = {"regions": f"{sum(map(len, self.regions)):,}", "pictures": f"{len(self.names):,}", **self.facts}
        rows = [
            (self.names[row], place + 1, *map(round, self.boxes(row)[place, :4].tolist()), float(self.regions[row][place].score))
            for row, _, place in self._each()
        ]
        boxes = table(("picture", "region", "left", "top", "right", "bottom", "score"), rows, most=12)
        return panel("Regions found", facts(about), inlined(self._repr_png_(), "the first pictures with their regions"), boxes)

    def tile(self, row: int) -> Image.Image:
        """A picture in grey but for the regions, each with the outline and the box in its colour."""
        picture = Image.fromarray(self.pictures[row])
        scale = SIDE / max(picture.size)
        width, height = (max(round(side * scale), 1) for side in picture.size)
        pixels = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR)).astype(float)
        numbers = np.asarray(Image.fromarray(self.mask(row)).resize((width, height), Image.Resampling.NEAREST))
        shown = np.where((numbers > 0)[..., None], pixels, 0.35 * pixels.mean(2, keepdims=True) + 150)
        around = np.pad(numbers, 1, mode="edge")
        edges = (numbers != around[:-2, 1:-1]) | (numbers != around[1:-1, :-2])
        shown[edges] = np.array(COLOURS)[(np.maximum(numbers, around[:-2, 1:-1])[edges].clip(min=1) - 1) % len(COLOURS)]
        tile = Image.fromarray(shown.clip(0, 255).astype(np.uint8))
        whole = np.array([width, height] * 2) / np.array([*self.sizes[row][::-1]] * 2)
        for place, box in enumerate(self.boxes(row)[:, :4]):
            _frame(tile, (box * whole).round().astype(int), COLOURS[place % len(COLOURS)])
        return tile


def _frame(tile: Image.Image, box: np.ndarray, colour: tuple[int, int, int]) -> None:
    from PIL import ImageDraw

    left, top, right, bottom = box.tolist()
    ImageDraw.Draw(tile).rectangle((left, top, max(right - 1, left), max(bottom - 1, top)), outline=colour, width=2)


def find_objects(
    phi: Representation,
    source: Source,
    method: str = "cut",
    *,
    feature_spec: FeatureSpec | None = None,
    least: float = 0.05,
    refine: bool = False,
    rows: Rows | None = None,
    cache: Path | None = None,
    progress: ProgressCallback = no_progress,
    **options: Any,
) -> ObjectRegions:
    """Objects of a data set's pictures.

    Args:
        phi, source: what looks, and at what.
        method: a name of ``LOCALISERS``.
        feature_spec: at which scale, and which features.
        least: how sure a region has to be, from 0 to 1.
        refine: move edges to those of colours (``discover.refine``).
        rows: which pictures; all by default.
        kept: a folder in which eigenvectors and regions are kept, so that a search goes on where it was broken off.
        progress: called with how far it is.
        options: of the localiser.

    Raises:
        UsageError: there is no such localiser, or it cannot look at this network.
    """
    names, sizes, read, pictures = list[str](), list[Size](), list[Size](), list[np.ndarray]()
    regions = list[Sequence[Region]]()
    total = len(source) if rows is None else len(rows)
    for feature_batch in iter_feature_batches(phi, source, feature_spec or FeatureSpec(), rows=rows, cache=cache):
        regions += _cached_regions(feature_batch, method, refine=refine, least=least, **options)
        names, sizes, read = [*names, *feature_batch.names], [*sizes, *feature_batch.sizes], [*read, *feature_batch.read]
        pictures += feature_batch.small(SHOWN - len(pictures))
        if len(names) == total or len(names) % 64 < len(feature_batch):
            progress(f"{method}: {len(names):,} of {total:,} pictures")
    facts = {"method": method, "least": least, "refine": refine, "representation": phi.name, "data": source.spec, **options}
    return ObjectRegions(tuple(names), tuple(sizes), tuple(read), tuple(regions), tuple(pictures), facts)


def _cached_regions(feature_batch: FeatureBatch, method: str, *, refine: bool, **options: Any) -> list[list[Region]]:
    """The regions of some pictures, from where they are kept if they are."""

    def found() -> list[list[Region]]:
        some = localise(feature_batch, method, **options)
        return [_edged(feature_batch, row, one) for row, one in enumerate(some)] if refine else some

    if feature_batch.cache is None:
        return found()
    name = f"regions-{cache_key(method, refine, sorted(options.items()))[:12]}"
    return _unpacked(feature_batch.cache.get_or_compute(name, feature_batch.rows, lambda: _packed(found())))


def _packed(regions: Sequence[Sequence[Region]]) -> Arrays:
    every = [region for some in regions for region in some]
    masks = {f"mask{place}": region.mask for place, region in enumerate(every)}
    return {"counts": np.array([len(some) for some in regions]), "scores": np.array([region.score for region in every]), **masks}


def _unpacked(arrays: Arrays) -> list[list[Region]]:
    every = [Region(arrays[f"mask{place}"], float(score)) for place, score in enumerate(arrays["scores"])]
    ends = np.cumsum(arrays["counts"])
    return [every[end - count : end] for count, end in zip(arrays["counts"], ends, strict=True)]


def _edged(feature_batch: FeatureBatch, row: int, regions: Sequence[Region]) -> list[Region]:
    """Regions with edges where colours have theirs; one that this leaves nothing of stays as it was."""
    if not regions:
        return []
    pixels = feature_batch.pixels[row : row + 1].expand(len(regions), -1, -1, -1)
    finer = refined(np.stack([region.mask for region in regions]), pixels)
    return [Region(mask, region.score) if mask.any() else region for mask, region in zip(finer, regions, strict=True)]
