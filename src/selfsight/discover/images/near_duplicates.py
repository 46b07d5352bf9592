"""Near-duplicate images: neighbours in feature space whose pixels correlate."""

from itertools import product

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from selfsight.data.evaluation_view import evaluation_view
from selfsight.data.source import Source

__all__ = ["near_duplicates", "small_images"]

TINY = 24
"""Side in pixels at which near-duplicates are compared."""
FLAT, SAME_COLOUR = 1 / 255, 1.5 / 255
"""Standard deviation below which a channel is flat; difference of a channel up to which flat images have one colour."""


def small_images(source: Source, side: int) -> Float[np.ndarray, "image value"]:
    """Central squares of all images, as vectors.

    Args:
        source: the data set.
        side: side of the squares in pixels.
    """
    rows = np.arange(len(source))
    return torch.cat([evaluation_view(source, side)(part).flatten(1) for part in np.array_split(rows, max(len(rows) // 256, 1))]).numpy()


def near_duplicates(source: Source, around: Int[np.ndarray, "image neighbour"], duplicate_threshold: float) -> tuple[tuple[int, ...], ...]:
    """Groups of images that are neighbours in feature space and correlate in pixels, the first image first.

    Features alone are not sufficient: images with similar features may be different images of the same object. Pixels must correlate both
    with their colours and with the mean of each channel removed, because images of one hue correlate whatever they show. Flat images, which
    have no correlation, are near-duplicates if their colours are equal; they are compared with all others, because their features may have
    other nearest neighbours.

    Args:
        source: the data set.
        around: ``(N, neighbour)`` rows of the nearest neighbours in feature space.
        duplicate_threshold: pixel correlation from which two neighbours are near-duplicates.
    """
    pixels = small_images(source, TINY)
    channels = pixels.reshape(len(pixels), -1, TINY**2)
    coloured, _ = _standardised(pixels)
    shapes, norms = _standardised((channels - channels.mean(2, keepdims=True)).reshape(pixels.shape))
    flat = norms < FLAT * np.sqrt(pixels.shape[1])
    pairs = []
    for column in around.T:
        alike = np.minimum((coloured * coloured[column]).sum(1), (shapes * shapes[column]).sum(1)) >= duplicate_threshold
        left = np.flatnonzero(alike & ~flat & ~flat[column])
        pairs.append(np.stack([left, column[left]], 1))
    return _joined(len(pixels), np.concatenate([*pairs, _equal_pairs(pixels), _flat_pairs(channels.mean(2), flat)]))


def _standardised(rows: Float[np.ndarray, "image value"]) -> tuple[Float[np.ndarray, "image value"], Float[np.ndarray, " image"]]:
    """Rows without their mean and of unit length, and their length before."""
    centred = rows - rows.mean(1, keepdims=True)
    norms = np.linalg.norm(centred, axis=1)
    return centred / norms.clip(min=1e-6)[:, None], norms


def _equal_pairs(pixels: Float[np.ndarray, "image value"]) -> Int[np.ndarray, "pair 2"]:
    """Pairs of rows with equal values, each with the first of its kind."""
    first: dict[bytes, int] = {}
    pairs = [(first.setdefault(values.tobytes(), row), row) for row, values in enumerate(np.ascontiguousarray(pixels))]
    return np.array([pair for pair in pairs if pair[0] != pair[1]], dtype=np.int64).reshape(-1, 2)


def _flat_pairs(colours: Float[np.ndarray, "image channel"], flat: Bool[np.ndarray, " image"]) -> Int[np.ndarray, "pair 2"]:
    """Pairs of flat images of one colour: each with the first one whose colour differs by at most ``SAME_COLOUR`` in every channel.

    Not every two close colours are a pair: a ramp of greys from black to white would be one group.
    """
    firsts: dict[tuple[int, ...], list[int]] = {}
    pairs: list[tuple[int, int]] = []
    for row in np.flatnonzero(flat).tolist():
        cell = tuple(np.floor(colours[row] / SAME_COLOUR).astype(int).tolist())
        near = (first for place in product(*((at - 1, at, at + 1) for at in cell)) for first in firsts.get(place, ()))
        equal = [first for first in near if np.abs(colours[first] - colours[row]).max() <= SAME_COLOUR]
        if equal:
            pairs.append((min(equal), row))
        else:
            firsts.setdefault(cell, []).append(row)
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def _joined(count: int, pairs: Int[np.ndarray, "pair 2"]) -> tuple[tuple[int, ...], ...]:
    """Groups of rows that pairs connect, in the order of their first rows."""
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    labels = connected_components(graph, directed=False)[1]
    order = np.argsort(labels, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
    return tuple(sorted(tuple(group.tolist()) for group in groups if len(group) > 1))
