"""Network dissection: concepts that single units detect (Bau et al. 2017, arXiv:1704.05796).

A unit k is active at a position of an image where its activation, upsampled to the size of the masks (bilinear), exceeds its threshold.
A concept c has a mask L_c. Over a data set::

    T_k        with P(a_k > T_k) = 0.005 over all images and positions of the grid
    IoU_k,c  = Σ |M_k ∩ L_c| / Σ |M_k ∪ L_c|,   M_k = [a_k > T_k]

The union counts a unit only in images that show a concept of the same category as c. A unit detects the concept of its largest IoU if that
exceeds 0.04. As control, random directions ``a Q`` with an orthogonal Q are dissected: if concepts align with units, and not just with the
space that units span, fewer directions detect one (section 3.2). The last published code uses 0.01 instead of 0.005.
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
from selfsight.data.evaluation_view import evaluation_view
from selfsight.data.source import VOID, Source, Truth

__all__ = [
    "IOU",
    "QUANTILE",
    "Concepts",
    "Dissection",
    "dissect",
    "random_rotation",
    "region_concepts",
    "scene_concepts",
    "segment_concepts",
]

QUANTILE, IOU = 0.005, 0.04
TOP = 10
Masks = Bool[np.ndarray, "concept height width"]


@dataclass(frozen=True)
class Concepts:
    """Concepts with masks, each of a category such as outlines or textures.

    Attributes:
        names: names of the concepts.
        categories: categories of the concepts.
        masks: function that gives the masks (C, H, W) of a row.
    """

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
        raise DataError("The data set has no masks.", "Use one with masks: a world, or a folder with a folder of masks as its truth.")
    return truth.masks


def region_concepts(truth: Truth, category: str, values: Sequence[str], *, background: bool = False) -> Concepts:
    """A concept for each value: the object pixels, or the background pixels, of the images that have this value.

    Args:
        truth: ground truth with masks.
        category: name of the category.
        values: value of each row; empty if unknown.
        background: whether the values describe the background instead of the objects.

    Raises:
        DataError: there are no masks.
    """
    masks, names = _need_masks(truth), tuple(sorted({value for value in values if value}))

    def of(row: int) -> Masks:
        mask = np.asarray(masks[row])
        region = (mask == 0) if background else (mask > 0) & (mask != VOID)
        return np.stack([region & (values[row] == name) for name in names])

    return Concepts(names, (category,) * len(names), of)


def segment_concepts(truth: Truth, category: str = "object") -> Concepts:
    """A concept for each class: the pixels of its objects by the boxes' classes, else by the image's label, else by the masks' numbers.

    Args:
        truth: ground truth with masks.
        category: name of the category.

    Raises:
        DataError: there are no masks.
    """
    masks, boxes, labels = _need_masks(truth), truth.boxes, truth.labels
    if boxes is None and labels is None:
        return _numbered_concepts(masks, truth.classes, category)
    count = len(truth.classes)

    def of(row: int) -> Masks:
        mask, found = np.asarray(masks[row]), np.zeros((count, *masks[row].shape), dtype=bool)
        if boxes is None:
            assert labels is not None
            if labels[row] >= 0:
                found[labels[row]] = (mask > 0) & (mask != VOID)
            return found
        for number, box in enumerate(np.asarray(boxes[row])):
            if 0 <= box[4] < count:
                found[int(box[4])] |= mask == number + 1
        return found

    return Concepts(truth.classes, (category,) * count, of)


def _numbered_concepts(masks: Sequence[np.ndarray], classes: tuple[str, ...], category: str) -> Concepts:
    """A concept for each number of the masks; the name of number k is that of class k - 1."""
    numbers = sorted({int(number) for mask in masks for number in np.unique(np.asarray(mask)) if 0 < number < VOID})
    names = tuple(classes[number - 1] if number <= len(classes) else f"{category} {number}" for number in numbers)
    return Concepts(names, (category,) * len(names), lambda row: np.stack([np.asarray(masks[row]) == number for number in numbers]))


def scene_concepts(truth: Truth) -> Concepts:
    """Concepts of single-object scenes of ``world:shapes``: outline, texture, background texture, and brightness in three bins."""
    value = truth.attributes["value"]
    light = [("dark", "middling", "bright")[int(bin_index)] for bin_index in np.searchsorted((0.4, 0.6), value)]
    on_objects = region_concepts(truth, "texture", [str(name) for name in truth.attributes["texture_name"]])
    on_background = region_concepts(truth, "ground", [str(name) for name in truth.attributes["background_name"]], background=True)
    return segment_concepts(truth, "shape") + on_objects + on_background + region_concepts(truth, "brightness", light)


@dataclass(frozen=True)
class Dissection:
    """Result of network dissection.

    Attributes:
        thresholds: T (U,).
        ious: IoU (U, C) of each unit with each concept.
        names: names of the concepts.
        categories: categories of the concepts.
        top: rows (U, 10) of the images with the largest maximum activation, in descending order.
        protocol: description of the measurement.
    """

    thresholds: Float[np.ndarray, " unit"]
    ious: Float[np.ndarray, "unit concept"]
    names: tuple[str, ...]
    categories: tuple[str, ...]
    top: Int[np.ndarray, "unit top"]
    protocol: str

    @property
    def best(self) -> Int[np.ndarray, " unit"]:
        """Concept of the largest IoU of each unit."""
        return self.ious.argmax(1)

    def detectors(self, least: float = IOU) -> dict[int, tuple[str, float]]:
        """Units that detect a concept, with the concept's name and IoU; ``least`` is the IoU threshold."""
        best = self.best
        return {
            unit: (self.names[best[unit]], float(self.ious[unit, best[unit]]))
            for unit in range(len(best))
            if self.ious[unit, best[unit]] > least
        }

    def unique(self, least: float = IOU) -> dict[str, int]:
        """Number of distinct detected concepts by category; ``least`` is the IoU threshold."""
        found = {self.best[unit] for unit in self.detectors(least)}
        categories = [self.categories[concept] for concept in found]
        return {category: categories.count(category) for category in dict.fromkeys(self.categories)}


