"""What single units are about: network dissection (Bau et al. 2017, arXiv:1704.05796).

A unit k is on at a place of a picture where its activation, brought to the size of the masks (bilinear), is above a threshold of its own, and
a concept c has a mask L_c; over a whole data set::

    T_k        with P(a_k > T_k) = 0.005 over all pictures and places of the grid
    IoU_k,c  = Σ |M_k ∩ L_c| / Σ |M_k ∪ L_c|,   M_k = [a_k > T_k]

A unit is counted in the union only in pictures that show a concept of the same category as c. It detects the concept of its largest IoU if
that is above 0.04. The same is asked of random directions, ``a Q`` with an orthogonal Q: if concepts belong to units, and not just to
the space that they span, fewer directions detect any (section 3.2). The last published code takes 0.01 for 0.005.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import interpolate

from selfsight.core.clock import key
from selfsight.core.errors import DataError
from selfsight.core.representation import Representation
from selfsight.data.loader import load_images
from selfsight.data.source import Source, Truth
from selfsight.data.views.image.geometry import central_square

__all__ = [
    "IOU",
    "QUANTILE",
    "Concepts",
    "Dissection",
    "dissect",
    "region_concepts",
    "scene_concepts",
    "segment_concepts",
    "turned_at_random",
]

QUANTILE, IOU = 0.005, 0.04
TOP = 10
Masks = Bool[np.ndarray, "concept height width"]


@dataclass(frozen=True)
class Concepts:
    """Things that masks know, each of a category, such as outlines or textures; ``masks`` gives those of a row."""

    names: tuple[str, ...]
    categories: tuple[str, ...]
    masks: Callable[[int], Masks]

    def __add__(self, other: "Concepts") -> "Concepts":
        """The concepts of both."""
        both = (self.masks, other.masks)
        return Concepts(
            self.names + other.names, self.categories + other.categories, lambda row: np.concatenate([each(row) for each in both])
        )


def _need_masks(truth: Truth) -> Sequence[np.ndarray]:
    if truth.masks is None:
        raise DataError("The data set has no masks.", "Give one that has: a world, or a folder with a folder of masks as its truth.")
    return truth.masks


def region_concepts(truth: Truth, category: str, values: Sequence[str], *, ground: bool = False) -> Concepts:
    """A concept for each value: where the objects are, or the ground, in the pictures whose value it is.

    Args:
        truth: masks, of any rows.
        category: what the values are of.
        values: one a row; empty where unknown.
        ground: the value is that of what is no object.

    Raises:
        DataError: there are no masks.
    """
    masks, names = _need_masks(truth), tuple(sorted({value for value in values if value}))

    def of(row: int) -> Masks:
        there = (np.asarray(masks[row]) == 0) if ground else (np.asarray(masks[row]) > 0)
        return np.stack([there & (values[row] == name) for name in names])

    return Concepts(names, (category,) * len(names), of)


def segment_concepts(truth: Truth, category: str = "object") -> Concepts:
    """A concept for each class of object: where the objects of the boxes' classes are, or of the picture's where there are no boxes.

    Raises:
        DataError: there are no masks, or neither boxes nor labels say of what.
    """
    masks, boxes, labels = _need_masks(truth), truth.boxes, truth.labels
    if boxes is None and labels is None:
        raise DataError("Nothing says what the masks show.", "Give truth with boxes or labels beside the masks.")
    count = len(truth.classes)

    def of(row: int) -> Masks:
        mask, found = np.asarray(masks[row]), np.zeros((count, *masks[row].shape), dtype=bool)
        if boxes is None:
            assert labels is not None
            if labels[row] >= 0:
                found[labels[row]] = mask > 0
            return found
        for number, box in enumerate(np.asarray(boxes[row])):
            if 0 <= box[4] < count:
                found[int(box[4])] |= mask == number + 1
        return found

    return Concepts(truth.classes, (category,) * count, of)


def scene_concepts(truth: Truth) -> Concepts:
    """What is known of scenes of one object of ``world:shapes``: its outline, its texture, that of the ground, its brightness in three parts."""
    value = truth.attributes["value"]
    light = [("dark", "middling", "bright")[int(place)] for place in np.searchsorted((0.4, 0.6), value)]
    on_objects = region_concepts(truth, "texture", [str(name) for name in truth.attributes["texture_name"]])
    on_ground = region_concepts(truth, "ground", [str(name) for name in truth.attributes["background_name"]], ground=True)
    return segment_concepts(truth, "shape") + on_objects + on_ground + region_concepts(truth, "brightness", light)


@dataclass(frozen=True)
class Dissection:
    """What was found of each unit.

    Attributes:
        thresholds: T_k.
        ious: of each unit with each concept.
        names, categories: of the concepts.
        top: rows of the pictures with the largest activation anywhere, the largest first.
        protocol: in words.
    """

    thresholds: Float[np.ndarray, " unit"]
    ious: Float[np.ndarray, "unit concept"]
    names: tuple[str, ...]
    categories: tuple[str, ...]
    top: Int[np.ndarray, "unit top"]
    protocol: str

    @property
    def best(self) -> Int[np.ndarray, " unit"]:
        """The concept of the largest IoU of each unit."""
        return self.ious.argmax(1)

    def detectors(self, least: float = IOU) -> dict[int, tuple[str, float]]:
        """The units that detect a concept, with its name and IoU."""
        best = self.best
        return {
            unit: (self.names[best[unit]], float(self.ious[unit, best[unit]]))
            for unit in range(len(best))
            if self.ious[unit, best[unit]] > least
        }

    def unique(self, least: float = IOU) -> dict[str, int]:
        """How many different concepts are detected, by category."""
        found = {self.best[unit] for unit in self.detectors(least)}
        kinds = [self.categories[concept] for concept in found]
        return {kind: kinds.count(kind) for kind in dict.fromkeys(self.categories)}


def turned_at_random(units: int, seed: int = 0) -> Float[Tensor, "unit unit"]:
    """An orthogonal matrix, all as likely (Mezzadri 2007, Notices of the AMS 54)."""
    drawn = torch.randn(units, units, generator=torch.Generator().manual_seed(key(seed, 0x7012)), dtype=torch.float64)
    turn, upper = torch.linalg.qr(drawn)
    return (turn * upper.diagonal().sign()).float()


def dissect(
    phi: Representation,
    source: Source,
    concepts: Concepts,
    *,
    layer: str | None = None,
    quantile: float = QUANTILE,
    turn: Float[Tensor, "unit unit"] | None = None,
    batch: int = 64,
) -> Dissection:
    """Compare each unit of a layer with each concept over a data set, in two passes: thresholds, then overlaps.

    Args:
        phi: the representation, a convolutional network or a vision transformer.
        source: the data set; its pictures are seen at the size of ``phi``.
        concepts: masks of its rows, of any size.
        layer, batch: with places, the last grid by default; pictures at once.
        quantile: the part of all places where a unit is on.
        turn: directions to look at instead of units: activations are multiplied by it.

    Raises:
        UsageError: the layer has no places.
    """
    kept, peaks, seen = torch.zeros(0), list[Tensor](), 0
    for grid, _ in _activations(phi, source, layer, turn, batch):
        rows = grid.transpose(0, 1).flatten(1)
        peaks.append(grid.amax((2, 3)))
        most = int(quantile * len(source) * grid.shape[2] * grid.shape[3]) + 1  # the largest that are on, and the one below them
        both = torch.cat([kept, rows], 1) if seen else rows
        kept, seen = both.topk(min(most, both.shape[1]), 1).values, seen + rows.shape[1]
    thresholds = kept[:, -1]
    shared, on, there = _counted(_activations(phi, source, layer, turn, batch), concepts, thresholds)
    ious = shared / np.maximum(on + there - shared, 1)
    words = (
        f"IoU over {len(source)} pictures at {layer or 'the last grid'} with {len(concepts.names)} concepts; units on at {quantile:g} of {seen} "
        f"places: above {float(thresholds.min()):.3g} to {float(thresholds.max()):.3g}; upsampled bilinearly{', turned' if turn is not None else ''}"
    )
    top = torch.cat(peaks).topk(min(TOP, len(source)), 0).indices.T.numpy()
    return Dissection(thresholds.numpy(), ious, concepts.names, concepts.categories, top, words)


def _activations(
    phi: Representation, source: Source, layer: str | None, turn: Tensor | None, batch: int
) -> Iterator[tuple[Float[Tensor, "_ _ _ _"], np.ndarray]]:
    for start in range(0, len(source), batch):
        rows = np.arange(start, min(start + batch, len(source)))
        with torch.no_grad():
            grid = phi.grid(central_square(load_images(source, rows), phi.size), layer).float().cpu()
        yield grid if turn is None else torch.einsum("bchw,cd->bdhw", grid, turn), rows


def _counted(
    activations: Iterator[tuple[Tensor, np.ndarray]], concepts: Concepts, thresholds: Float[Tensor, " unit"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels that each unit shares with each concept, those where it is on in pictures with the category, and the concept's own."""
    kinds = list(dict.fromkeys(concepts.categories))
    kind = np.array([kinds.index(category) for category in concepts.categories])
    shape = (len(thresholds), len(concepts.names))
    shared, on, there = np.zeros(shape), np.zeros(shape), np.zeros(shape[1])
    for grid, rows in activations:
        masks = torch.from_numpy(np.stack([concepts.masks(int(row)) for row in rows]))
        large = interpolate(grid, masks.shape[2:], mode="bilinear", align_corners=False)
        active, flat = (large > thresholds[:, None, None]).flatten(2).float(), masks.flatten(2).float()
        shared += torch.einsum("bup,bcp->uc", active, flat).double().numpy()
        present = flat.amax(2).numpy()
        shown = np.stack([present[:, kind == number].max(1) for number in range(len(kinds))], 1)
        on += (active.sum(2).double().numpy().T @ shown)[:, kind]
        there += flat.sum((0, 2)).double().numpy()
    return shared, on, there
