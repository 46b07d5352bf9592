"""Pictures in pieces: how each picture is cut, and a vector for each piece."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate, normalize, one_hot

from selfsight.discover.dense.features import FeatureBatch, Size
from selfsight.discover.objects.localise import localise
from selfsight.objectives.assign import kmeans

__all__ = ["Segmenter", "Segments"]


@dataclass(frozen=True)
class Segments:
    """A picture in pieces.

    Attributes:
        numbers: of the piece at each place, from 1; 0 is ground.
        vectors: one row a piece.
    """

    numbers: Int[np.ndarray, "rows columns"]
    vectors: Float[Tensor, "piece dim"]


Segmenter = Callable[[FeatureBatch], list[Segments]]


def _means(feature_batch: FeatureBatch, row: int, numbers: Int[np.ndarray, "rows columns"]) -> Float[Tensor, "piece dim"]:
    """The mean feature of each piece."""
    inside = one_hot(torch.from_numpy(numbers).flatten().long(), int(numbers.max()) + 1)[:, 1:].to(feature_batch.features)
    return (feature_batch.features[row].flatten(1) @ inside).T / inside.sum(0)[:, None].clamp(min=1)


def _vectors(feature_batch: FeatureBatch, row: int, numbers: Int[np.ndarray, "rows columns"], *, crops: bool) -> Float[Tensor, "piece dim"]:
    """What the network says of the box around each piece and one place more, or the mean feature of the piece."""
    if not crops or not numbers.any():
        return _means(feature_batch, row, numbers)
    size, (rows, columns) = feature_batch.phi.size, numbers.shape
    height, width = feature_batch.pixels.shape[2:]
    cut = []
    for piece in range(1, int(numbers.max()) + 1):
        down, across = np.nonzero(numbers == piece)
        top, bottom = (max(down.min() - 1, 0) * height // rows, min(down.max() + 2, rows) * height // rows)
        left, right = (max(across.min() - 1, 0) * width // columns, min(across.max() + 2, columns) * width // columns)
        crop = feature_batch.pixels[row : row + 1, :, top:bottom, left:right]
        cut.append(interpolate(crop, (size, size), mode="bilinear", antialias=True))
    return feature_batch.phi.pooled(torch.cat(cut).clamp(0, 1)).float()


def spectral(
    feature_batch: FeatureBatch, *, segments: int = 15, adaptive: bool = False, crops: bool = True, seed: int = 0
) -> list[Segments]:
    """k-means over places in the smoothest eigenvectors; the piece with most of the border is ground (Melas-Kyriazi et al. 2022).

    Args:
        feature_batch: the pictures, with some eigenvectors (``Look.vectors``).
        segments: pieces of a picture with its ground.
        adaptive: as many as the largest gap of the eigenvalues speaks for, and 2 at least.
        crops: a piece is told by what the network says of the box around it, as published; if not, by its places' mean feature.
        seed: of k-means.
    """
    found, (rows, columns) = feature_batch.spectrum, feature_batch.shape
    gaps = found.clusters().tolist()
    edge = np.ones((rows, columns), dtype=bool)
    edge[1:-1, 1:-1] = False
    pieces = []
    for row, vectors in enumerate(found.vectors[:, 1:].cpu()):
        count = min(max(gaps[row], 2) if adaptive else segments, rows * columns)
        labels = kmeans(normalize(vectors).T, count, seed=seed).labels.reshape(rows, columns).numpy()
        ground = int(np.bincount(labels[edge], minlength=count).argmax())
        numbers = np.unique(np.where(labels == ground, -1, labels), return_inverse=True)[1].reshape(rows, columns)
        pieces.append(Segments(numbers, _vectors(feature_batch, row, numbers, crops=crops)))
    return pieces


def object_alone(feature_batch: FeatureBatch, *, localiser: str = "cut", crops: bool = True, **options: Any) -> list[Segments]:
    """The object that a localiser finds is the one piece, all else is ground."""
    pieces = []
    for row, regions in enumerate(localise(feature_batch, localiser, least=0, **options)):
        numbers = regions[0].mask.astype(np.int64) if regions else np.zeros(feature_batch.shape, dtype=np.int64)
        pieces.append(Segments(numbers, _vectors(feature_batch, row, numbers, crops=crops)))
    return pieces


def patch(feature_batch: FeatureBatch) -> list[Segments]:
    """Every place is a piece, and nothing is ground: what clusters say without any picture's own pieces."""
    return [Segments(_each(feature_batch.shape), rows.flatten(1).T) for rows in feature_batch.features]


def colour(feature_batch: FeatureBatch) -> list[Segments]:
    """Every place is a piece, told by its mean colour: what needs no representation."""
    cells = adaptive_avg_pool2d(feature_batch.pixels, feature_batch.shape)
    return [Segments(_each(feature_batch.shape), rows.flatten(1).T) for rows in cells]


def _each(shape: Size) -> Int[np.ndarray, "rows columns"]:
    return 1 + np.arange(shape[0] * shape[1]).reshape(shape)
