"""Object localisation without labels: one or several regions per image, with a confidence.

A localiser maps images (``FeatureBatch``) to a list of regions per image. A region is a mask over locations. The confidence is ``1 - μ₂``
of the second eigenvalue of the affinity graph: near 1 if the graph splits into two weakly connected parts, 0 if all locations are
alike, so that images without an object can be rejected.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Unpack

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
from selfsight.discover.dense.structure import has_structure
from selfsight.discover.objects.table import LOCALISERS
from selfsight.discover.options import LocaliserOptions
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
"""Minimum distance of colours in [0, 1] from the border."""
SPLIT = 0.5
"""Confidence below which the graph of the published threshold does not split into two parts."""
FINE = 64
"""Side of masks that do not depend on the feature map, in cells."""


@dataclass(frozen=True)
class Region:
    """A region of an image.

    Attributes:
        mask: over locations.
        score: confidence, from 0 to 1.
    """

    mask: Mask
    score: float

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom in locations, the last two exclusive."""
        down, across = np.nonzero(self.mask)
        return int(across.min()), int(down.min()), int(across.max()) + 1, int(down.max()) + 1


Regions = list[list[Region]]
Localiser = Callable[[FeatureBatch], Regions]


def _confidences(graph_spectrum: Spectrum) -> list[float]:
    return (1 - graph_spectrum.values[:, 1]).clamp(0, 1).tolist()


def _grids(values: Tensor, feature_batch: FeatureBatch) -> np.ndarray:
    return values.reshape(len(feature_batch), *feature_batch.shape).cpu().numpy()


def _single_regions(masks: Sequence[Mask], scores: Sequence[float]) -> Regions:
    """At most one region per image."""
    return [[Region(mask, score)] if mask.any() else [] for mask, score in zip(masks, scores, strict=True)]


def _components(mask: Mask, structure: np.ndarray) -> tuple[Int[np.ndarray, "rows columns"], int]:
    """Index of the connected component at each location, from 1, and the number of components."""
    labelled: Any = ndimage.label(mask, structure)
    return labelled


def _largest(mask: Mask, structure: np.ndarray = EIGHT) -> Mask:
    """Largest connected component, the first one at ties; empty for an empty mask."""
    components, count = _components(mask, structure)
    return components == 1 + int(np.bincount(components.ravel())[1:].argmax()) if count else mask


def _component_at(mask: Mask, location: int, structure: np.ndarray = FOUR) -> Mask:
    """Connected component at a location (flat index); empty if the location is not in the mask."""
    components, _ = _components(mask, structure)
    number = components.ravel()[location]
    return (components == number) & (number > 0)


def fiedler(feature_batch: FeatureBatch) -> Regions:
    """Largest component of the smaller side of the second eigenvector (Melas-Kyriazi et al. 2022, arXiv:2205.07839)."""
    graph_spectrum = feature_batch.spectrum
    sides = _grids(graph_spectrum.vectors[:, 1] > 0, feature_batch)
    return _single_regions([_largest(side if side.any() else ~side) for side in sides], _confidences(graph_spectrum))


def lost(feature_batch: FeatureBatch, *, seeds: int = 100) -> Regions:
    """LOST: expansion from the location with the fewest positive correlations (Siméoni et al. 2021, arXiv:2109.14279).

    With ``A = K Kᵀ``: seed ``p* = argmin_p #{q: A_pq > 0}``; S: those of the ``seeds`` locations of lowest degree with ``A_p*q > 0``; the
    mask is ``Σ_{q in S} A_q > 0``, restricted to the component that contains the seed.

    Args:
        feature_batch: the images.
        seeds: number of locations of lowest degree.
    """
    rows = feature_batch.features.flatten(2)
    products = rows.transpose(1, 2) @ rows
    degrees = (products > 0).sum(2) - (products.diagonal(dim1=1, dim2=2) > 0).long()
    lowest = degrees.argsort(dim=1, stable=True)[:, :seeds]
    masks = []
    for product, order in zip(products, lowest, strict=True):
        similar = order[product[order[0], order] > 0]
        votes = product[similar].sum(0) > 0
        masks.append(_component_at(votes.reshape(feature_batch.shape).cpu().numpy(), int(order[0])))
    return _single_regions(masks, _confidences(feature_batch.spectrum))


def _cut_once(similar: Float[Tensor, "batch place place"], thresholds: Float[Tensor, " batch"], epsilon: float) -> Spectrum:
    """Second eigenvector of TokenCut's graph: weight 1 above the threshold, otherwise ``epsilon``.

    In double precision where the device has it: small eigenvalues are multiples of ``epsilon``, and several objects differ by fractions of it.
    """
    weights = torch.where(similar > thresholds[:, None, None], 1.0, epsilon)
    return spectrum(affinity_graph(weights if weights.device.type == "mps" else weights.double()), 1, tolerance=epsilon / 100)


