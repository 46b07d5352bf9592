"""Segmenters: division of each image into segments, with a vector per segment."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Unpack

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate, normalize, one_hot

from selfsight.core.finite_tensors import require_finite_tensor
from selfsight.discover.dense.features import FeatureBatch, Size
from selfsight.discover.objects.localise import localise
from selfsight.discover.options import LocaliserOptions
from selfsight.objectives.assign import kmeans

__all__ = ["Segmenter", "Segments"]


@dataclass(frozen=True)
class Segments:
    """Segments of an image.

    Attributes:
        numbers: index of the segment at each location, from 1; 0 is background.
        vectors: one row per segment.
    """

    numbers: Int[np.ndarray, "rows columns"]
    vectors: Float[Tensor, "piece dim"]


Segmenter = Callable[[FeatureBatch], list[Segments]]


def _means(feature_batch: FeatureBatch, row: int, numbers: Int[np.ndarray, "rows columns"]) -> Float[Tensor, "piece dim"]:
    """Mean feature of each segment."""
    inside = one_hot(torch.from_numpy(numbers).flatten().long(), int(numbers.max()) + 1)[:, 1:].to(feature_batch.features)
    return (feature_batch.features[row].flatten(1) @ inside).T / inside.sum(0)[:, None].clamp(min=1)


def _vectors(feature_batch: FeatureBatch, row: int, numbers: Int[np.ndarray, "rows columns"], *, crops: bool) -> Float[Tensor, "piece dim"]:
    """Pooled features of a crop around each segment with a margin of one location, or the segment's mean feature."""
    if not crops or not numbers.any():
        return _means(feature_batch, row, numbers)
    size, (rows, columns) = feature_batch.phi.size, numbers.shape
    height, width = feature_batch.pixels.shape[2:]
    crops_resized = []
    for segment in range(1, int(numbers.max()) + 1):
        down, across = np.nonzero(numbers == segment)
        top, bottom = (max(down.min() - 1, 0) * height // rows, min(down.max() + 2, rows) * height // rows)
        left, right = (max(across.min() - 1, 0) * width // columns, min(across.max() + 2, columns) * width // columns)
        crop = feature_batch.pixels[row : row + 1, :, top:bottom, left:right]
        crops_resized.append(interpolate(crop, (size, size), mode="bilinear", antialias=True))
    vectors = feature_batch.phi.pooled(torch.cat(crops_resized).clamp(0, 1)).float()
    require_finite_tensor(vectors, f"segments of {feature_batch.names[row] if feature_batch.names else f'image {row}'}")
    return vectors


def spectral(
    feature_batch: FeatureBatch, *, segments: int = 15, adaptive: bool = False, crops: bool = True, seed: int = 0
) -> list[Segments]:
    """k-means over locations in the smoothest eigenvectors; the segment with most of the border is background (Melas-Kyriazi et al. 2022).

    Args:
        feature_batch: the images, with several eigenvectors (``FeatureSpec.vectors``).
        segments: segments per image, including the background.
        adaptive: number of segments by the largest eigenvalue gap, at least 2.
        crops: the vector of a segment is that of a crop around it, as published; False: the mean feature of its locations.
        seed: seed of k-means.
    """
    graph_spectrum, (rows, columns) = feature_batch.spectrum, feature_batch.shape
    gaps = graph_spectrum.clusters().tolist()
    edge = np.ones((rows, columns), dtype=bool)
    edge[1:-1, 1:-1] = False
    results = []
    for row, vectors in enumerate(graph_spectrum.vectors[:, 1:].cpu()):
        count = min(max(gaps[row], 2) if adaptive else segments, rows * columns)
        labels = kmeans(normalize(vectors).T, count, seed=seed).labels.reshape(rows, columns).numpy()
        background = int(np.bincount(labels[edge], minlength=count).argmax())
        numbers = np.unique(np.where(labels == background, -1, labels), return_inverse=True)[1].reshape(rows, columns)
        results.append(Segments(numbers, _vectors(feature_batch, row, numbers, crops=crops)))
    return results


def single_object(
    feature_batch: FeatureBatch, *, localiser: str = "cut", crops: bool = True, **options: Unpack[LocaliserOptions]
) -> list[Segments]:
    """The object of a localiser as the only segment; the rest is background.

    Args:
        feature_batch: the images.
        localiser: a name in ``LOCALISERS``.
        crops: as for ``spectral``.
        options: options of the localiser.
    """
    results = []
    for row, regions in enumerate(localise(feature_batch, localiser, min_confidence=0, **options)):
        numbers = regions[0].mask.astype(np.int64) if regions else np.zeros(feature_batch.shape, dtype=np.int64)
        results.append(Segments(numbers, _vectors(feature_batch, row, numbers, crops=crops)))
    return results


def patch(feature_batch: FeatureBatch) -> list[Segments]:
    """Every location as a segment, without background."""
    return [Segments(_all_locations(feature_batch.shape), rows.flatten(1).T) for rows in feature_batch.features]


def colour(feature_batch: FeatureBatch) -> list[Segments]:
    """Every location as a segment with its mean colour; needs no representation."""
    cells = adaptive_avg_pool2d(feature_batch.pixels, feature_batch.shape)
    return [Segments(_all_locations(feature_batch.shape), rows.flatten(1).T) for rows in cells]


def _all_locations(shape: Size) -> Int[np.ndarray, "rows columns"]:
    return 1 + np.arange(shape[0] * shape[1]).reshape(shape)
