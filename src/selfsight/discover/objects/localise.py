"""Where the object is: one or several regions of each picture, without labels, and how sure that is.

Each localiser is a function from pictures (``FeatureBatch``) to one list of regions a picture. A region is a mask over places. How
sure: ``1 - μ₂``, of the second eigenvalue of the places' graph: near 1 where two sides hardly touch, 0 where all places are
alike, so that pictures without an object can be turned down.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import normalize

from selfsight.core.errors import UsageError
from selfsight.discover.dense.affinity import affinity_graph
from selfsight.discover.dense.features import FeatureBatch
from selfsight.discover.dense.spectral import Spectrum, spectrum
from selfsight.discover.objects.table import LOCALISERS
from selfsight.regions.proposals import selective_search

__all__ = [
    "Localiser",
    "Region",
    "attention",
    "background",
    "border",
    "centre",
    "cut",
    "fiedler",
    "localise",
    "lost",
    "mask_cut",
    "selective",
]

Mask = Bool[np.ndarray, "rows columns"]
FOUR, EIGHT = ndimage.generate_binary_structure(2, 1), ndimage.generate_binary_structure(2, 2)

UNSEEN = 0.02
"""A distance of colours in [0, 1] that is none."""
FINE = 64
"""Places a side of a region that no grid prescribes."""


@dataclass(frozen=True)
class Region:
    """Some places of a picture.

    Attributes:
        mask: over places.
        score: how sure it is that an object is there, from 0 to 1.
    """

    mask: Mask
    score: float

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom in places, the last two excluded."""
        down, across = np.nonzero(self.mask)
        return int(across.min()), int(down.min()), int(across.max()) + 1, int(down.max()) + 1


Regions = list[list[Region]]
Localiser = Callable[[FeatureBatch], Regions]


def _sure(found: Spectrum) -> list[float]:
    return (1 - found.values[:, 1]).clamp(0, 1).tolist()


def _grids(values: Tensor, feature_batch: FeatureBatch) -> np.ndarray:
    return values.reshape(len(feature_batch), *feature_batch.shape).cpu().numpy()


def _one(masks: Sequence[Mask], scores: Sequence[float]) -> Regions:
    """At most one region a picture."""
    return [[Region(mask, score)] if mask.any() else [] for mask, score in zip(masks, scores, strict=True)]


def _pieces(mask: Mask, structure: np.ndarray) -> tuple[Int[np.ndarray, "rows columns"], int]:
    """The number of the connected component at each place, from 1, and how many there are."""
    found: Any = ndimage.label(mask, structure)
    return found


def _largest(mask: Mask, structure: np.ndarray = EIGHT) -> Mask:
    """The largest connected component; the first of equals; nothing of nothing."""
    parts, count = _pieces(mask, structure)
    return parts == 1 + int(np.bincount(parts.ravel())[1:].argmax()) if count else mask


def _holding(mask: Mask, place: int, structure: np.ndarray = FOUR) -> Mask:
    """The connected component that holds a place, counted along rows; nothing where the place is not in the mask."""
    parts, _ = _pieces(mask, structure)
    number = parts.ravel()[place]
    return (parts == number) & (number > 0)


def fiedler(feature_batch: FeatureBatch) -> Regions:
    """The smaller side of the second eigenvector, its largest piece (Melas-Kyriazi et al. 2022, arXiv:2205.07839)."""
    found = feature_batch.spectrum
    sides = _grids(found.vectors[:, 1] > 0, feature_batch)
    return _one([_largest(side if side.any() else ~side) for side in sides], _sure(found))


def lost(feature_batch: FeatureBatch, *, seeds: int = 100) -> Regions:
    """From the place with the fewest positive products, and those among the ``seeds`` like it (Siméoni et al. 2021, arXiv:2109.14279).

    With ``A = K Kᵀ``: seed ``p* = argmin_p #{q: A_pq > 0}``; S: those of the ``seeds`` lowest that have ``A_p*q > 0``; the
    mask is where ``Σ_{q in S} A_q > 0``, its piece (of four neighbours) that holds the seed.
    """
    rows = feature_batch.features.flatten(2)
    products = rows.transpose(1, 2) @ rows
    degrees = (products > 0).sum(2) - (products.diagonal(dim1=1, dim2=2) > 0).long()
    lowest = degrees.argsort(dim=1, stable=True)[:, :seeds]
    masks = []
    for product, order in zip(products, lowest, strict=True):
        alike = order[product[order[0], order] > 0]
        votes = product[alike].sum(0) > 0
        masks.append(_holding(votes.reshape(feature_batch.shape).cpu().numpy(), int(order[0])))
    return _one(masks, _sure(feature_batch.spectrum))