def _thresholds(similar: Float[Tensor, "batch place place"], threshold: float | None, published: float, epsilon: float) -> Tensor:
    """Threshold of each image: the given one; None: the published one, or Otsu's where the graph does not split at the published one.

    The published thresholds are for keys of DINO trained on ImageNet. Of other networks all cosines of an image may be above, so that all
    locations are connected, and every cut of the graph is equally good.
    """
    chosen = torch.full((len(similar),), published if threshold is None else threshold, device=similar.device)
    if threshold is not None:
        return chosen
    for index, confidence in enumerate(_confidences(_cut_once(similar, chosen, epsilon))):
        if confidence < SPLIT:
            chosen[index] = max(published, _otsu(similar[index].cpu().numpy()))
    return chosen


def _side(vector: Float[np.ndarray, " place"]) -> tuple[Bool[np.ndarray, " place"], int]:
    """The side of the bipartition at the mean that contains the largest absolute entry, and the index of that entry."""
    peak = int(np.abs(vector).argmax())
    above = vector > vector.mean()
    return (above if above[peak] else ~above), peak


def cut(feature_batch: FeatureBatch, *, threshold: float | None = None, epsilon: float = 1e-5) -> Regions:
    """TokenCut: the side of a normalised cut that contains the largest entry of the eigenvector (Wang et al. 2022, arXiv:2202.11539).

    Args:
        feature_batch: the images.
        threshold: cosine above which locations are connected; None: 0.2 as published, or Otsu's threshold of the image's cosines if that is
            higher and the graph of 0.2 does not split (confidence below 0.5).
        epsilon: weight of all other pairs.
    """
    similar = feature_batch.cosines
    graph_spectrum = _cut_once(similar, _thresholds(similar, threshold, 0.2, epsilon), epsilon)
    masks = []
    for vector in graph_spectrum.vectors[:, 1].cpu().numpy():
        side, peak = _side(vector)
        masks.append(_component_at(side.reshape(feature_batch.shape), peak))
    return _single_regions(masks, _confidences(graph_spectrum))


def mask_cut(
    feature_batch: FeatureBatch, *, objects: int = 3, threshold: float | None = None, epsilon: float = 1e-5, min_area: float = 0.01
) -> Regions:
    """MaskCut: repeated cuts, each without the regions that were found before (Wang et al. 2023, arXiv:2301.11320).

    Found regions are connected to all others by ``epsilon``. A side with three of the four corners is the background, and the other one is
    taken. A mask that overlaps an earlier one by half, or is smaller than ``min_area``, is skipped.

    Args:
        feature_batch: the images.
        objects: number of cuts.
        threshold: cosine above which locations are connected; None: 0.15 as published, or Otsu's threshold of the image's cosines if that is
            higher and the graph of 0.15 does not split (confidence below 0.5).
        epsilon: weight of all other pairs.
        min_area: minimum area as a fraction of the image.
    """
    rows, columns = feature_batch.shape
    features = normalize(feature_batch.features.flatten(2), dim=1).clone()
    thresholds = _thresholds(features.transpose(1, 2) @ features, threshold, 0.15, epsilon)
    corners = np.array([0, columns - 1, (rows - 1) * columns, rows * columns - 1])
    regions: Regions = [[] for _ in range(len(feature_batch))]
    for _ in range(objects):
        spectra = _cut_once(features.transpose(1, 2) @ features, thresholds, epsilon)
        for index, (vector, score) in enumerate(zip(spectra.vectors[:, 1].cpu().numpy(), _confidences(spectra), strict=True)):
            covered = np.any([region.mask for region in regions[index]], 0) if regions[index] else np.zeros((rows, columns), dtype=bool)
            mask = _foreground(vector, corners, (rows, columns))
            repeated = any((mask & region.mask).sum() > 0.5 * (mask | region.mask).sum() for region in regions[index])
            features[index][:, torch.from_numpy(mask.ravel()).to(features.device)] = 0
            if not repeated and (mask & ~covered).mean() > min_area:
                regions[index].append(Region(mask & ~covered, score))
    return regions


def _foreground(vector: np.ndarray, corners: np.ndarray, shape: tuple[int, int]) -> Mask:
    """Component of the largest entry on the side without the corners."""
    side, _ = _side(vector)
    side = ~side if side[corners].sum() >= 3 else side
    away = vector if vector[side].mean() > vector.mean() else -vector
    return _component_at(side.reshape(shape), int(np.where(side, away, -np.inf).argmax()))


def attention(feature_batch: FeatureBatch, *, head: int | None = None, mass: float = 0.6, published: bool = False) -> Regions:
    """Largest component of the locations with most of the class token's attention (DINO-seg, a baseline in LOST).

    Args:
        feature_batch: the images.
        head: one head; None: the mean of all.
        mass: fraction of the attention that is kept.
        published: reproduce the published code, which never takes the last component, and takes the background if there is only one.
    """
    weights = feature_batch.attention.mean(1) if head is None else feature_batch.attention[:, head]
    order = weights.flatten(1).sort(1)
    selected = order.values.cumsum(1) / order.values.sum(1, keepdim=True) > 1 - mass
    masks = _grids(torch.zeros_like(selected).scatter(1, order.indices, selected), feature_batch)
    components = [_published(mask) if published else _largest(mask, FOUR) for mask in masks]
    return _single_regions(components, _confidences(feature_batch.spectrum))


