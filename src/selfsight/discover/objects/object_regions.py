"""Detected objects: boxes and masks at the images' own size, as COCO JSON, CSV, PNG and a sheet."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from selfsight.core.cache import Arrays, cache_key
from selfsight.core.json_text import json_text
from selfsight.core.progress import ProgressCallback, no_progress
from selfsight.core.representation import Representation
from selfsight.core.spreadsheets import write_csv
from selfsight.data.source import Rows, Source
from selfsight.discover.dense.features import FeatureBatch, FeatureSpec, Size, iter_feature_batches
from selfsight.discover.dense.refine import refined
from selfsight.discover.objects.localise import Region, localise
from selfsight.discover.options import LocaliserOptions
from selfsight.render.overlay import overlay_regions, upsampled
from selfsight.render.panels import facts, inlined, panel, table
from selfsight.render.tiles import SHOWN, mask_files, page

__all__ = ["ObjectRegions", "find_objects"]


@dataclass(frozen=True)
class ObjectRegions:
    """Regions of some images.

    Attributes:
        names: names of the images.
        sizes: (height, width) of the image files in pixels.
        read: (height, width) of the images as read, in whose pixels annotations are given.
        regions: regions of each image.
        thumbnails: thumbnails of the first images, for the sheet.
        facts: the settings.
    """

    names: tuple[str, ...]
    sizes: tuple[Size, ...]
    read: tuple[Size, ...]
    regions: tuple[Sequence[Region], ...]
    thumbnails: tuple[UInt8[np.ndarray, "_ _ 3"], ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def boxes(self, row: int, *, read: bool = False) -> Float[np.ndarray, "region 5"]:
        """Boxes and scores of an image.

        Args:
            row: index of the image.
            read: in pixels of the image as read; False: in pixels of the image file.

        Returns:
            ``(region, 5)`` left, top, right, bottom (the last two exclusive) and score.
        """
        height, width = self.read[row] if read else self.sizes[row]
        boxes = np.zeros((len(self.regions[row]), 5))
        for index, region in enumerate(self.regions[row]):
            rows, columns = region.mask.shape
            boxes[index] = (*np.array(region.box) * np.array([width / columns, height / rows] * 2), region.score)
        return boxes

    def mask(self, row: int) -> UInt8[np.ndarray, "height width"]:
        """Region index at each pixel of the image file, from 1; 0: none. Earlier regions cover later ones."""
        indices = np.zeros(self.sizes[row], dtype=np.uint8)
        for index, region in reversed(list(enumerate(self.regions[row]))):
            indices[upsampled(region.mask, self.sizes[row])] = index + 1
        return indices

    def to_json(self) -> dict[str, Any]:
        """COCO format: images, and an annotation per region."""
        images, annotations = [], []
        for row, (name, (height, width)) in enumerate(zip(self.names, self.sizes, strict=True)):
            images.append({"id": row, "file_name": name, "height": height, "width": width})
            for left, top, right, bottom, score in self.boxes(row).round(4).tolist():
                box = [left, top, round(right - left, 4), round(bottom - top, 4)]
                annotation = {"id": len(annotations), "image_id": row, "category_id": 1, "bbox": box, "area": round(box[2] * box[3], 4)}
                annotations.append({**annotation, "iscrowd": 0, "score": score})
        categories = [{"id": 1, "name": "object"}]
        return {"info": dict(self.facts), "images": images, "annotations": annotations, "categories": categories}

    def save(self, folder: Path) -> list[Path]:
        """Write ``boxes.json`` (COCO), ``boxes.csv``, ``masks/`` (a PNG of region indices per image) and ``sheet.png``."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "boxes.json").write_text(json_text(self.to_json()) + "\n")
        with (folder / "boxes.csv").open("w", newline="", encoding="utf-8") as file:
            rows = ([name, *self.boxes(row)[index].round(4)] for row, name, index in self._each())
            write_csv(file, ["file", "left", "top", "right", "bottom", "score"], rows)
        for row, target in enumerate(mask_files(self.names, folder / "masks")):
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(self.mask(row)).save(target)
        (folder / "sheet.png").write_bytes(self._repr_png_())
        return [folder / name for name in ("sheet.png", "boxes.json", "boxes.csv", "masks")]

    def _each(self) -> Iterator[tuple[int, str, int]]:
        for row, name in enumerate(self.names):
            yield from ((row, name, index) for index in range(len(self.regions[row])))

    def _repr_png_(self) -> bytes:
        """The first images with their masks and boxes."""
        return page([self.tile(row) for row in range(len(self.thumbnails))])

    def _repr_html_(self) -> str:
        about = {"regions": f"{sum(map(len, self.regions)):,}", "images": f"{len(self.names):,}", **self.facts}
        rows = [
            (self.names[row], index + 1, *map(round, self.boxes(row)[index, :4].tolist()), float(self.regions[row][index].score))
            for row, _, index in self._each()
        ]
        boxes = table(("image", "region", "left", "top", "right", "bottom", "score"), rows, most=12)
        return panel("Object regions", facts(about), inlined(self._repr_png_(), "the first images with their regions"), boxes)

    def tile(self, row: int) -> Image.Image:
        """An image in grey except for the regions, each with an outline and a box in its colour."""
        return overlay_regions(self.thumbnails[row], self.mask(row), self.boxes(row)[:, :4], self.sizes[row])