def _cut_once(weights: Float[Tensor, "batch place place"], threshold: float, apart: float) -> Spectrum:
    """The second eigenvector of the graph of places that are alike, or hardly (TokenCut's ``A = 1`` above the threshold, else ε)."""
    return spectrum(affinity_graph(torch.where(weights > threshold, 1.0, apart)), 1)


def _side(vector: Float[np.ndarray, " place"]) -> tuple[Bool[np.ndarray, " place"], int]:
    """The side of the bipartition at the mean that holds the largest entry, and where that is."""
    place = int(np.abs(vector).argmax())
    high = vector > vector.mean()
    return (high if high[place] else ~high), place


def cut(feature_batch: FeatureBatch, *, threshold: float = 0.2, apart: float = 1e-5) -> Regions:
    """The side of a normalised cut that holds the largest entry of its vector (TokenCut: Wang et al. 2022, arXiv:2202.11539).

    Args:
        feature_batch: the pictures.
        threshold: the cosine above which places are joined.
        apart: the weight of those that are not.
    """
    found = _cut_once(feature_batch.cosines, threshold, apart)
    masks = []
    for vector in found.vectors[:, 1].cpu().numpy():
        side, place = _side(vector)
        masks.append(_holding(side.reshape(feature_batch.shape), place))
    return _one(masks, _sure(found))


def mask_cut(
    feature_batch: FeatureBatch, *, objects: int = 3, threshold: float = 0.15, apart: float = 1e-5, least: float = 0.01
) -> Regions:
    """Cut after cut, each without what was found before (MaskCut: Wang et al. 2023, arXiv:2301.11320).

    What was found is joined to all by ``apart`` alone. A side with three of the four corners is the ground, and the other is
    taken. A mask that overlaps an earlier one by half, or is smaller than ``least`` of the picture, ends nothing and is left out.

    Args:
        feature_batch: the pictures.
        objects: how many rounds.
        threshold, apart: see ``cut``.
        least: the smallest part of a picture.
    """
    rows, columns = feature_batch.shape
    features = normalize(feature_batch.features.flatten(2), dim=1).clone()
    corners = np.array([0, columns - 1, (rows - 1) * columns, rows * columns - 1])
    found: Regions = [[] for _ in range(len(feature_batch))]
    for _ in range(objects):
        spectra = _cut_once(features.transpose(1, 2) @ features, threshold, apart)
        for place, (vector, score) in enumerate(zip(spectra.vectors[:, 1].cpu().numpy(), _sure(spectra), strict=True)):
            before = np.any([one.mask for one in found[place]], 0) if found[place] else np.zeros((rows, columns), dtype=bool)
            mask = _piece(vector, corners, (rows, columns))
            again = any((mask & one.mask).sum() > 0.5 * (mask | one.mask).sum() for one in found[place])
            features[place][:, torch.from_numpy(mask.ravel()).to(features.device)] = 0
            if not again and (mask & ~before).mean() > least:
                found[place].append(Region(mask & ~before, score))
    return found


def _piece(vector: np.ndarray, corners: np.ndarray, shape: tuple[int, int]) -> Mask:
    side, place = _side(vector)
    if side[corners].sum() >= 3:
        side = ~side
        place = int(np.where(side, np.abs(vector), -1).argmax())
    return _holding(side.reshape(shape), place)


def attention(feature_batch: FeatureBatch, *, head: int | None = None, mass: float = 0.6, published: bool = False) -> Regions:
    """What the class token looks at: the places with most of the attention, their largest piece (the baseline of LOST, DINO-seg).

    Args:
        feature_batch: the pictures.
        head: one head; None: the mean of all.
        mass: the part of the attention that is kept.
        published: as the published code has it, which never takes the last of the pieces, and the ground where there is one piece.
    """
    seen = feature_batch.attention.mean(1) if head is None else feature_batch.attention[:, head]
    order = seen.flatten(1).sort(1)
    kept = order.values.cumsum(1) / order.values.sum(1, keepdim=True) > 1 - mass
    masks = _grids(torch.zeros_like(kept).scatter(1, order.indices, kept), feature_batch)
    pieces = [_published(mask) if published else _largest(mask, FOUR) for mask in masks]
    return _one(pieces, _sure(feature_batch.spectrum))


