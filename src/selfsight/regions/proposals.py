"""Selective search: object proposals from colours (Uijlings et al. 2013, IJCV 104).

An image is divided into small homogeneous segments (Felzenszwalb & Huttenlocher 2004, IJCV 59). The two most similar neighbours are merged
repeatedly until one segment is left; the bounding box of every segment on the way is a proposal. For segments a and b of an image of n
pixels::

    s = [Σ min(c_a, c_b)] + Σ min(t_a, t_b) + 1 - (|a| + |b|) / n + 1 - (|box(a, b)| - |a| - |b|) / n

with normalised histograms c of colours (25 bins per channel) and t of gradients (10 bins of each of 8 directions per channel), averaged by
size when segments are merged. This is the "fast" variant: two colour spaces, two scales of segments, with and without c. A box's rank is its
position in the hierarchy (the whole image is 1) times a uniform random number; of equal boxes the first is kept.
"""

from itertools import product
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from scipy import ndimage

__all__ = ["joined_boxes", "selective_search"]

SPACES = ("lab", "hsv")
SCALES = (50, 100)
BINS, LEVELS, DIRECTIONS = 25, 10, 8
Space = Literal["lab", "hsv"]


def selective_search(image: Float[np.ndarray, "height width 3"], seed: int = 0) -> Int[np.ndarray, "box 4"]:
    """Object proposals, the most promising first.

    Args:
        image: the image ``(H, W, 3)`` in [0, 1].
        seed: seed of the ranking.

    Returns:
        ``(box, 4)`` left, top, right, bottom in pixels.
    """
    from skimage.color import rgb2hsv, rgb2lab
    from skimage.segmentation import felzenszwalb

    generator, proposals, ranks = np.random.default_rng(seed), [], []
    spaces = {"lab": (rgb2lab(image) + np.array([0, 128, 128])) / np.array([100, 255, 255]), "hsv": rgb2hsv(image)}
    for space, scale in product(SPACES, SCALES):
        segments = felzenszwalb(spaces[space], scale=scale, sigma=0.8, min_size=scale)
        for colour in (True, False):
            boxes = joined_boxes(spaces[space], segments, colour=colour)
            proposals.append(boxes)
            ranks.append(np.arange(1, len(boxes) + 1) * generator.random(len(boxes)))
    ordered = np.concatenate(proposals)[np.argsort(np.concatenate(ranks), kind="stable")]
    _, first = np.unique(ordered, axis=0, return_index=True)
    return ordered[np.sort(first)]


def joined_boxes(
    image: Float[np.ndarray, "height width 3"], segments: Int[np.ndarray, "height width"], *, colour: bool = True
) -> Int[np.ndarray, "box 4"]:
    """Boxes of all segments that arise when neighbours are merged, the last one (the whole image) first.

    Args:
        image: three channels in [0, 1].
        segments: segment of each pixel, from 0.
        colour: whether the similarity includes colours.
    """
    count, total = int(segments.max()) + 1, segments.size
    histograms = _histograms(image, segments, count)
    sizes = np.bincount(segments.ravel(), minlength=count).astype(float)
    boxes = np.array([(x.start, y.start, x.stop, y.stop) for y, x in ndimage.find_objects(segments + 1)])
    active = {number: (histograms[number], sizes[number], boxes[number]) for number in range(count)}
    similarity: dict[tuple[int, int], float] = {}

    def compare(pair: tuple[int, int]) -> None:
        (left, small, inner), (right, large, outer) = active[pair[0]], active[pair[1]]
        low, high = np.minimum(inner[:2], outer[:2]), np.maximum(inner[2:], outer[2:])
        both, shared = small + large, np.minimum(left, right)
        similarity[pair] = float(shared[0 if colour else 1 :].sum() + 2 - both / total - ((high - low).prod() - both) / total)

    for pair in _neighbours(segments):
        compare(pair)
    merged = list(boxes)
    while similarity:
        (first, second), fresh = max(similarity, key=similarity.__getitem__), len(merged)
        (left, small, inner), (right, large, outer) = active.pop(first), active.pop(second)
        box = np.concatenate([np.minimum(inner[:2], outer[:2]), np.maximum(inner[2:], outer[2:])])
        active[fresh] = ((left * small + right * large) / (small + large), small + large, box)
        merged.append(box)
        outdated = [pair for pair in similarity if first in pair or second in pair]
        for pair in outdated:
            del similarity[pair]
        for other in {number for pair in outdated for number in pair} - {first, second}:
            compare((other, fresh))
    return np.array(merged[::-1], dtype=np.int64)


def _neighbours(segments: Int[np.ndarray, "height width"]) -> list[tuple[int, int]]:
    """Pairs of adjacent segments, each once."""
    across = np.stack([segments[:, :-1].ravel(), segments[:, 1:].ravel()], 1)
    down = np.stack([segments[:-1].ravel(), segments[1:].ravel()], 1)
    pairs = np.concatenate([across, down])
    pairs = np.unique(np.sort(pairs[pairs[:, 0] != pairs[:, 1]], 1), axis=0)
    return [(int(left), int(right)) for left, right in pairs]


def _histograms(
    image: Float[np.ndarray, "height width 3"], segments: Int[np.ndarray, "height width"], count: int
) -> Float[np.ndarray, "piece kind bin"]:
    """Histograms of colours and of gradients per segment; the shorter one is padded with zeros."""
    channels = image.shape[2]
    histograms = np.zeros((count, 2, channels * DIRECTIONS * LEVELS))
    for channel in range(channels):
        values = image[..., channel]
        histograms[:, 0, channel * BINS : (channel + 1) * BINS] = _counts(values, segments, count, BINS)
        down, across = (
            np.asarray(ndimage.gaussian_filter1d(ndimage.gaussian_filter1d(values, 1.0, axis=1 - axis), 1.0, axis=axis, order=1))
            for axis in (0, 1)
        )
        for direction in range(DIRECTIONS):
            angle = 2 * np.pi * direction / DIRECTIONS
            gradient = np.maximum(np.cos(angle) * across + np.sin(angle) * down, 0)
            start = (channel * DIRECTIONS + direction) * LEVELS
            histograms[:, 1, start : start + LEVELS] = _counts(gradient / max(float(gradient.max()), 1e-9), segments, count, LEVELS)
    return histograms / histograms.sum(2, keepdims=True)


def _counts(values: Float[np.ndarray, "height width"], segments: Int[np.ndarray, "height width"], count: int, bins: int) -> np.ndarray:
    levels = (values * bins).astype(np.int64).clip(0, bins - 1)
    return np.bincount((segments * bins + levels).ravel(), minlength=count * bins).reshape(count, bins)
