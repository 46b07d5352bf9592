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
from selfsight.core.names import look_up
from selfsight.core.progress import Say, quiet
from selfsight.core.representation import Representation
from selfsight.data.source import Rows, Source
from selfsight.discover.dense.features import Look, Looked, looks
from selfsight.discover.dense.sample import Sample
from selfsight.discover.objects.localise import localise
from selfsight.discover.parts.contrast import learn_parts
from selfsight.discover.segments.maps import Segmented, edged
from selfsight.objectives.assign import kmeans
from selfsight.render.tiles import stretched

__all__ = ["PARTERS", "co_segmented", "find_parts"]

HELD = 200
"""Pictures whose features are held at most; those of more are worked out again for every pass."""
TRIED = 10_000
"""Places that a number of clusters is tried on."""
SHARED = 0.25
"""Of the pictures, in which a cluster has to be to be something that they share."""
Batches = Callable[[], Iterator[Looked]]
Ground = Callable[[Looked], Bool[Tensor, "batch rows columns"]]
"""Which places of some pictures belong to an object."""
Painter = Callable[[Looked], Int[Tensor, "batch rows columns"]]
"""The part at each place, from 1, as if all places belonged to objects."""


Parter = Callable[..., Painter]
"""A way to find parts: from batches, ground and the number of parts, with ``seed``, ``say`` and options of its own, to what paints them."""


def _places(values: Float[Tensor, "batch dim rows columns"]) -> Float[Tensor, "batch place dim"]:
    return values.flatten(2).transpose(1, 2)


def _features(looked: Looked) -> Float[Tensor, "batch place dim"]:
    return normalize(_places(looked.features), dim=2)


def _colours(looked: Looked) -> Float[Tensor, "batch place 3"]:
    return _places(adaptive_avg_pool2d(looked.pixels, looked.shape))


def _by_centres(
    batches: Batches,
    ground: Ground,
    parts: int,
    *,
    seed: int,
    say: Say,
    vectors: Callable[[Looked], Tensor] = _features,
    spherical: bool = True,
) -> Painter:
    """Clusters of the places of all objects (Amir et al. 2021, arXiv:2112.05814, who ask for 4 of them)."""
    sample = Sample(seed)
    for looked in batches():
        sample.add(vectors(looked)[ground(looked).flatten(1)])
    (rows,) = sample.rows()
    say(f"parts: {len(rows):,} places of objects")
    if len(rows) < parts:
        raise UsageError(
            f"The objects have {len(rows)} places, too few for {parts} parts.", "Ask for fewer parts, or look at a larger --side."
        )
    centres = kmeans(rows, parts, seed=seed, spherical=spherical, restarts=5).centroids

    def painter(looked: Looked) -> Tensor:
        given = vectors(looked)
        return (torch.cdist(given, centres.to(given)).argmin(2) + 1).unflatten(1, looked.shape)

    return painter


def _contrasted(batches: Batches, ground: Ground, parts: int, *, seed: int, say: Say, **options: Any) -> Painter:
    """A layer over places that has learnt to tell parts from each other across pictures (``contrast.learn_parts``)."""
    centres = _by_centres(batches, ground, parts, seed=seed, say=say)
    head = learn_parts(batches, ground, centres, parts, seed=seed, say=say, **options)

    def painter(looked: Looked) -> Tensor:
        return (head(_features(looked)).argmax(2) + 1).unflatten(1, looked.shape)

    return painter


PARTERS: dict[str, Parter] = {
    "colour": partial(_by_centres, vectors=_colours, spherical=False),
    "contrast": _contrasted,
    "shared": _by_centres,
}


