"""Parts that the objects of several pictures share, without labels, and the objects themselves where pictures show the same (co-segmentation).

First the object of each picture is told from its ground, then every place of an object from the places of other parts. Parts have the
same number in all pictures.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

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
from selfsight.discover.parts.contrast import learn_parts
from selfsight.discover.parts.table import PART_FINDERS
from selfsight.discover.segments.maps import SegmentationResult, edged
from selfsight.objectives.assign import kmeans
from selfsight.render.tiles import stretched

__all__ = ["Parter", "co_segmented", "colour_parts", "contrast_parts", "find_parts", "shared_parts"]

HELD = 200
"""Pictures whose features are held at most; those of more are worked out again for every pass."""
TRIED = 10_000
"""Places that a number of clusters is tried on."""
SHARED = 0.25
"""Of the pictures, in which a cluster has to be to be something that they share."""
Batches = Callable[[], Iterator[FeatureBatch]]
Ground = Callable[[FeatureBatch], Bool[Tensor, "batch rows columns"]]
"""Which places of some pictures belong to an object."""
Painter = Callable[[FeatureBatch], Int[Tensor, "batch rows columns"]]
"""The part at each place, from 1, as if all places belonged to objects."""


Parter = Callable[..., Painter]
"""A way to find parts: from batches, ground and the number of parts, with ``seed``, ``progress`` and options of its own, to what paints them."""


def _places(values: Float[Tensor, "batch dim rows columns"]) -> Float[Tensor, "batch place dim"]:
    return values.flatten(2).transpose(1, 2)


def _features(feature_batch: FeatureBatch) -> Float[Tensor, "batch place dim"]:
    return normalize(_places(feature_batch.features), dim=2)


def _colours(feature_batch: FeatureBatch) -> Float[Tensor, "batch place 3"]:
    return _places(adaptive_avg_pool2d(feature_batch.pixels, feature_batch.shape))


def shared_parts(
    batches: Batches,
    ground: Ground,
    parts: int,
    *,
    seed: int,
    progress: ProgressCallback,
    vectors: Callable[[FeatureBatch], Tensor] = _features,
    spherical: bool = True,
) -> Painter:
    """Clusters of the places of all objects (Amir et al. 2021, arXiv:2112.05814, who ask for 4 of them)."""
    sample = ReservoirSample(seed)
    for feature_batch in batches():
        sample.add(vectors(feature_batch)[ground(feature_batch).flatten(1)])
    (rows,) = sample.rows()
    progress(f"parts: {len(rows):,} places of objects")
    if len(rows) < parts:
        raise UsageError(
            f"The objects have {len(rows)} places, too few for {parts} parts.", "Ask for fewer parts, or look at a larger --side."
        )
    centres = kmeans(rows, parts, seed=seed, spherical=spherical, restarts=5).centroids

    def painter(feature_batch: FeatureBatch) -> Tensor:
        given = vectors(feature_batch)
        return (torch.cdist(given, centres.to(given)).argmin(2) + 1).unflatten(1, feature_batch.shape)

    return painter


def contrast_parts(batches: Batches, ground: Ground, parts: int, *, seed: int, progress: ProgressCallback, **options: Any) -> Painter:
    """A layer over places that has learnt to tell parts from each other across pictures (``contrast.learn_parts``)."""
    centres = shared_parts(batches, ground, parts, seed=seed, progress=progress)
    head = learn_parts(batches, ground, centres, parts, seed=seed, progress=progress, **options)

    def painter(feature_batch: FeatureBatch) -> Tensor:
        return (head(_features(feature_batch)).argmax(2) + 1).unflatten(1, feature_batch.shape)

    return painter


colour_parts = partial(shared_parts, vectors=_colours, spherical=False)


@torch.no_grad()
def find_parts(
    phi: Representation,
    source: Source,
    method: str = "shared",
    *,
    parts: int = 4,
    feature_spec: FeatureSpec | None = None,
    within: str | None = None,
    refine: bool = False,
    rows: Rows | None = None,
    cache: Path | None = None,
    seed: int = 0,
    progress: ProgressCallback = no_progress,
    **options: Any,
) -> SegmentationResult:
    """Parts of the objects of a data set's pictures.

    Args:
        phi, source: what looks, and at what.
        method: ``shared`` (clusters of the places of all objects), ``contrast`` (a layer that learns parts), or ``colour`` (which asks
            no representation but for where the objects are).
        parts: how many; 1: the objects alone, which is co-segmentation where ``within`` is not given.
        feature_spec: at which scale, and which features.
        within: the localiser that tells objects from ground; None: what the pictures share, ``co_segmented``.
        refine: move edges to those of colours.
        rows, seed: which pictures, all by default; of all chance.
        cache, progress, options: a folder in which eigenvectors are cached; called with one line for each step; of the method.

    Raises:
        UsageError: there is no such method or localiser, or the objects have fewer places than parts.
    """
    read = partial(iter_feature_batches, phi, source, feature_spec or FeatureSpec(), rows=rows, cache=cache)
    batches = _held(read, len(source) if rows is None else len(rows))
    ground = partial(_localised, within) if within else co_segmented(batches, seed=seed, progress=progress)
    painter = PART_FINDERS.load(method)(batches, ground, parts, seed=seed, progress=progress, **options)
    facts = {"method": method, "parts": parts, "within": within, "representation": phi.name, "data": source.spec, **options}
    found = SegmentationResult.of(((one, list((painter(one) * ground(one)).cpu().numpy())) for one in batches()), parts, facts, "parts")
    if parts > 1 and len(set(np.unique(np.concatenate([one.ravel() for one in found.maps]))) - {0}) == 1:
        progress("parts: all locations of all objects are of one part; try another layer or facet, or centre the features")
    return replace(found, maps=tuple(edged(batches, found.maps, parts))) if refine else found


def _held(batches: Batches, count: int) -> Batches:
    if count > HELD:
        return batches
    every = list(batches())
    return lambda: iter(every)


def _localised(name: str, feature_batch: FeatureBatch) -> Bool[Tensor, "batch rows columns"]:
    """All regions of a localiser."""
    found = np.zeros((len(feature_batch), *feature_batch.shape), dtype=bool)
    for row, regions in enumerate(localise(feature_batch, name, least=0)):
        for region in regions:
            found[row] |= stretched(region.mask, feature_batch.shape)
    return torch.from_numpy(found).to(feature_batch.pixels.device)


def _salience(feature_batch: FeatureBatch) -> Float[Tensor, "batch place"]:
    """Above 0 where the class token looks more than at the mean place; where there is none, inside of what a cut finds."""
    if feature_batch.phi.has_attention and getattr(feature_batch.phi.backbone, "prefix", 0):
        seen = feature_batch.attention.mean(1).flatten(1)
        return seen - seen.mean(1, keepdim=True)
    return _localised("cut", feature_batch).flatten(1).float() - 0.5


def co_segmented(
    batches: Batches, *, most: int = 15, elbow: float = 0.975, votes: float = 0.75, seed: int = 0, progress: ProgressCallback = no_progress
) -> Ground:
    """The object that several pictures share (Amir et al. 2021, arXiv:2112.05814).

    The places of all pictures are clustered, into one cluster more as long as that takes ``1 - elbow`` off the sum of squared distances;
    a cluster is of the object where a quarter of the pictures have it, and its mean salience is above 0 in ``votes`` of these. As published
    but for two things: there all pictures vote, for all show the same; and their salience is that of four heads of one network above
    a threshold fitted to it (see ``_salience`` for ours).

    Args:
        batches: gives the pictures, as often as it is called.
        most: clusters at most.
        elbow, votes: see above.
        seed: of all chance.
        progress: called with how many clusters there are.
    """
    sample = ReservoirSample(seed)
    for feature_batch in batches():
        sample.add(_features(feature_batch).flatten(0, 1))
    (rows,) = sample.rows()
    some = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:TRIED]]
    found = kmeans(some, 1, seed=seed, spherical=True)
    for count in range(2, min(most, len(some)) + 1):
        before, found = found.inertia, kmeans(some, count, seed=seed, spherical=True, restarts=3)
        if found.inertia > elbow * before:
            break
    centres, total = found.centroids, 0
    votes_for, pictures = torch.zeros(2, len(centres))
    for feature_batch in batches():
        inside = one_hot(_nearest(feature_batch, centres), len(centres)).float()
        there = inside.sum(1) > 0
        salient = torch.einsum("bp,bpk->bk", _salience(feature_batch), inside) > 0
        votes_for, pictures = votes_for + (salient & there).sum(0).cpu(), pictures + there.sum(0).cpu()
        total += len(feature_batch)
    chosen = (votes_for >= votes * pictures) & (pictures >= SHARED * total)
    chosen |= (votes_for == votes_for.max()) if not chosen.any() else False  # something is shared, if nothing by so many votes
    progress(f"co-segmentation: {int(chosen.sum())} of {len(centres)} clusters are of objects")
    return lambda feature_batch: chosen.to(feature_batch.pixels.device)[_nearest(feature_batch, centres)].unflatten(1, feature_batch.shape)


def _nearest(feature_batch: FeatureBatch, centres: Tensor) -> Int[Tensor, "batch place"]:
    given = _features(feature_batch)
    return torch.cdist(given, centres.to(given)).argmin(2)