def _published(mask: Mask) -> Mask:
    components, count = _components(mask, FOUR)
    sizes = np.bincount(components.ravel(), minlength=count + 1)[:count]
    return components == int(sizes[1:].argmax()) + 1 if count > 1 else components == 0


def background(feature_batch: FeatureBatch, *, threshold: float = 0.3) -> Regions:
    """FOUND's first step: everything unlike the least attended location (Siméoni et al. 2023, arXiv:2212.07834).

    Head h has the weight ``β_h = log(Σ Q / Q_h)``, Q_h the fraction of locations with more attention than the mean. The reference is
    ``argmin Σ β_h a_h``; the background has a cosine above ``threshold`` with it, with heads weighted by β.

    Args:
        feature_batch: the images.
        threshold: cosine above which a location is background.

    Raises:
        UsageError: the features are not divided into the attention heads.
    """
    weights = feature_batch.attention.flatten(2)
    active = (weights > weights.mean(2, keepdim=True)).float().mean(2)
    head_weights = (active.sum(1, keepdim=True) / active).log()
    reference = torch.einsum("bh,bhp->bp", head_weights, weights).argmin(1)
    features = feature_batch.features.flatten(2)
    if features.shape[1] % head_weights.shape[1]:
        raise UsageError(f"Features of dimension {features.shape[1]} do not divide into {head_weights.shape[1]} heads.", "Use --facet key.")
    heads = features.unflatten(1, (head_weights.shape[1], -1)) * head_weights[..., None, None]
    rows = normalize(heads.flatten(1, 2), dim=1)
    is_background = torch.einsum("bdp,bd->bp", rows, rows[torch.arange(len(rows)), :, reference]) > threshold
    sides = _grids(~is_background, feature_batch)
    return _single_regions([_largest(side) for side in sides], _confidences(feature_batch.spectrum))


def centre(feature_batch: FeatureBatch, *, fraction: float = 0.5) -> Regions:
    """Baseline: a centred box with the aspect ratio of the image.

    Args:
        feature_batch: the images.
        fraction: area of the box as a fraction of the image.
    """
    down, across = ((np.arange(FINE) + 0.5) / FINE - 0.5 for _ in range(2))
    inside = np.maximum(np.abs(down)[:, None], np.abs(across)) < fraction**0.5 / 2
    return [[Region(inside, 1.0)] for _ in range(len(feature_batch))]


def border(feature_batch: FeatureBatch) -> Regions:
    """Baseline: largest component that differs from the mean colour of the border, by Otsu's threshold."""
    pixels = feature_batch.pixels.cpu()
    edge = torch.ones(pixels.shape[2:], dtype=torch.bool)
    edge[1:-1, 1:-1] = False
    distance = (pixels - pixels[:, :, edge].mean(2)[..., None, None]).norm(dim=1)
    masks = [_largest(values > max(_otsu(values), UNSEEN)) for values in distance.numpy()]
    return _single_regions(masks, [1.0] * len(feature_batch))


def selective(feature_batch: FeatureBatch) -> Regions:
    """Baseline: the first box of selective search (Uijlings et al. 2013)."""
    regions = []
    for image in feature_batch.pixels.cpu().permute(0, 2, 3, 1).double().numpy():
        left, top, right, bottom = selective_search(image)[0]
        mask = np.zeros(image.shape[:2], dtype=bool)
        mask[top:bottom, left:right] = True
        regions.append([Region(mask, 1.0)])
    return regions


def _otsu(values: np.ndarray) -> float:
    """Threshold with the smallest variance within both classes (Otsu 1979, IEEE SMC 9)."""
    ordered = np.sort(values.ravel().astype(float))
    counts = np.arange(1, len(ordered))
    below, total = ordered.cumsum()[:-1], ordered.sum()
    between = counts * (len(ordered) - counts) * (below / counts - (total - below) / (len(ordered) - counts)) ** 2
    return float(ordered[between.argmax()])


def localise(
    feature_batch: FeatureBatch, method: str = "cut", *, min_confidence: float = 0.05, **options: Unpack[LocaliserOptions]
) -> Regions:
    """Regions of a localiser with a confidence of at least ``min_confidence``; flat images and white noise have none.

    On such images every graph is cut by the padding of the network or by rounding, often with a high confidence. The baseline ``centre``
    does not depend on the image.

    Args:
        feature_batch: the images.
        method: a name in ``LOCALISERS``.
        min_confidence: minimum confidence.
        options: options of the localiser.

    Raises:
        UsageError: the localiser does not exist, or does not support the network.
    """
    finder = partial(LOCALISERS.load(method), **options)
    shows = [True] * len(feature_batch) if LOCALISERS.resolve(method).name == "centre" else has_structure(feature_batch.pixels).tolist()
    found = zip(finder(feature_batch), shows, strict=True)
    return [[region for region in regions if structured and region.score >= min_confidence] for regions, structured in found]