def find_objects(
    phi: Representation, source: Source, method: str = "cut", *, feature_spec: FeatureSpec | None = None, min_confidence: float = 0.05,
    refine: bool = False, rows: Rows | None = None, cache: Path | None = None, progress: ProgressCallback = no_progress,
    **options: Unpack[LocaliserOptions],
) -> ObjectRegions:  # fmt: skip
    """Detect objects in the images of a data set without labels.

    Args:
        phi: the representation.
        source: the data set.
        method: a name in ``LOCALISERS``.
        feature_spec: scale and features; None: the defaults.
        min_confidence: minimum confidence, from 0 to 1.
        refine: move edges to colour edges (``discover.refine``).
        rows: rows to read; None: all.
        cache: folder of cached eigenvectors and regions, so that an interrupted run can continue; None: no cache.
        progress: called with a line per step.
        options: options of the localiser.

    Raises:
        UsageError: the localiser does not exist, or does not support the network.
    """
    names, sizes, read, thumbnails = list[str](), list[Size](), list[Size](), list[np.ndarray]()
    regions = list[Sequence[Region]]()
    total = len(source) if rows is None else len(rows)
    for feature_batch in iter_feature_batches(phi, source, feature_spec or FeatureSpec(), rows=rows, cache=cache):
        regions += _cached_regions(feature_batch, method, min_confidence, options, refine=refine)
        names, sizes, read = [*names, *feature_batch.names], [*sizes, *feature_batch.sizes], [*read, *feature_batch.read]
        thumbnails += feature_batch.small(SHOWN - len(thumbnails))
        if len(names) == total or len(names) % 64 < len(feature_batch):
            progress(f"{method}: {len(names):,} of {total:,} images")
    facts = {"method": method, "least": min_confidence, "refine": refine, "representation": phi.name, "data": source.spec, **options}
    return ObjectRegions(tuple(names), tuple(sizes), tuple(read), tuple(regions), tuple(thumbnails), facts)


def _cached_regions(
    feature_batch: FeatureBatch, method: str, min_confidence: float, options: LocaliserOptions, *, refine: bool
) -> list[list[Region]]:
    """Regions of a batch, from the cache if possible."""

    def compute() -> list[list[Region]]:
        regions = localise(feature_batch, method, min_confidence=min_confidence, **options)
        return [_refined(feature_batch, row, each) for row, each in enumerate(regions)] if refine else regions

    if feature_batch.cache is None:
        return compute()
    name = f"regions-{cache_key(method, refine, sorted({**options, 'min_confidence': min_confidence}.items()))[:12]}"
    return _unpacked(feature_batch.cache.get_or_compute(name, feature_batch.rows, lambda: _packed(compute())))


def _packed(regions: Sequence[Sequence[Region]]) -> Arrays:
    flat = [region for image in regions for region in image]
    masks = {f"mask{index}": region.mask for index, region in enumerate(flat)}
    return {"counts": np.array([len(image) for image in regions]), "scores": np.array([region.score for region in flat]), **masks}


def _unpacked(arrays: Arrays) -> list[list[Region]]:
    flat = [Region(arrays[f"mask{index}"], float(score)) for index, score in enumerate(arrays["scores"])]
    ends = np.cumsum(arrays["counts"])
    return [flat[end - count : end] for count, end in zip(arrays["counts"], ends, strict=True)]


def _refined(feature_batch: FeatureBatch, row: int, regions: Sequence[Region]) -> list[Region]:
    """Regions refined to colour edges; a region that would become empty is kept unchanged."""
    if not regions:
        return []
    pixels = feature_batch.pixels[row : row + 1].expand(len(regions), -1, -1, -1)
    finer = refined(np.stack([region.mask for region in regions]), pixels)
    return [Region(mask, region.score) if mask.any() else region for mask, region in zip(finer, regions, strict=True)]
