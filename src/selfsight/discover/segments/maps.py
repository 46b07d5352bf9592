"""What is at every place of some pictures: classes or parts, by number, as files and as a sheet."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from PIL import Image
from torch.nn.functional import adaptive_avg_pool2d, interpolate, one_hot

from selfsight.discover.dense.features import FeatureBatch, Size
from selfsight.discover.dense.refine import Field, cells_of, mean_field
from selfsight.render.panels import facts, inlined, panel, swatch, table
from selfsight.render.tiles import SHOWN, many_colours, mask_files, page, painted, stretched

__all__ = ["SegmentationResult", "edged", "with_maps"]

Map = Int[np.ndarray, "_ _"]


@dataclass(frozen=True)
class SegmentationResult:
    """Kinds of things at every place of some pictures.

    Attributes:
        names: of the pictures.
        sizes: (height, width) of the picture files in pixels.
        read: (height, width) as the data set gives them.
        maps: the kind at each place, from 1; 0 is ground.
        classes: how many there are, without ground.
        pictures: small copies of the first.
        facts: how it was done.
        word: what files are called after.
    """

    names: tuple[str, ...]
    sizes: tuple[Size, ...]
    read: tuple[Size, ...]
    maps: tuple[Map, ...]
    classes: int
    pictures: tuple[np.ndarray, ...] = ()
    facts: dict[str, Any] | None = None
    word: str = "segments"

    @classmethod
    def of(
        cls, painted: Iterable[tuple[FeatureBatch, Sequence[Map]]], classes: int, facts: dict[str, Any], word: str = "segments"
    ) -> "SegmentationResult":
        """From pictures in batches, each batch with its maps."""
        names, sizes, read = list[str](), list[Size](), list[Size]()
        maps, pictures = list[Map](), list[np.ndarray]()
        for feature_batch, some in painted:
            names, sizes, read = [*names, *feature_batch.names], [*sizes, *feature_batch.sizes], [*read, *feature_batch.read]
            maps += some
            pictures += feature_batch.small(SHOWN - len(pictures))
        return cls(tuple(names), tuple(sizes), tuple(read), tuple(maps), classes, tuple(pictures), facts, word)

    def at(self, row: int, size: Size) -> Int[np.ndarray, "height width"]:
        """The kind at each pixel of a picture of some size."""
        return stretched(self.maps[row], size)

    def save(self, folder: Path) -> list[Path]:
        """Write a folder with a PNG of classes for each picture, a ``.json`` (the share of each kind) and a sheet, called ``segments``."""
        folder.mkdir(parents=True, exist_ok=True)
        for row, target in enumerate(mask_files(self.names, folder / self.word)):
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(self.at(row, self.sizes[row]).astype(np.uint8 if self.classes < 256 else np.uint16)).save(target)
        shares = [(np.bincount(one.ravel(), minlength=self.classes + 1) / one.size).round(5).tolist() for one in self.maps]
        plain = {
            "info": self.facts or {},
            "pictures": [{"file": name, "shares": share} for name, share in zip(self.names, shares, strict=True)],
        }
        (folder / f"{self.word}.json").write_text(json.dumps(plain) + "\n")
        (folder / f"{self.word}.png").write_bytes(self._repr_png_())
        return [folder / name for name in (f"{self.word}.png", f"{self.word}.json", self.word)]

    def _repr_png_(self) -> bytes:
        """The first pictures with their classes in colours."""
        colours = many_colours(self.classes)
        return page([painted(picture, one, colours) for picture, one in zip(self.pictures, self.maps, strict=False)])

    def _repr_html_(self) -> str:
        counts = np.array([np.bincount(one.ravel(), minlength=self.classes + 1) / one.size for one in self.maps])
        parts, holds = counts.mean(0).tolist(), (counts > 0).sum(0).tolist()
        marks = ("ground", *map(swatch, many_colours(self.classes).tolist()))
        rows = [(mark, kind, parts[kind], holds[kind]) for kind, mark in enumerate(marks)]
        told = table(("", "number", "of all places", "pictures that have it"), rows)
        words = f"{self.classes} {'classes' if self.word == 'segments' else self.word}"
        return panel(words, facts(self.facts or {}), inlined(self._repr_png_(), "the first pictures in colours"), told)


def with_maps(batches: Iterator[FeatureBatch], maps: Sequence[Map]) -> Iterator[tuple[FeatureBatch, Sequence[Map]]]:
    """Batches, each with its share of maps."""
    at = 0
    for feature_batch in batches:
        yield feature_batch, maps[at : at + len(feature_batch)]
        at += len(feature_batch)


def edged(batches: Callable[[], Iterator[FeatureBatch]], maps: Sequence[Map], classes: int, sure: float = 0.7) -> list[Map]:
    """Maps over finer cells, with edges where colours have theirs."""
    found, field = list[Map](), Field()
    for feature_batch, some in with_maps(batches(), maps):
        for picture, one in zip(feature_batch.pixels.cpu(), some, strict=True):
            size = cells_of(picture.shape[1:])
            chance = interpolate(one_hot(torch.from_numpy(one), classes + 1).permute(2, 0, 1)[None].float(), size, mode="bilinear").flatten(
                2
            )
            unary = -(sure * chance + (1 - sure) / (classes + 1)).log()
            kernel = field.kernel(adaptive_avg_pool2d(picture[None], size))
            found.append(mean_field(unary, kernel, field.rounds)[0].argmax(0).reshape(size).numpy())
    return found
