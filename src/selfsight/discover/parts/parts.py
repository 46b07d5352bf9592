"""Object parts shared by several images, without labels, and co-segmentation of images of the same object.

First the object of each image is separated from the background, then the locations of objects are divided into parts. A part has the
same index in all images.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Unpack

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, normalize, one_hot

from selfsight.core.errors import UsageError
from selfsight.core.progress import ProgressCallback, no_progress
from selfsight.core.representation import Representation
from selfsight.data.source import Rows, Source
from selfsight.discover.dense.features import FeatureBatch, FeatureSpec, iter_feature_batches
from selfsight.discover.dense.sample import ReservoirSample
from selfsight.discover.objects.localise import localise
from selfsight.discover.options import PartOptions
from selfsight.discover.parts.contrast import learn_parts
from selfsight.discover.parts.table import PART_FINDERS
from selfsight.discover.segments.maps import SegmentationResult, edged
from selfsight.objectives.assign import kmeans
from selfsight.render.overlay import upsampled

__all__ = ["Parter", "co_segmentation", "colour_parts", "contrast_parts", "find_parts", "shared_parts"]

MAX_IN_MEMORY = 200
"""Maximum number of images whose features stay in memory; above it they are recomputed in every pass."""
TRIED = 10_000
"""Sample size for the choice of the number of clusters."""
SHARED = 0.25
"""Minimum fraction of the images that contain a shared cluster."""
Batches = Callable[[], Iterator[FeatureBatch]]
ObjectMasks = Callable[[FeatureBatch], Bool[Tensor, "batch rows columns"]]
"""Object masks of a batch."""
Painter = Callable[[FeatureBatch], Int[Tensor, "batch rows columns"]]
"""The part at each location, from 1, regardless of object masks."""


Parter = Callable[..., Painter]
"""A part finder: function from batches, object masks and the number of parts, with ``seed``, ``progress`` and its own options, to a ``Painter``."""


def _places(values: Float[Tensor, "batch dim rows columns"]) -> Float[Tensor, "batch place dim"]:
    return values.flatten(2).transpose(1, 2)


def _features(feature_batch: FeatureBatch) -> Float[Tensor, "batch place dim"]:
    return normalize(_places(feature_batch.features), dim=2)


def _colours(feature_batch: FeatureBatch) -> Float[Tensor, "batch place 3"]:
    return _places(adaptive_avg_pool2d(feature_batch.pixels, feature_batch.shape))


def shared_parts(
    batches: Batches,
    object_masks: ObjectMasks,
    parts: int,
    *,
    seed: int,
    progress: ProgressCallback,
    vectors: Callable[[FeatureBatch], Tensor] = _features,
    spherical: bool = True,
) -> Painter:
    """Parts by clustering the locations of all objects (Amir et al. 2021, arXiv:2112.05814, who use 4 parts).

    Args:
        batches: function that iterates over the images.
        object_masks: function to the object masks of a batch.
        parts: number of parts.
        seed: seed of k-means.
        progress: called with a line per step.
        vectors: function to the vectors of a batch's locations.
        spherical: cluster by cosine.

    Raises:
        UsageError: the objects have fewer locations than parts.
    """
    sample = ReservoirSample(seed)
    for feature_batch in batches():
        sample.add(vectors(feature_batch)[object_masks(feature_batch).flatten(1)])
    (rows,) = sample.rows()
    progress(f"parts: {len(rows):,} object locations")
    if len(rows) < parts:
        raise UsageError(f"The objects have {len(rows)} locations, too few for {parts} parts.", "Use fewer parts, or a larger --side.")
    centres = kmeans(rows, parts, seed=seed, spherical=spherical, restarts=5).centroids

    def painter(feature_batch: FeatureBatch) -> Tensor:
        points = vectors(feature_batch)
        return (torch.cdist(points, centres.to(points)).argmin(2) + 1).unflatten(1, feature_batch.shape)

    return painter


def contrast_parts(
    batches: Batches, object_masks: ObjectMasks, parts: int, *, seed: int, progress: ProgressCallback, **options: Unpack[PartOptions]
) -> Painter:
    """Parts by a linear layer that is trained by contrast across images (``contrast.learn_parts``).

    Args:
        batches: function that iterates over the images.
        object_masks: function to the object masks of a batch.
        parts: number of parts.
        seed: seed of all random choices.
        progress: called with a line per step.
        options: options of ``learn_parts``.
    """
    centres = shared_parts(batches, object_masks, parts, seed=seed, progress=progress)
    head = learn_parts(batches, object_masks, centres, parts, seed=seed, progress=progress, **options)

    def painter(feature_batch: FeatureBatch) -> Tensor:
        return (head(_features(feature_batch)).argmax(2) + 1).unflatten(1, feature_batch.shape)

    return painter


colour_parts = partial(shared_parts, vectors=_colours, spherical=False)


@torch.no_grad()
def find_parts(
    phi: Representation, source: Source, method: str = "shared", *, parts: int = 4, feature_spec: FeatureSpec | None = None,
    foreground: str | None = None, refine: bool = False, rows: Rows | None = None, cache: Path | None = None, seed: int = 0,
    progress: ProgressCallback = no_progress, **options: Unpack[PartOptions],
) -> SegmentationResult:  # fmt: skip
    """Object parts in the images of a data set without labels.

    Args:
        phi: the representation.
        source: the data set.
        method: ``shared`` (clusters of object locations), ``contrast`` (a trained linear layer), or ``colour`` (clusters of colours, which
            use the representation for the object masks only).
        parts: number of parts; 1: the objects, which is co-segmentation without ``foreground``.
        feature_spec: scale and features; None: the defaults.
        foreground: the localiser of the objects; None: ``co_segmentation``.
        refine: move edges to colour edges.
        rows: rows to read; None: all.
        cache: folder of cached eigenvectors; None: no cache.
        seed: seed of all random choices.
        progress: called with a line per step.
        options: options of the method.

    Raises:
        UsageError: the method or localiser does not exist, or the objects have fewer locations than parts.
    """
    read = partial(iter_feature_batches, phi, source, feature_spec or FeatureSpec(), rows=rows, cache=cache)
    batches = _held(read, len(source) if rows is None else len(rows))
    object_masks = partial(_localised, foreground) if foreground else co_segmentation(batches, seed=seed, progress=progress)
    painter = PART_FINDERS.load(method)(batches, object_masks, parts, seed=seed, progress=progress, **options)
    facts = {"method": method, "parts": parts, "within": foreground, "representation": phi.name, "data": source.spec, **options}
    maps = ((part, list((painter(part) * object_masks(part)).cpu().numpy())) for part in batches())
    result = SegmentationResult.of(maps, parts, facts, "parts")
    if parts > 1 and len(set(np.unique(np.concatenate([each.ravel() for each in result.maps]))) - {0}) == 1:
        progress("parts: all object locations belong to one part; try another layer or facet, or centre the features")
    return replace(result, maps=tuple(edged(batches, result.maps, parts))) if refine else result


def _held(batches: Batches, count: int) -> Batches:
    if count > MAX_IN_MEMORY:
        return batches
    stored = list(batches())
    return lambda: iter(stored)


def _localised(name: str, feature_batch: FeatureBatch) -> Bool[Tensor, "batch rows columns"]:
    """Union of a localiser's regions."""
    masks = np.zeros((len(feature_batch), *feature_batch.shape), dtype=bool)
    for row, regions in enumerate(localise(feature_batch, name, min_confidence=0)):
        for region in regions:
            masks[row] |= upsampled(region.mask, feature_batch.shape)
    return torch.from_numpy(masks).to(feature_batch.pixels.device)