def _published(mask: Mask) -> Mask:
    parts, count = _pieces(mask, FOUR)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)[:count]
    return parts == int(sizes[1:].argmax()) + 1 if count > 1 else parts == 0


def background(feature_batch: FeatureBatch, *, threshold: float = 0.3) -> Regions:
    """All that is not like the place that is looked at least (FOUND's first step: Siméoni et al. 2023, arXiv:2212.07834).

    Heads h count ``β_h = log(Σ Q / Q_h)``, Q_h the part of the places that a head looks at more than at their mean. The
    reference is ``argmin Σ β_h a_h``; ground is what has a cosine above ``threshold`` with it, its heads weighted by β.
    """
    seen = feature_batch.attention.flatten(2)
    wide = (seen > seen.mean(2, keepdim=True)).float().mean(2)
    weight = (wide.sum(1, keepdim=True) / wide).log()
    least = torch.einsum("bh,bhp->bp", weight, seen).argmin(1)
    features = feature_batch.features.flatten(2)
    if features.shape[1] % weight.shape[1]:
        raise UsageError(f"Features of {features.shape[1]} numbers are not those of {weight.shape[1]} heads.", "Use --facet key.")
    heads = features.unflatten(1, (weight.shape[1], -1)) * weight[..., None, None]
    rows = normalize(heads.flatten(1, 2), dim=1)
    ground = torch.einsum("bdp,bd->bp", rows, rows[torch.arange(len(rows)), :, least]) > threshold
    sides = _grids(~ground, feature_batch)
    return _one([_largest(side) for side in sides], _sure(feature_batch.spectrum))


def centre(feature_batch: FeatureBatch, *, part: float = 0.5) -> Regions:
    """The middle box, ``part`` of the area and of the picture's shape, whatever is in the picture: what needs no representation."""
    down, across = ((np.arange(FINE) + 0.5) / FINE - 0.5 for _ in range(2))
    inside = np.maximum(np.abs(down)[:, None], np.abs(across)) < part**0.5 / 2
    return [[Region(inside, 1.0)] for _ in range(len(feature_batch))]


def border(feature_batch: FeatureBatch) -> Regions:
    """What differs from the mean colour of the border, by Otsu's threshold, its largest piece: what needs colours alone."""
    small = feature_batch.pixels.cpu()
    edge = torch.ones(small.shape[2:], dtype=torch.bool)
    edge[1:-1, 1:-1] = False
    distance = (small - small[:, :, edge].mean(2)[..., None, None]).norm(dim=1)
    masks = [_largest(one > max(_otsu(one), UNSEEN)) for one in distance.numpy()]
    return _one(masks, [1.0] * len(feature_batch))


def selective(feature_batch: FeatureBatch) -> Regions:
    """The first box of selective search (Uijlings et al. 2013): what needs colours alone."""
    found = []
    for picture in feature_batch.pixels.cpu().permute(0, 2, 3, 1).double().numpy():
        left, top, right, bottom = selective_search(picture)[0]
        mask = np.zeros(picture.shape[:2], dtype=bool)
        mask[top:bottom, left:right] = True
        found.append([Region(mask, 1.0)])
    return found


def _otsu(values: np.ndarray) -> float:
    """The threshold that leaves the least variance within both sides (Otsu 1979, IEEE SMC 9)."""
    ordered = np.sort(values.ravel().astype(float))
    counts = np.arange(1, len(ordered))
    below, total = ordered.cumsum()[:-1], ordered.sum()
    between = counts * (len(ordered) - counts) * (below / counts - (total - below) / (len(ordered) - counts)) ** 2
    return float(ordered[between.argmax()])


def localise(feature_batch: FeatureBatch, method: str = "cut", *, least: float = 0.05, **options: Any) -> Regions:
    """The regions that a localiser finds, without those it is less sure of than ``least``.

    Raises:
        UsageError: there is no such localiser, or it cannot look at this network.
    """
    finder = partial(LOCALISERS.load(method), **options)
    return [[region for region in regions if region.score >= least] for regions in finder(feature_batch)]
