"""Selective search: boxes that may hold an object, from colours alone (Uijlings et al. 2013, IJCV 104).

A picture is cut into small even pieces (Felzenszwalb & Huttenlocher 2004, IJCV 59). The two neighbours that are most alike are joined, again
and again, until one piece is left; the box around every piece that there ever was is a proposal. Of pieces a and b of n pixels in all::

    s = [Σ min(c_a, c_b)] + Σ min(t_a, t_b) + 1 - (|a| + |b|) / n + 1 - (|box(a, b)| - |a| - |b|) / n

with histograms c of colours (25 bins a channel) and t of gradients (10 bins of each of 8 directions a channel) that sum to one, weighted by
size when pieces are joined. This is the "fast" form: two spaces of colour, two scales of pieces, with and without c. A box's rank is its
place in the hierarchy (the whole picture is 1) times a uniform number; of equal boxes the first stays.
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


def selective_search(picture: Float[np.ndarray, "height width 3"], seed: int = 0) -> Int[np.ndarray, "box 4"]:
    """Left, top, right and bottom of boxes, the most promising first; a picture in [0, 1]."""
    from skimage.color import rgb2hsv, rgb2lab
    from skimage.segmentation import felzenszwalb

    dice, found, ranks = np.random.default_rng(seed), [], []
    given = {"lab": (rgb2lab(picture) + np.array([0, 128, 128])) / np.array([100, 255, 255]), "hsv": rgb2hsv(picture)}
    for space, scale in product(SPACES, SCALES):
        pieces = felzenszwalb(given[space], scale=scale, sigma=0.8, min_size=scale)
        for colour in (True, False):
            boxes = joined_boxes(given[space], pieces, colour=colour)
            found.append(boxes)
            ranks.append(np.arange(1, len(boxes) + 1) * dice.random(len(boxes)))
    every = np.concatenate(found)[np.argsort(np.concatenate(ranks), kind="stable")]
    _, first = np.unique(every, axis=0, return_index=True)
    return every[np.sort(first)]


def joined_boxes(
    picture: Float[np.ndarray, "height width 3"], pieces: Int[np.ndarray, "height width"], *, colour: bool = True
) -> Int[np.ndarray, "box 4"]:
    """Boxes of all pieces that arise when neighbours are joined, the last (around the whole picture) first.

    Args:
        picture: three channels in [0, 1].
        pieces: numbers from 0.
        colour: whether likeness of colours counts.
    """
    count, total = int(pieces.max()) + 1, pieces.size
    histograms = _histograms(picture, pieces, count)
    sizes = np.bincount(pieces.ravel(), minlength=count).astype(float)
    boxes = np.array([(x.start, y.start, x.stop, y.stop) for y, x in ndimage.find_objects(pieces + 1)])
    alive = {number: (histograms[number], sizes[number], boxes[number]) for number in range(count)}
    alike: dict[tuple[int, int], float] = {}

    def weigh(pair: tuple[int, int]) -> None:
        (left, small, inner), (right, large, outer) = alive[pair[0]], alive[pair[1]]
        low, high = np.minimum(inner[:2], outer[:2]), np.maximum(inner[2:], outer[2:])
        both, shared = small + large, np.minimum(left, right)
        alike[pair] = float(shared[0 if colour else 1 :].sum() + 2 - both / total - ((high - low).prod() - both) / total)

    for pair in _neighbours(pieces):
        weigh(pair)
    made = list(boxes)
    while alike:
        (first, second), fresh = max(alike, key=alike.__getitem__), len(made)
        (left, small, inner), (right, large, outer) = alive.pop(first), alive.pop(second)
        box = np.concatenate([np.minimum(inner[:2], outer[:2]), np.maximum(inner[2:], outer[2:])])
        alive[fresh] = ((left * small + right * large) / (small + large), small + large, box)
        made.append(box)
        gone = [pair for pair in alike if first in pair or second in pair]
        for pair in gone:
            del alike[pair]
        for other in {number for pair in gone for number in pair} - {first, second}:
            weigh((other, fresh))
    return np.array(made[::-1], dtype=np.int64)


def _neighbours(pieces: Int[np.ndarray, "height width"]) -> list[tuple[int, int]]:
    """Pairs of pieces that touch, each once."""
    across = np.stack([pieces[:, :-1].ravel(), pieces[:, 1:].ravel()], 1)
    down = np.stack([pieces[:-1].ravel(), pieces[1:].ravel()], 1)
    pairs = np.concatenate([across, down])
    pairs = np.unique(np.sort(pairs[pairs[:, 0] != pairs[:, 1]], 1), axis=0)
    return [(int(left), int(right)) for left, right in pairs]


def _histograms(
    picture: Float[np.ndarray, "height width 3"], pieces: Int[np.ndarray, "height width"], count: int
) -> Float[np.ndarray, "piece kind bin"]:
    """Of colours, and of gradients; the rest of the shorter one is 0."""
    channels = picture.shape[2]
    found = np.zeros((count, 2, channels * DIRECTIONS * LEVELS))
    for channel in range(channels):
        values = picture[..., channel]
        found[:, 0, channel * BINS : (channel + 1) * BINS] = _counts(values, pieces, count, BINS)
        down, across = (
            np.asarray(ndimage.gaussian_filter1d(ndimage.gaussian_filter1d(values, 1.0, axis=1 - axis), 1.0, axis=axis, order=1))
            for axis in (0, 1)
        )
        for direction in range(DIRECTIONS):
            angle = 2 * np.pi * direction / DIRECTIONS
            slope = np.maximum(np.cos(angle) * across + np.sin(angle) * down, 0)
            at = (channel * DIRECTIONS + direction) * LEVELS
            found[:, 1, at : at + LEVELS] = _counts(slope / max(float(slope.max()), 1e-9), pieces, count, LEVELS)
    return found / found.sum(2, keepdims=True)


def _counts(values: Float[np.ndarray, "height width"], pieces: Int[np.ndarray, "height width"], count: int, bins: int) -> np.ndarray:
    levels = (values * bins).astype(np.int64).clip(0, bins - 1)
    return np.bincount((pieces * bins + levels).ravel(), minlength=count * bins).reshape(count, bins)