def _salience(feature_batch: FeatureBatch) -> Float[Tensor, "batch place"]:
    """Attention of the class token minus its mean; without a class token, positive inside the regions of ``cut``."""
    if feature_batch.phi.has_attention and feature_batch.phi.token_layout.prefix:
        weights = feature_batch.attention.mean(1).flatten(1)
        return weights - weights.mean(1, keepdim=True)
    return _localised("cut", feature_batch).flatten(1).float() - 0.5


def co_segmentation(
    batches: Batches, *, most: int = 15, elbow: float = 0.975, votes: float = 0.75, seed: int = 0, progress: ProgressCallback = no_progress
) -> ObjectMasks:  # fmt: skip
    """Function to the masks of the object that several images share (Amir et al. 2021, arXiv:2112.05814).

    The locations of all images are clustered; the number of clusters grows while the inertia falls by at least ``1 - elbow``. A cluster
    belongs to the object if a quarter of the images contain it and its mean salience is positive in a fraction ``votes`` of these. In the
    paper all images show the object and vote, and the salience is of four heads above a fitted threshold (see ``_salience``).

    Args:
        batches: function that iterates over the images.
        most: maximum number of clusters.
        elbow: ratio of inertias at which the number stops growing.
        votes: required fraction of salient images.
        seed: seed of all random choices.
        progress: called with the number of clusters.

    """
    sample = ReservoirSample(seed)
    for feature_batch in batches():
        sample.add(_features(feature_batch).flatten(0, 1))
    (rows,) = sample.rows()
    sampled = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:TRIED]]
    clusters = kmeans(sampled, 1, seed=seed, spherical=True)
    for count in range(2, min(most, len(sampled)) + 1):
        previous, clusters = clusters.inertia, kmeans(sampled, count, seed=seed, spherical=True, restarts=3)
        if clusters.inertia > elbow * previous:
            break
    centres, total = clusters.centroids, 0
    votes_for, image_counts = torch.zeros(2, len(centres))
    for feature_batch in batches():
        inside = one_hot(_nearest(feature_batch, centres), len(centres)).float()
        present = inside.sum(1) > 0
        salient = torch.einsum("bp,bpk->bk", _salience(feature_batch), inside) > 0
        votes_for, image_counts = votes_for + (salient & present).sum(0).cpu(), image_counts + present.sum(0).cpu()
        total += len(feature_batch)
    chosen = (votes_for >= votes * image_counts) & (image_counts >= SHARED * total)
    chosen |= (votes_for == votes_for.max()) if not chosen.any() else False  # at least one cluster is chosen
    progress(f"co-segmentation: {int(chosen.sum())} of {len(centres)} clusters belong to objects")
    return lambda feature_batch: chosen.to(feature_batch.pixels.device)[_nearest(feature_batch, centres)].unflatten(1, feature_batch.shape)


def _nearest(feature_batch: FeatureBatch, centres: Tensor) -> Int[Tensor, "batch place"]:
    points = _features(feature_batch)
    return torch.cdist(points, centres.to(points)).argmin(2)