def random_rotation(units: int, seed: int = 0) -> Float[Tensor, "unit unit"]:
    """Random orthogonal matrix, uniformly distributed (Mezzadri 2007, Notices of the AMS 54).

    Args:
        units: number of rows and columns.
        seed: seed of the random numbers.
    """
    drawn = torch.randn(units, units, generator=torch.Generator().manual_seed(key(seed, 0x7012)), dtype=torch.float64)
    orthogonal, upper = torch.linalg.qr(drawn)
    return (orthogonal * upper.diagonal().sign()).float()


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
    """IoU of each unit of a layer with each concept over a data set, in two passes: thresholds, then overlaps.

    Args:
        phi: the representation, a convolutional network or a vision transformer.
        source: the data set; images are resized to ``phi.size``.
        concepts: concepts of its rows, with masks of any size.
        layer: name of a spatial layer; the last grid by default.
        quantile: fraction of all positions where a unit is active.
        turn: matrix that activations are multiplied by, to dissect directions instead of units.
        batch: images per batch.

    Raises:
        UsageError: the layer has no spatial grid.
    """
    thresholds, peaks, seen = _thresholds(_activations(phi, source, layer, turn, batch), len(source), quantile)
    shared, on, concept_pixels = _counted(_activations(phi, source, layer, turn, batch), concepts, thresholds)
    protocol = (
        f"IoU over {len(source)} images at {layer or 'the last grid'} with {len(concepts.names)} concepts; a unit is active at the {quantile:g} of "
        f"{seen} locations with its highest values (thresholds from {float(thresholds.min()):.3g} to {float(thresholds.max()):.3g}); upsampled "
        f"bilinearly{', after a rotation of the feature space' if turn is not None else ''}"
    )
    top = peaks.topk(min(TOP, len(source)), 0).indices.T.numpy()
    return Dissection(
        thresholds.numpy(), shared / np.maximum(on + concept_pixels - shared, 1), concepts.names, concepts.categories, top, protocol
    )


def _thresholds(
    activations: Iterator[tuple[Float[Tensor, "_ _ _ _"], np.ndarray]], images: int, quantile: float
) -> tuple[Float[Tensor, " unit"], Float[Tensor, "image unit"], int]:
    """First pass: the quantile of each unit's values, its maximum on each image, and the number of positions."""
    kept, peaks, seen = torch.zeros(0), list[Tensor](), 0
    for grid, _ in activations:
        rows = grid.transpose(0, 1).flatten(1)
        peaks.append(grid.amax((2, 3)))
        most = int(quantile * images * grid.shape[2] * grid.shape[3]) + 1  # the active ones and the next largest
        largest = torch.cat([kept, rows], 1) if seen else rows
        kept, seen = largest.topk(min(most, largest.shape[1]), 1).values, seen + rows.shape[1]
    return kept[:, -1], torch.cat(peaks), seen


def _activations(
    phi: Representation, source: Source, layer: str | None, turn: Tensor | None, batch: int
) -> Iterator[tuple[Float[Tensor, "_ _ _ _"], np.ndarray]]:
    for start in range(0, len(source), batch):
        rows = np.arange(start, min(start + batch, len(source)))
        with torch.no_grad():
            grid = phi.grid(evaluation_view(source, phi)(rows), layer).float().cpu()
        yield grid if turn is None else torch.einsum("bchw,cd->bdhw", grid, turn), rows


def _counted(
    activations: Iterator[tuple[Tensor, np.ndarray]], concepts: Concepts, thresholds: Float[Tensor, " unit"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels of the intersection of each unit and concept, active pixels in images with the category, and the concept's pixels."""
    categories = list(dict.fromkeys(concepts.categories))
    category_of = np.array([categories.index(category) for category in concepts.categories])
    shape = (len(thresholds), len(concepts.names))
    shared, on, concept_pixels = np.zeros(shape), np.zeros(shape), np.zeros(shape[1])
    for grid, rows in activations:
        masks = torch.from_numpy(np.stack([concepts.masks(int(row)) for row in rows]))
        large = interpolate(grid, masks.shape[2:], mode="bilinear", align_corners=False)
        active, flat = (large > thresholds[:, None, None]).flatten(2).float(), masks.flatten(2).float()
        shared += torch.einsum("bup,bcp->uc", active, flat).double().numpy()
        present = flat.amax(2).numpy()
        shows_category = np.stack([present[:, category_of == number].max(1) for number in range(len(categories))], 1)
        on += (active.sum(2).double().numpy().T @ shows_category)[:, category_of]
        concept_pixels += flat.sum((0, 2)).double().numpy()
    return shared, on, concept_pixels
