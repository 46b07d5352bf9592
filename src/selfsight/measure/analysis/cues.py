"""Cues that a network uses: shape or texture, global or local statistics, and factors that nearest neighbours share.

*Cue conflict* (Geirhos et al. 2019, arXiv:1811.12231): objects with the shape of one class and the texture of another. With the predicted
class::

    shape bias = shape correct / (shape correct + texture correct)        coverage = (shape correct + texture correct) / images

Images whose two classes are the same do not count. Report the bias with its coverage: neither cue may be correct in most images.

*Global against local statistics* (Jenni et al. 2020, arXiv:2004.02331): the tiles of an image are permuted, which keeps patches and
changes the global layout. Seams are repaired with the image's own pixels: of all arrangements of the pixels next to the seams, the nearest
to a cross-fade is taken, ``minimise Σ |fade[p] - pixel[σ(p)]|²`` over permutations σ (Kuhn 1955). An image and its shuffled twin therefore
have the same colour histogram and cannot be distinguished by it. Originals are repaired at the same lines.

*Neighbours*: the fraction of a sample's nearest neighbours in feature space that have the same value of a factor, with the fraction among
all other samples as chance level.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from selfsight.bank.nearest import nearest
from selfsight.core.clock import key
from selfsight.core.errors import DataError, UsageError
from selfsight.data.worlds import outlines, textures
from selfsight.data.worlds.shapes import Preset, draw, paint, random_numbers
from selfsight.measure.analysis.equivariance import mean_score
from selfsight.measure.probes.linear import fit_probe, linear
from selfsight.measure.results import Features, Score, Scores, proportion

__all__ = [
    "CUES",
    "CueImages",
    "NeighbourAgreement",
    "ShapeBias",
    "averaged",
    "colour_histogram",
    "cue_conflict",
    "cue_images",
    "global_statistics",
    "neighbour_agreement",
    "same_colours",
    "shape_bias",
    "shuffled",
]  # fmt: skip

Encode = Callable[[Float[Tensor, "_ _ _ _"]], Float[Tensor, "_ _"]]
"""Function from images (N, 3, H, W) in [0, 1] to features (N, D)."""
Pixels = UInt8[np.ndarray, "_ 3 _ _"]
"""Images (N, 3, H, W), 0 to 255."""
Cues = Literal["agree", "conflict", "free"]

CUES = Preset(
    scale=(0.6, 0.8), turn=0.4, background_value=(0.45, 0.55), contrast=(0.12, 0.22), grain=(0.16, 0.2), background_grain=(0.0, 0.01), tint=0.0,
    relief=0.0, slope=(0.0, 0.1), tone=0.0,
)  # fmt: skip
"""Large grey objects with strong texture on plain backgrounds."""


@dataclass(frozen=True)
class CueImages:
    """Images of objects with a shape cue and a texture cue; class k has the k-th outline and the k-th texture.

    Attributes:
        images: (N, 3, H, W) in [0, 1].
        shape: class (N,) of the outline.
        texture: class (N,) of the texture.
    """

    images: Float[Tensor, "sample 3 height width"]
    shape: Int[np.ndarray, " sample"]
    texture: Int[np.ndarray, " sample"]


def cue_images(
    count: int,
    *,
    cues: Cues = "conflict",
    size: int = 32,
    classes: int = 10,
    seed: int = 0,
    split: str = "test",
    preset: Preset = CUES,
) -> CueImages:
    """Scenes of ``world:shapes`` whose object has an outline and a texture of the same class, of two classes, or of independent classes.

    Args:
        count: number of images.
        cues: whether the two cues agree, always conflict, or are independent (``free``).
        size: side in pixels.
        classes: number of classes, 2 to 10.
        seed: seed of all random numbers.
        split: train, test or val; they share no scene.
        preset: distribution of the scenes.

    Raises:
        UsageError: there are not so many classes.
    """
    if not 2 <= classes <= len(outlines.NAMES):
        raise UsageError(f"Cue images of {classes} classes are not possible.", f"Use 2 to {len(outlines.NAMES)} classes.")
    rows = np.arange(count)
    scenes = draw(preset, seed, split, rows)
    drawn = random_numbers(key(seed, len(split), 0xC0E), rows, 2)
    shape = (drawn[:, 0] * classes).astype(np.int64)
    other = (shape + 1 + (drawn[:, 1] * (classes - 1)).astype(np.int64)) % classes
    texture = {"agree": shape, "conflict": other, "free": (drawn[:, 1] * classes).astype(np.int64)}[cues]
    cue_scenes = replace(scenes, shape=torch.from_numpy(shape)[:, None], texture=torch.from_numpy(texture)[:, None])
    assert len(textures.NAMES) >= classes
    return CueImages(paint(preset, cue_scenes, size), shape, texture)


@dataclass(frozen=True)
class ShapeBias:
    """Shape bias and its coverage, over images whose cues differ.

    Attributes:
        bias: fraction of shape decisions, with an interval over the images in which either cue was correct.
        coverage: fraction of images in which the shape or the texture was correct.
        shape: fraction of images in which the shape was correct.
        texture: fraction of images in which the texture was correct.
        by_class: bias among the images of each shape; NaN where neither cue was correct.
    """

    bias: Score
    coverage: Score
    shape: float
    texture: float
    by_class: Float[np.ndarray, " class"]


def shape_bias(
    given: Int[np.ndarray, " sample"], shape: Int[np.ndarray, " sample"], texture: Int[np.ndarray, " sample"], seed: int = 0
) -> ShapeBias:
    """Shape bias of predicted classes and its coverage (Geirhos et al. 2019, section 2.3).

    Args:
        given: predicted class (N,) of each image.
        shape: class (N,) of the shape.
        texture: class (N,) of the texture.
        seed: seed of the bootstrap intervals.

    Raises:
        DataError: the cues differ in no image, or neither is correct in any.
    """
    differ = shape != texture
    if not differ.any():
        raise DataError("Shape and texture are of the same class in all images.", "Use images in which the cues conflict.")
    by_shape, by_texture = (given == shape)[differ], (given == texture)[differ]
    decided = by_shape | by_texture
    if not decided.any():
        raise DataError(f"Neither cue was correct in any of {len(decided)} images: there is no bias.", "Check the order of the classes.")
    masks_by_class = [(shape[differ] == mask) & decided for mask in range(int(max(shape.max(), texture.max())) + 1)]
    by_class = np.array([by_shape[mask].mean() if mask.any() else np.nan for mask in masks_by_class])
    return ShapeBias(
        proportion(by_shape[decided], seed), proportion(decided, seed), float(by_shape.mean()), float(by_texture.mean()), by_class
    )


def averaged(probabilities: Float[np.ndarray, "sample fine"], groups: Int[np.ndarray, " fine"]) -> Float[np.ndarray, "sample coarse"]:
    """Probabilities of coarse classes as means over their fine classes, as for 16 classes made of ImageNet's 1,000.

    Args:
        probabilities: (N, F) of the fine classes.
        groups: coarse class (F,) of each fine class; -1 for none.

    Returns:
        (N, C); rows need not sum to one.
    """
    return np.stack([probabilities[:, groups == group].mean(1) for group in range(groups.max() + 1)], 1)


def cue_conflict(encode: Encode, *, count: int = 2000, size: int = 32, classes: int = 10, seed: int = 0) -> Scores:
    """Shape bias of features, by a linear probe that is fitted to images whose cues agree.

    Args:
        encode: function from images to features.
        count: training images; half as many each test agreement and conflict.
        size: side in pixels.
        classes: number of classes, 2 to 10.
        seed: seed of all random numbers.
    """
    settings: list[tuple[int, Cues, str]] = [(count, "agree", "train"), (count // 2, "agree", "test"), (count // 2, "conflict", "test")]
    parts = [cue_images(number, cues=cues, size=size, classes=classes, seed=seed, split=split) for number, cues, split in settings]
    rows = [_encoded(encode, part.images) for part in parts]
    found = linear(Features(rows[0], rows[1], parts[0].shape, parts[1].shape), seed=seed)
    assert found.readout is not None
    weight, bias, mean, scale = (found.readout.arrays[name] for name in ("weight", "bias", "mean", "scale"))
    predicted = ((rows[2] - mean) / scale @ weight.T + bias).argmax(1)
    result = shape_bias(predicted, parts[2].shape, parts[2].texture, seed)
    protocol = f"shape bias on {count // 2} cue-conflict images, {classes} classes at {size} px; fitted to images whose cues agree: {found.protocol}"
    return Scores({"shape_bias": result.bias, "coverage": result.coverage, "agree": found.values["top1"]}, protocol)


@torch.no_grad()
def _encoded(encode: Encode, images: Tensor, batch: int = 256) -> Float[np.ndarray, "sample dim"]:
    return torch.cat([encode(part).float().cpu() for part in images.split(batch)]).numpy()


def shuffled(images: Pixels, *, tiles: int = 2, band: int = 2, seed: int = 0, move: bool = True) -> Pixels:
    """Permute the tiles of each image, with every tile moved, and repair the seams with the image's own pixels.

    Args:
        images: (N, 3, H, W), 0 to 255.
        tiles: tiles per side.
        band: pixels on either side of a seam that are rearranged to repair it; 0 leaves seams.
        seed: seed of the permutations.
        move: whether tiles are permuted; without it only the seams are repaired.

    Raises:
        UsageError: the tiles do not divide the image, or are thinner than two bands.
    """
    height, width = images.shape[2:]
    if tiles < 2 or height % tiles or width % tiles or min(height, width) < 2 * band * tiles:
        raise UsageError(
            f"Images of {height} x {width} px cannot be cut into {tiles} x {tiles} tiles with seams of {2 * band} px.",
            "Use a number of tiles that divides both sides, and a thinner band.",
        )
    generator, count = np.random.default_rng(key(seed, 0x711E)), tiles * tiles
    cut = images.reshape(len(images), 3, tiles, height // tiles, tiles, width // tiles).transpose(0, 2, 4, 1, 3, 5)
    cut = cut.reshape(len(images), count, 3, height // tiles, width // tiles)
    orders = np.stack([_derangement(generator, count) for _ in images]) if move else np.tile(np.arange(count), (len(images), 1))
    cut = np.take_along_axis(cut, orders[:, :, None, None, None], 1).reshape(len(images), tiles, tiles, 3, *cut.shape[3:])
    joined = cut.transpose(0, 3, 1, 4, 2, 5).reshape(images.shape)
    return np.stack([_repaired(image, tiles, band) for image in joined]) if band else joined


def _derangement(generator: np.random.Generator, count: int) -> Int[np.ndarray, " count"]:
    """A permutation without fixed points."""
    while ((order := generator.permutation(count)) == np.arange(count)).any():
        pass
    return order


def _repaired(image: UInt8[np.ndarray, "3 height width"], tiles: int, band: int) -> UInt8[np.ndarray, "3 height width"]:
    """Rearrange the pixels next to the seams to approximate a cross-fade with the mirror image across the seam."""
    fade, near_seam = image.astype(np.float64), np.zeros(image.shape[1:], dtype=bool)
    for axis in (1, 2):
        fade_lines, seam_lines = np.moveaxis(fade, axis, 0), np.moveaxis(near_seam, axis - 1, 0)  # views
        for seam in range(len(fade_lines) // tiles, len(fade_lines), len(fade_lines) // tiles):
            seam_lines[seam - band : seam + band] = True
            for step in range(band):
                weight, sides = (1 - step / band) / 2, (seam - 1 - step, seam + step)
                first, second = fade_lines[sides[0]].copy(), fade_lines[sides[1]].copy()
                fade_lines[sides[0]], fade_lines[sides[1]] = (1 - weight) * first + weight * second, (1 - weight) * second + weight * first
    faded, available = fade[:, near_seam].T, image[:, near_seam].T.astype(np.float64)
    costs = np.square(faded).sum(1)[:, None] + np.square(available).sum(1) - 2 * faded @ available.T
    _, chosen = linear_sum_assignment(costs)
    repaired = image.copy()
    repaired[:, near_seam] = image[:, near_seam][:, chosen]
    return repaired


def _colours(images: Pixels) -> Int[np.ndarray, "sample pixel"]:
    red, green, blue = images.reshape(len(images), 3, -1).astype(np.int64).transpose(1, 0, 2)
    return red << 16 | green << 8 | blue


def same_colours(left: Pixels, right: Pixels) -> Bool[np.ndarray, " sample"]:
    """Whether two images have the same colours (of 256³), each equally often.

    Args:
        left: images (N, 3, H, W), 0 to 255.
        right: images (N, 3, H, W), 0 to 255.

    Returns:
        Mask (N,).
    """
    return (np.sort(_colours(left), 1) == np.sort(_colours(right), 1)).all(1)


def colour_histogram(images: Pixels, bins: int = 8) -> Float[np.ndarray, "sample colour"]:
    """Colour histogram of each image.

    Args:
        images: (N, 3, H, W), 0 to 255.
        bins: bins per channel.

    Returns:
        (N, bins³); rows sum to one.
    """
    red, green, blue = images.reshape(len(images), 3, -1).astype(np.int64).transpose(1, 0, 2) * bins // 256
    codes = (red * bins + green) * bins + blue
    counts = np.stack([np.bincount(image_codes, minlength=bins**3) for image_codes in codes])
    return (counts / codes.shape[1]).astype(np.float32)


def global_statistics(encode: Encode, train: Pixels, test: Pixels, *, tiles: int = 2, band: int = 2, seed: int = 0) -> Scores:
    """Accuracy of linear probes that distinguish images from their shuffled twins, on features and on colour histograms (control).

    Args:
        encode: function from images to features.
        train: images (N, 3, H, W), 0 to 255, that probes are fitted to, each with its twin.
        test: images (M, 3, H, W) that probes are scored on.
        tiles: tiles per side.
        band: pixels on either side of a seam that are rearranged to repair it.
        seed: seed of the permutations.

    Raises:
        UsageError: the tiles do not divide the image, or are thinner than two bands.
    """
    pairs = [
        np.concatenate([shuffled(part, tiles=tiles, band=band, seed=seed + number, move=move) for move in (False, True)])
        for number, part in enumerate((train, test))
    ]
    labels = [np.repeat([0, 1], len(part)) for part in (train, test)]
    rows = [_encoded(encode, torch.from_numpy(part).float() / 255) for part in pairs]
    values = {"features": linear(Features(rows[0], rows[1], labels[0], labels[1]), seed=seed).values["top1"]}
    (train_histograms, test_histograms) = (colour_histogram(part) for part in pairs)
    distinct, inverse = np.unique(test_histograms, axis=0, return_inverse=True)  # equal histograms get equal predictions
    predicted = fit_probe(train_histograms, labels[0], 2, 1e-3)(distinct)[inverse.reshape(-1)]
    values["histogram"] = proportion(predicted == labels[1], seed)
    protocol = f"linear probes that distinguish images from the same with {tiles} x {tiles} tiles shuffled, seams of {2 * band} px repaired; chance 0.5"
    return Scores(values, protocol)


@dataclass(frozen=True)
class NeighbourAgreement:
    """Agreement of nearest neighbours in one factor.

    Attributes:
        value: fraction of neighbours with the same value.
        chance: the same fraction among all other samples.
    """

    value: Score
    chance: float


def neighbour_agreement(
    rows: Float[np.ndarray, "sample dim"],
    factors: Mapping[str, Shaped[np.ndarray, " sample"]],
    *,
    count: int = 10,
    bins: int = 8,
    seed: int = 0,
) -> dict[str, NeighbourAgreement]:
    """For each factor, the fraction of a sample's nearest neighbours (cosine similarity) that have the same value.

    Args:
        rows: features (N, D).
        factors: values (N,) by name of the factor; floats of more than 16 values are binned by quantiles.
        count: number of neighbours.
        bins: number of quantile bins.
        seed: seed of the bootstrap intervals.
    """
    _, near = nearest(rows, rows, count, exclude_self=True)
    shared = {}
    for name, values in factors.items():
        distinct, codes = np.unique(values.astype(str) if values.dtype == object else values, return_inverse=True)
        if values.dtype.kind == "f" and len(distinct) > 16:
            codes = np.searchsorted(np.quantile(values, np.arange(1, bins) / bins), values, side="right")
        sizes = np.bincount(codes.reshape(-1)).astype(float)
        chance = float((sizes * (sizes - 1)).sum() / (len(rows) * (len(rows) - 1)))
        shared[name] = NeighbourAgreement(mean_score((codes[near] == codes[:, None]).mean(1), seed), chance)
    return shared
