"""Label maps of images: classes or parts per location, as files and as a sheet."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from PIL import Image
from torch.nn.functional import adaptive_avg_pool2d, interpolate, one_hot

from selfsight.core.json_text import json_text
from selfsight.discover.dense.features import FeatureBatch, Size
from selfsight.discover.dense.refine import Field, cells_of, mean_field
from selfsight.render.overlay import overlay_classes, upsampled
from selfsight.render.palette import class_colours
from selfsight.render.panels import facts, inlined, panel, swatch, table
from selfsight.render.tiles import SHOWN, mask_files, page

__all__ = ["SegmentationResult", "edged", "with_maps"]

Map = Int[np.ndarray, "_ _"]


@dataclass(frozen=True)
class SegmentationResult:
    """Label maps of images.

    Attributes:
        names: names of the images.
        sizes: (height, width) of the image files in pixels.
        read: (height, width) of the images as read.
        maps: class at each location, from 1; 0 is background.
        classes: number of classes, without background.
        thumbnails: thumbnails of the first images.
        facts: the settings.
        word: base name of the files.
    """

    names: tuple[str, ...]
    sizes: tuple[Size, ...]
    read: tuple[Size, ...]
    maps: tuple[Map, ...]
    classes: int
    thumbnails: tuple[np.ndarray, ...] = ()
    facts: dict[str, Any] | None = None
    word: str = "segments"

    @classmethod
    def of(
        cls, segmented: Iterable[tuple[FeatureBatch, Sequence[Map]]], classes: int, facts: dict[str, Any], word: str = "segments"
    ) -> "SegmentationResult":
        """Collect the maps of batches of images.

        Args:
            segmented: batches, each with a map per image.
            classes: number of classes, without background.
            facts: the settings.
            word: base name of the files.
        """
        names, sizes, read = list[str](), list[Size](), list[Size]()
        maps, thumbnails = list[Map](), list[np.ndarray]()
        for feature_batch, batch_maps in segmented:
            names, sizes, read = [*names, *feature_batch.names], [*sizes, *feature_batch.sizes], [*read, *feature_batch.read]
            maps += batch_maps
            thumbnails += feature_batch.small(SHOWN - len(thumbnails))
        return cls(tuple(names), tuple(sizes), tuple(read), tuple(maps), classes, tuple(thumbnails), facts, word)

    def at(self, row: int, size: Size) -> Int[np.ndarray, "height width"]:
        """Class at each pixel of an image.

        Args:
            row: index of the image.
            size: height and width in pixels.
        """
        return upsampled(self.maps[row], size)

    def save(self, folder: Path) -> list[Path]:
        """Write a folder with a PNG of classes per image, a ``.json`` (fraction of each class) and a sheet, named after ``word``."""
        folder.mkdir(parents=True, exist_ok=True)
        for row, target in enumerate(mask_files(self.names, folder / self.word)):
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(self.at(row, self.sizes[row]).astype(np.uint8 if self.classes < 256 else np.uint16)).save(target)
        fractions = [
            (np.bincount(class_map.ravel(), minlength=self.classes + 1) / class_map.size).round(5).tolist() for class_map in self.maps
        ]
        content = {
            "info": self.facts or {},
            "pictures": [{"file": name, "shares": fraction} for name, fraction in zip(self.names, fractions, strict=True)],
        }
        (folder / f"{self.word}.json").write_text(json_text(content) + "\n")
        (folder / f"{self.word}.png").write_bytes(self._repr_png_())
        return [folder / name for name in (f"{self.word}.png", f"{self.word}.json", self.word)]

    def _repr_png_(self) -> bytes:
        """The first images with their classes in colours."""
        colours = class_colours(self.classes)
        return page([overlay_classes(image, class_map, colours) for image, class_map in zip(self.thumbnails, self.maps, strict=False)])

    def _repr_html_(self) -> str:
        counts = np.array([np.bincount(class_map.ravel(), minlength=self.classes + 1) / class_map.size for class_map in self.maps])
        means, images = counts.mean(0).tolist(), (counts > 0).sum(0).tolist()
        marks = ("background", *map(swatch, class_colours(self.classes).tolist()))
        rows = [(colour, number, means[number], images[number]) for number, colour in enumerate(marks)]
        classes = table(("", "class", "fraction of locations", "images with it"), rows)
        title = f"{self.classes} {'classes' if self.word == 'segments' else self.word}"
        return panel(title, facts(self.facts or {}), inlined(self._repr_png_(), "the first images in colours"), classes)


def with_maps(batches: Iterator[FeatureBatch], maps: Sequence[Map]) -> Iterator[tuple[FeatureBatch, Sequence[Map]]]:
    """Batches with their maps.

    Args:
        batches: the images in batches.
        maps: maps of all images, in order.
    """
    start = 0
    for feature_batch in batches:
        yield feature_batch, maps[start : start + len(feature_batch)]
        start += len(feature_batch)


def edged(batches: Callable[[], Iterator[FeatureBatch]], maps: Sequence[Map], classes: int, sure: float = 0.7) -> list[Map]:
    """Refine maps to finer cells, with edges at colour edges.

    Args:
        batches: function that iterates over the images.
        maps: maps of all images, in order.
        classes: number of classes, without background.
        sure: prior probability that the class of a cell is correct.
    """
    refined, field = list[Map](), Field()
    for feature_batch, batch_maps in with_maps(batches(), maps):
        for image, class_map in zip(feature_batch.pixels.cpu(), batch_maps, strict=True):
            size = cells_of(image.shape[1:])
            probability = interpolate(
                one_hot(torch.from_numpy(class_map), classes + 1).permute(2, 0, 1)[None].float(), size, mode="bilinear"
            ).flatten(2)
            unary = -(sure * probability + (1 - sure) / (classes + 1)).log()
            kernel = field.kernel(adaptive_avg_pool2d(image[None], size))
            refined.append(mean_field(unary, kernel, field.rounds)[0].argmax(0).reshape(size).numpy())
    return refined
