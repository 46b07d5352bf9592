"""Semantic segmentation without labels: segments of each image, and clusters of segments as classes.

A segmenter divides each image into segments and returns a vector per segment. The vectors of all images are clustered (spherical
k-means), and each segment gets the index of its cluster, from 1; 0 is background. Images are read in batches; only the maps of all images
stay in memory.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Unpack

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
from selfsight.discover.options import SegmenterOptions
from selfsight.discover.segments.maps import SegmentationResult, edged, with_maps
from selfsight.discover.segments.segmenters import Segments
from selfsight.discover.segments.table import SEGMENTERS
from selfsight.objectives.agree import mutual_information
from selfsight.objectives.assign import kmeans

__all__ = ["SegmentationResult", "segment_images"]


@dataclass(frozen=True)
class _Segmented:
    """The images of a data set with their segments, for any number of passes."""

    batches: Callable[[], Iterator[FeatureBatch]]
    method: str
    options: SegmenterOptions
    memory: dict[tuple[int, ...], list[Segments]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[tuple[FeatureBatch, list[Segments]]]:
        finder = partial(SEGMENTERS.load(self.method), **self.options)
        for feature_batch in self.batches():
            yield feature_batch, finder(feature_batch) if self.has("every_location") else self._once(feature_batch, finder)

    def has(self, trait: str) -> bool:
        """Whether the segmenter has a trait of ``SEGMENTERS``."""
        return trait in SEGMENTERS.resolve(self.method).traits

    def _once(self, feature_batch: FeatureBatch, finder: Callable[[FeatureBatch], list[Segments]]) -> list[Segments]:
        """Segments that are costly to compute are computed once and cached, on disk if there is a folder, otherwise in memory."""
        if feature_batch.cache is None:
            if feature_batch.rows not in self.memory:
                self.memory[feature_batch.rows] = finder(feature_batch)
            return self.memory[feature_batch.rows]
        name = f"pieces-{cache_key(self.method, sorted(self.options.items()))[:12]}"
        arrays = feature_batch.cache.get_or_compute(name, feature_batch.rows, lambda: _packed(finder(feature_batch)))
        return [Segments(arrays[f"numbers{row}"], torch.from_numpy(arrays[f"vectors{row}"])) for row in range(len(feature_batch))]


def _packed(segments: Sequence[Segments]) -> Arrays:
    numbers = {f"numbers{row}": image.numbers for row, image in enumerate(segments)}
    return numbers | {f"vectors{row}": image.vectors.cpu().numpy() for row, image in enumerate(segments)}


@torch.no_grad()
def segment_images(
    phi: Representation, source: Source, method: str = "spectral", *, classes: int = 10, feature_spec: FeatureSpec | None = None,
    refine: bool = False, learn: bool = False, rows: Rows | None = None, cache: Path | None = None, seed: int = 0,
    progress: ProgressCallback = no_progress, **options: Unpack[SegmenterOptions],
) -> SegmentationResult:  # fmt: skip
    """Segment the images of a data set into classes without labels.

    Args:
        phi: the representation.
        source: the data set.
        method: a name in ``SEGMENTERS``; ``iic``: a linear layer with flip-invariant, balanced classes (Ji et al. 2018, arXiv:1807.06653).
        classes: number of classes, without background.
        feature_spec: scale, features and number of eigenvectors; None: 15 eigenvectors.
        refine: move edges to colour edges.
        learn: self-training: a linear layer is trained on the classes and predicts new maps.
        rows: rows to read; None: all.
        cache: folder of cached eigenvectors and segments; None: no cache.
        seed: seed of all random choices.
        progress: called with a line per step.
        options: options of the segmenter.

    Raises:
        UsageError: the segmenter does not exist, or there are fewer segments than classes.
    """
    batches = partial(iter_feature_batches, phi, source, feature_spec or FeatureSpec(vectors=15), rows=rows, cache=cache)
    segmented = _Segmented(batches, method, options)
    classes += segmented.has("every_location")  # without background segments, the background is an additional class
    classifier = (
        _iic_head(batches, classes, seed, progress)
        if segmented.has("learned_classes")
        else _nearest_class(segmented, classes, seed, progress)
    )
    facts = {"method": method, "kinds": classes, "representation": phi.name, "data": source.spec, **options}
    result = SegmentationResult.of(((feature_batch, _numbers(pieces, classifier)) for feature_batch, pieces in segmented), classes, facts)
    for requested, step in ((learn, _learnt), (refine, edged)):
        result = replace(result, maps=tuple(step(batches, result.maps, classes))) if requested else result
    return result


Classifier = Callable[[Float[Tensor, "piece dim"]], Int[Tensor, " piece"]]
"""From vectors of segments to their classes, from 1."""


def _nearest_class(segmented: _Segmented, classes: int, seed: int, progress: ProgressCallback) -> Classifier:
    """Nearest centroid, with centroids of a sample of all segments."""
    sample, images_seen, unit = ReservoirSample(seed), 0, not segmented.has("euclidean")
    for feature_batch, segments in segmented:
        for image in segments:
            sample.add(image.vectors.float())
        images_seen += len(feature_batch)
        progress(f"{segmented.method}: {images_seen:,} images segmented") if images_seen % 64 < len(feature_batch) else None
    (vectors,) = sample.rows()
    if len(vectors) < classes:
        raise UsageError(f"The images have {len(vectors)} segments, too few for {classes} classes.", "Use fewer classes.")
    centres = kmeans(vectors, classes, seed=seed, spherical=unit, restarts=3).centroids

    def classify(vectors: Tensor) -> Tensor:
        points = vectors.float().cpu()
        return torch.cdist(normalize(points) if unit else points, centres).argmin(1) + 1

    return classify


def _numbers(segments: Sequence[Segments], classifier: Classifier) -> list[Int[np.ndarray, "_ _"]]:
    """Class at each location of each image."""
    return [np.concatenate([[0], classifier(image.vectors).cpu().numpy()])[image.numbers] for image in segments]


def _locations(feature_batch: FeatureBatch) -> Float[Tensor, "place dim"]:
    return normalize(feature_batch.features.flatten(2), dim=1).transpose(1, 2).flatten(0, 1).cpu()


def _learnt(batches: Callable[[], Iterator[FeatureBatch]], maps: Sequence[np.ndarray], classes: int) -> list[np.ndarray]:
    """Maps predicted by a softmax regression with ``1e-4 |W|²`` on the features of locations, trained on the given maps."""
    sample = ReservoirSample(0)
    for feature_batch, group in with_maps(batches(), maps):
        sample.add(_locations(feature_batch), torch.from_numpy(np.concatenate([class_map.ravel() for class_map in group])))
    rows, labels = sample.rows()
    rows = rows.double()
    weight = torch.zeros(classes + 1, rows.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> float:
        with torch.enable_grad():
            optimiser.zero_grad()
            total = cross_entropy(rows @ weight[:, :-1].T + weight[:, -1], labels) + 1e-4 * weight[:, :-1].square().sum()
            total.backward()
        return total.item()

    optimiser.step(loss)
    fitted = weight.detach().float()
    predictions = list[np.ndarray]()
    for feature_batch, group in with_maps(batches(), maps):
        predicted = (_locations(feature_batch) @ fitted[:, :-1].T + fitted[:, -1]).argmax(1)
        flat = predicted.split([class_map.size for class_map in group])
        predictions += [part.reshape(class_map.shape).numpy() for part, class_map in zip(flat, group, strict=True)]
    return predictions


def _iic_head(batches: Callable[[], Iterator[FeatureBatch]], classes: int, seed: int, progress: ProgressCallback) -> Classifier:
    """A linear layer on the features of locations that maximises the mutual information between an image and its mirror image."""
    sample = ReservoirSample(seed)
    for feature_batch in batches():
        mirrored = FeatureBatch(feature_batch.phi, feature_batch.pixels.flip(3), feature_batch.spec).features.flip(3)
        sample.add(*(side.flatten(2).transpose(1, 2).flatten(0, 1) for side in (feature_batch.features, mirrored)))
    original, mirror = sample.rows()
    generator = torch.Generator().manual_seed(seed)
    scale = original.std(0).clamp(min=1e-6)
    heads = [nn.Linear(original.shape[1], classes) for _ in range(5)]
    for head in heads:
        nn.init.normal_(head.weight, std=original.shape[1] ** -0.5, generator=generator)
        nn.init.zeros_(head.bias)
    information = torch.zeros(len(heads))
    optimiser = torch.optim.Adam([parameter for head in heads for parameter in head.parameters()], lr=1e-2)
    with torch.enable_grad():
        for step in range(300):
            drawn = torch.randint(len(original), (min(4096, 4 * len(original)),), generator=generator)
            pairs = [[head(side[drawn] / scale).softmax(1) for side in (original, mirror)] for head in heads]
            losses = torch.stack([mutual_information(*pair) for pair in pairs])
            optimiser.zero_grad()
            (-losses.sum()).backward()
            optimiser.step()
            information = losses.detach()
            if step % 100 == 99:
                progress(f"iic: step {step + 1}, {information.max():.2f} nats")
    best = heads[int(information.argmax())]
    return lambda vectors: best(vectors.float().cpu() / scale).argmax(1) + 1
