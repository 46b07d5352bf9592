"""Kinds of things in a data set's pictures, without labels: segments of each picture, and the clusters that they fall into.

A segmenter cuts each picture into pieces and gives a vector for each piece. The vectors of all pictures are clustered (spherical
k-means), and each piece is painted with its cluster's number, from 1; 0 is ground. Pictures are passed through in batches: what is
held of all of them is their maps.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from selfsight.core.cache import Arrays, cache_key
from selfsight.core.errors import UsageError
from selfsight.core.progress import ProgressCallback, no_progress
from selfsight.core.representation import Representation
from selfsight.data.source import Rows, Source
from selfsight.discover.dense.features import FeatureBatch, FeatureSpec, iter_feature_batches
from selfsight.discover.dense.sample import ReservoirSample
from selfsight.discover.segments.maps import SegmentationResult, edged, with_maps
from selfsight.discover.segments.segmenters import Segments
from selfsight.discover.segments.table import SEGMENTERS
from selfsight.objectives.agree import mutual_information
from selfsight.objectives.assign import kmeans

__all__ = ["SegmentationResult", "segment_images"]


@dataclass(frozen=True)
class _Cut:
    """A data set's pictures cut into pieces, passed through as often as is needed."""

    batches: Callable[[], Iterator[FeatureBatch]]
    method: str
    options: dict[str, Any]
    memory: dict[tuple[int, ...], list[Segments]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[tuple[FeatureBatch, list[Segments]]]:
        finder = partial(SEGMENTERS.load(self.method), **self.options)
        for feature_batch in self.batches():
            yield feature_batch, finder(feature_batch) if self.has("every_location") else self._once(feature_batch, finder)

    def has(self, trait: str) -> bool:
        """Whether the segmenter has a trait of ``SEGMENTERS``."""
        return trait in SEGMENTERS.resolve(self.method).traits

    def _once(self, feature_batch: FeatureBatch, finder: Callable[[FeatureBatch], list[Segments]]) -> list[Segments]:
        """Pieces that are costly to find are found once: kept on disk where there is a folder for that, else held."""
        if feature_batch.cache is None:
            if feature_batch.rows not in self.memory:
                self.memory[feature_batch.rows] = finder(feature_batch)
            return self.memory[feature_batch.rows]
        name = f"pieces-{cache_key(self.method, sorted(self.options.items()))[:12]}"
        found = feature_batch.cache.get_or_compute(name, feature_batch.rows, lambda: _packed(finder(feature_batch)))
        return [Segments(found[f"numbers{row}"], torch.from_numpy(found[f"vectors{row}"])) for row in range(len(feature_batch))]


def _packed(pieces: Sequence[Segments]) -> Arrays:
    numbers = {f"numbers{row}": one.numbers for row, one in enumerate(pieces)}
    return numbers | {f"vectors{row}": one.vectors.cpu().numpy() for row, one in enumerate(pieces)}


@torch.no_grad()
def segment_images(
    phi: Representation,
    source: Source,
    method: str = "spectral",
    *,
    classes: int = 10,
    feature_spec: FeatureSpec | None = None,
    refine: bool = False,
    learn: bool = False,
    rows: Rows | None = None,
    cache: Path | None = None,
    seed: int = 0,
    progress: ProgressCallback = no_progress,
    **options: Any,
) -> SegmentationResult:
    """Kinds of things in a data set's pictures.

    Args:
        phi, source: the representation, the data set.
        method: a name of ``SEGMENTERS``, or ``iic``: a linear layer over places that tells a flipped picture's classes alike and fills
            all classes (Ji et al. 2018, arXiv:1807.06653).
        classes: how many, without ground.
        feature_spec: at which scale, which features and how many eigenvectors; 15 unless it says.
        refine, learn: move edges to those of colours; a linear layer over places learns the classes and paints again (self-training).
        rows, seed: which pictures, all by default; of all chance.
        cache, progress, options: a folder in which eigenvectors and segments are cached; called with one line for each step; of the segmenter.

    Raises:
        UsageError: there is no such segmenter, or there are fewer pieces than classes.
    """
    batches = partial(iter_feature_batches, phi, source, feature_spec or FeatureSpec(vectors=15), rows=rows, cache=cache)
    cut = _Cut(batches, method, options)
    classes += cut.has("every_location")  # where nothing is background, background is one class more
    told = _iic_head(batches, classes, seed, progress) if cut.has("learned_classes") else _nearest_kind(cut, classes, seed, progress)
    facts = {"method": method, "kinds": classes, "representation": phi.name, "data": source.spec, **options}
    found = SegmentationResult.of(((feature_batch, _numbers(pieces, told)) for feature_batch, pieces in cut), classes, facts)
    for wanted, again in ((learn, _learnt), (refine, edged)):
        found = replace(found, maps=tuple(again(batches, found.maps, classes))) if wanted else found
    return found


Told = Callable[[Float[Tensor, "piece dim"]], Int[Tensor, " piece"]]
"""From vectors of pieces to their classes, from 1."""


def _nearest_kind(cut: _Cut, classes: int, seed: int, progress: ProgressCallback) -> Told:
    """The nearest of the centroids of a sample of all pieces."""
    sample, pictures, unit = ReservoirSample(seed), 0, not cut.has("euclidean")
    for feature_batch, pieces in cut:
        for one in pieces:
            sample.add(one.vectors.float())
        pictures += len(feature_batch)
        progress(f"{cut.method}: {pictures:,} pictures in pieces") if pictures % 64 < len(feature_batch) else None
    (vectors,) = sample.rows()
    if len(vectors) < classes:
        raise UsageError(f"The pictures have {len(vectors)} pieces, too few for {classes} classes.", "Ask for fewer classes.")
    centres = kmeans(vectors, classes, seed=seed, spherical=unit, restarts=3).centroids

    def told(vectors: Tensor) -> Tensor:
        given = vectors.float().cpu()
        return torch.cdist(normalize(given) if unit else given, centres).argmin(1) + 1

    return told


def _numbers(pieces: Sequence[Segments], told: Told) -> list[Int[np.ndarray, "_ _"]]:
    """The kind at each place of each picture."""
    return [np.concatenate([[0], told(one.vectors).cpu().numpy()])[one.numbers] for one in pieces]


def _places(feature_batch: FeatureBatch) -> Float[Tensor, "place dim"]:
    return normalize(feature_batch.features.flatten(2), dim=1).transpose(1, 2).flatten(0, 1).cpu()


def _learnt(batches: Callable[[], Iterator[FeatureBatch]], maps: Sequence[np.ndarray], classes: int) -> list[np.ndarray]:
    """What a linear layer over places makes of the maps: a softmax regression with ``1e-4 |W|²``, to its optimum."""
    sample = ReservoirSample(0)
    for feature_batch, some in with_maps(batches(), maps):
        sample.add(_places(feature_batch), torch.from_numpy(np.concatenate([one.ravel() for one in some])))
    rows, labels = sample.rows()
    rows = rows.double()
    weight = torch.zeros(classes + 1, rows.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> float:
        with torch.enable_grad():
            optimiser.zero_grad()
            value = cross_entropy(rows @ weight[:, :-1].T + weight[:, -1], labels) + 1e-4 * weight[:, :-1].square().sum()
            value.backward()
        return value.item()

    optimiser.step(loss)
    fitted = weight.detach().float()
    found = list[np.ndarray]()
    for feature_batch, some in with_maps(batches(), maps):
        told = (_places(feature_batch) @ fitted[:, :-1].T + fitted[:, -1]).argmax(1)
        found += [part.reshape(one.shape).numpy() for part, one in zip(told.split([one.size for one in some]), some, strict=True)]
    return found


def _iic_head(batches: Callable[[], Iterator[FeatureBatch]], classes: int, seed: int, progress: ProgressCallback) -> Told:
    """A linear layer over places whose classes are the same in a flipped picture, and tell as much as they can."""
    sample = ReservoirSample(seed)
    for feature_batch in batches():
        turned = FeatureBatch(feature_batch.phi, feature_batch.pixels.flip(3), feature_batch.spec).features.flip(3)
        sample.add(*(side.flatten(2).transpose(1, 2).flatten(0, 1) for side in (feature_batch.features, turned)))
    one, other = sample.rows()
    generator = torch.Generator().manual_seed(seed)
    scale = one.std(0).clamp(min=1e-6)
    heads = [nn.Linear(one.shape[1], classes) for _ in range(5)]
    for head in heads:
        nn.init.normal_(head.weight, std=one.shape[1] ** -0.5, generator=generator)
        nn.init.zeros_(head.bias)
    told = torch.zeros(len(heads))
    optimiser = torch.optim.Adam([parameter for head in heads for parameter in head.parameters()], lr=1e-2)
    with torch.enable_grad():
        for step in range(300):
            drawn = torch.randint(len(one), (min(4096, 4 * len(one)),), generator=generator)
            pairs = [[head(side[drawn] / scale).softmax(1) for side in (one, other)] for head in heads]
            shared = torch.stack([mutual_information(*pair) for pair in pairs])
            optimiser.zero_grad()
            (-shared.sum()).backward()
            optimiser.step()
            told = shared.detach()
            if step % 100 == 99:
                progress(f"iic: step {step + 1}, {told.max():.2f} nats")
    best = heads[int(told.argmax())]
    return lambda vectors: best(vectors.float().cpu() / scale).argmax(1) + 1