@torch.no_grad()
def find_parts(
    phi: Representation,
    source: Source,
    method: str = "shared",
    *,
    parts: int = 4,
    look: Look | None = None,
    within: str | None = None,
    refine: bool = False,
    rows: Rows | None = None,
    kept: Path | None = None,
    seed: int = 0,
    say: Say = quiet,
    **options: Any,
) -> Segmented:
    """Parts of the objects of a data set's pictures.

    Args:
        phi, source: what looks, and at what.
        method: ``shared`` (clusters of the places of all objects), ``contrast`` (a layer that learns parts), or ``colour`` (which asks
            no representation but for where the objects are).
        parts: how many; 1: the objects alone, which is co-segmentation where ``within`` is not given.
        look: at which scale, and which features.
        within: the localiser that tells objects from ground; None: what the pictures share, ``co_segmented``.
        refine: move edges to those of colours.
        rows, seed: which pictures, all by default; of all chance.
        kept, say, options: a folder in which eigenvectors are kept; called with how far it is; of the method.

    Raises:
        UsageError: there is no such method or localiser, or the objects have fewer places than parts.
    """
    parter = PARTERS[look_up("way to find parts", method, PARTERS)]
    batches = _held(partial(looks, phi, source, look or Look(), rows=rows, kept=kept), len(source) if rows is None else len(rows))
    ground = partial(_localised, within) if within else co_segmented(batches, seed=seed, say=say)
    painter = parter(batches, ground, parts, seed=seed, say=say, **options)
    facts = {"method": method, "parts": parts, "within": within, "representation": phi.name, "data": source.spec, **options}
    found = Segmented.of(((looked, list((painter(looked) * ground(looked)).cpu().numpy())) for looked in batches()), parts, facts, "parts")
    if parts > 1 and len({int(part) for one in found.maps for part in np.unique(one) if part}) == 1:
        say("parts: all places of all objects are of one part; look at another layer or facet, or centre features")
    return replace(found, maps=tuple(edged(batches, found.maps, parts))) if refine else found


def _held(batches: Batches, count: int) -> Batches:
    if count > HELD:
        return batches
    every = list(batches())
    return lambda: iter(every)


def _localised(name: str, looked: Looked) -> Bool[Tensor, "batch rows columns"]:
    """All regions of a localiser."""
    found = np.zeros((len(looked), *looked.shape), dtype=bool)
    for row, regions in enumerate(localise(looked, name, least=0)):
        for region in regions:
            found[row] |= stretched(region.mask, looked.shape)
    return torch.from_numpy(found).to(looked.pixels.device)


def _salience(looked: Looked) -> Float[Tensor, "batch place"]:
    """Above 0 where the class token looks more than at the mean place; where there is none, inside of what a cut finds."""
    if looked.phi.attends and getattr(looked.phi.backbone, "prefix", 0):
        seen = looked.attention.mean(1).flatten(1)
        return seen - seen.mean(1, keepdim=True)
    return _localised("cut", looked).flatten(1).float() - 0.5


def co_segmented(batches: Batches, *, most: int = 15, elbow: float = 0.975, votes: float = 0.75, seed: int = 0, say: Say = quiet) -> Ground:
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
        say: called with how many clusters there are.
    """
    sample = Sample(seed)
    for looked in batches():
        sample.add(_features(looked).flatten(0, 1))
    (rows,) = sample.rows()
    some = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:TRIED]]
    found = kmeans(some, 1, seed=seed, spherical=True)
    for count in range(2, min(most, len(some)) + 1):
        before, found = found.inertia, kmeans(some, count, seed=seed, spherical=True, restarts=3)
        if found.inertia > elbow * before:
            break
    centres, total = found.centroids, 0
    votes_for, pictures = torch.zeros(2, len(centres))
    for looked in batches():
        inside = one_hot(_nearest(looked, centres), len(centres)).float()
        there = inside.sum(1) > 0
        salient = torch.einsum("bp,bpk->bk", _salience(looked), inside) > 0
        votes_for, pictures = votes_for + (salient & there).sum(0).cpu(), pictures + there.sum(0).cpu()
        total += len(looked)
    chosen = (votes_for >= votes * pictures) & (pictures >= SHARED * total)
    chosen |= (votes_for == votes_for.max()) if not chosen.any() else False  # something is shared, if nothing by so many votes
    say(f"co-segmentation: {int(chosen.sum())} of {len(centres)} clusters are of objects")
    return lambda looked: chosen.to(looked.pixels.device)[_nearest(looked, centres)].unflatten(1, looked.shape)


def _nearest(looked: Looked, centres: Tensor) -> Int[Tensor, "batch place"]:
    given = _features(looked)
    return torch.cdist(given, centres.to(given)).argmin(2)
