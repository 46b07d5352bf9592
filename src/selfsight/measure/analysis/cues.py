"""What a network goes by: shape or texture, what is where or only what is there, and what neighbours share.

*Cue conflict* (Geirhos et al. 2019, arXiv:1811.12231): objects with the shape of one class and the texture of another, and of the classes
that are given::

    shape bias = shape right / (shape right + texture right)        coverage = (shape right + texture right) / pictures

Pictures whose two classes are the same do not count. A bias without its coverage says little: of most pictures neither may be right.

*Local against global statistics* (Jenni et al. 2020, arXiv:2004.02331): tiles of a picture change places, so that patches stay what they
are and the whole does not. Seams are repaired by pixels of their own: of all ways to arrange the pixels beside the seams, the one nearest
to a cross-fade, ``minimise Σ |fade[p] - pixel[σ(p)]|²`` over permutations σ (Kuhn 1955). So a picture and its shuffled twin have the same
colours, each as often, and no function of the histogram tells them apart. The originals are repaired at the same lines.

*Neighbours*: of the nearest neighbours of a sample by its features, the share that has the same value of a factor, beside the share among
all others (chance).
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
from selfsight.data.worlds.shapes import Preset, chances, draw, paint
from selfsight.measure.analysis.equivariance import mean_score
from selfsight.measure.probes.linear import fit_probe, linear
from selfsight.measure.results import Features, Score, Scores, proportion

__all__ = [
    "CUES",
    "CuePictures",
    "ShapeBias",
    "Shared",
    "averaged",
    "colour_histogram",
    "cue_conflict",
    "cue_pictures",
    "global_statistics",
    "neighbours_share",
    "same_colours",
    "shape_bias",
    "shuffled",
]  # fmt: skip

Encode = Callable[[Float[Tensor, "_ _ _ _"]], Float[Tensor, "_ _"]]
"""From pictures in [0, 1] to features."""
Pixels = UInt8[np.ndarray, "_ 3 _ _"]
"""Pictures, 0 to 255."""
Cues = Literal["agree", "conflict", "free"]

CUES = Preset(
    scale=(0.6, 0.8), turn=0.4, ground=(0.45, 0.55), contrast=(0.12, 0.22), grain=(0.16, 0.2), ground_grain=(0.0, 0.01), tint=0.0,
    relief=0.0, slope=(0.0, 0.1), tone=0.0,
)  # fmt: skip
"""Large grey objects of strong texture on plain grounds."""


@dataclass(frozen=True)
class CuePictures:
    """Objects of two cues; class k has the k-th outline and the k-th texture."""

    images: Float[Tensor, "sample 3 height width"]
    shape: Int[np.ndarray, " sample"]
    texture: Int[np.ndarray, " sample"]


def cue_pictures(
    count: int,
    *,
    cues: Cues = "conflict",
    size: int = 32,
    classes: int = 10,
    seed: int = 0,
    split: str = "test",
    preset: Preset = CUES,
) -> CuePictures:
    """Scenes of ``world:shapes`` whose object has an outline and a texture of the same class, of two classes, or drawn apart.

    Args:
        count: pictures.
        cues: whether the two agree, never do, or know nothing of each other.
        size: side in pixels.
        classes: how many, ten at most.
        seed: of all chance.
        split: train, test or val; they share no scene.
        preset: how scenes are made.

    Raises:
        UsageError: there are not so many classes.
    """
    if not 2 <= classes <= len(outlines.NAMES):
        raise UsageError(f"{classes} classes cannot be made.", f"Give 2 to {len(outlines.NAMES)}.")
    rows = np.arange(count)
    scenes = draw(preset, seed, split, rows)
    drawn = chances(key(seed, len(split), 0xC0E), rows, 2)
    shape = (drawn[:, 0] * classes).astype(np.int64)
    other = (shape + 1 + (drawn[:, 1] * (classes - 1)).astype(np.int64)) % classes
    texture = {"agree": shape, "conflict": other, "free": (drawn[:, 1] * classes).astype(np.int64)}[cues]
    made = replace(scenes, shape=torch.from_numpy(shape)[:, None], texture=torch.from_numpy(texture)[:, None])
    assert len(textures.NAMES) >= classes
    return CuePictures(paint(preset, made, size), shape, texture)


@dataclass(frozen=True)
class ShapeBias:
    """How often the shape was right among pictures of which one cue was, and of how many one was.

    Attributes:
        bias: see above, with its interval over the pictures that count.
        coverage: share of pictures of which the shape or the texture was right.
        shape, texture: share of pictures of which each was.
        by_class: bias among pictures of each shape; not a number where nothing was right.
    """

    bias: Score
    coverage: Score
    shape: float
    texture: float
    by_class: Float[np.ndarray, " class"]


def shape_bias(
    given: Int[np.ndarray, " sample"], shape: Int[np.ndarray, " sample"], texture: Int[np.ndarray, " sample"], seed: int = 0
) -> ShapeBias:
    """The bias of the classes that were given, and its coverage (Geirhos et al. 2019, section 2.3).

    Raises:
        DataError: in no picture do the cues differ, or in none was either right.
    """
    differ = shape != texture
    if not differ.any():
        raise DataError("Shape and texture are of the same class in all pictures.", "Give pictures in which the cues conflict.")
    by_shape, by_texture = (given == shape)[differ], (given == texture)[differ]
    decided = by_shape | by_texture
    if not decided.any():
        raise DataError(f"Neither cue was right in any of {len(decided)} pictures: there is no bias.", "Check the order of the classes.")
    kinds = [(shape[differ] == kind) & decided for kind in range(int(max(shape.max(), texture.max())) + 1)]
    each = np.array([by_shape[kind].mean() if kind.any() else np.nan for kind in kinds])
    return ShapeBias(proportion(by_shape[decided], seed), proportion(decided, seed), float(by_shape.mean()), float(by_texture.mean()), each)


def averaged(probabilities: Float[np.ndarray, "sample fine"], groups: Int[np.ndarray, " fine"]) -> Float[np.ndarray, "sample coarse"]:
    """Probabilities of coarse classes as means over their fine ones, as for 16 classes of ImageNet's 1,000; -1: of none."""
    return np.stack([probabilities[:, groups == group].mean(1) for group in range(groups.max() + 1)], 1)


def cue_conflict(encode: Encode, *, count: int = 2000, size: int = 32, classes: int = 10, seed: int = 0) -> Scores:
    """The shape bias of features: of a linear probe that was fitted to objects whose cues agree.

    Args:
        encode: from pictures to features.
        count: pictures to fit it; half as many to judge it where cues agree, and where they conflict.
        size: side in pixels.
        classes: how many, ten at most.
        seed: of all chance.
    """
    asked: list[tuple[int, Cues, str]] = [(count, "agree", "train"), (count // 2, "agree", "test"), (count // 2, "conflict", "test")]
    parts = [cue_pictures(number, cues=cues, size=size, classes=classes, seed=seed, split=split) for number, cues, split in asked]
    rows = [_encoded(encode, part.images) for part in parts]
    found = linear(Features(rows[0], rows[1], parts[0].shape, parts[1].shape), seed=seed)
    assert found.readout is not None
    weight, bias, mean, scale = (found.readout.arrays[name] for name in ("weight", "bias", "mean", "scale"))
    given = ((rows[2] - mean) / scale @ weight.T + bias).argmax(1)
    told = shape_bias(given, parts[2].shape, parts[2].texture, seed)
    words = (
        f"shape bias on {count // 2} pictures of conflict, {classes} classes at {size} px; fitted where the cues agree: {found.protocol}"
    )
    return Scores({"shape_bias": told.bias, "coverage": told.coverage, "agree": found.values["top1"]}, words)


@torch.no_grad()
def _encoded(encode: Encode, images: Tensor, batch: int = 256) -> Float[np.ndarray, "sample dim"]:
    return torch.cat([encode(part).float().cpu() for part in images.split(batch)]).numpy()


def shuffled(images: Pixels, *, tiles: int = 2, band: int = 2, seed: int = 0, move: bool = True) -> Pixels:
    """Each picture with its tiles in another order, no tile where it was, and its seams repaired by pixels of their own.

    Args:
        images: 0 to 255.
        tiles: a side.
        band: pixels to either side of a seam that repairs it.
        seed: of the orders.
        move: whether tiles change places; without it the same lines are repaired.

    Raises:
        UsageError: tiles do not divide the pictures, or are thinner than two bands.
    """
    height, width = images.shape[2:]
    if tiles < 2 or height % tiles or width % tiles or min(height, width) < 2 * band * tiles:
        raise UsageError(
            f"Pictures of {height} x {width} px do not make {tiles} x {tiles} tiles with seams of {2 * band} px.",
            "Give a number of tiles that divides both sides, and a thinner band.",
        )
    dice, count = np.random.default_rng(key(seed, 0x711E)), tiles * tiles
    cut = images.reshape(len(images), 3, tiles, height // tiles, tiles, width // tiles).transpose(0, 2, 4, 1, 3, 5)
    cut = cut.reshape(len(images), count, 3, height // tiles, width // tiles)
    orders = np.stack([_elsewhere(dice, count) for _ in images]) if move else np.tile(np.arange(count), (len(images), 1))
    cut = np.take_along_axis(cut, orders[:, :, None, None, None], 1).reshape(len(images), tiles, tiles, 3, *cut.shape[3:])
    made = cut.transpose(0, 3, 1, 4, 2, 5).reshape(images.shape)
    return np.stack([_repaired(one, tiles, band) for one in made]) if band else made


def _elsewhere(dice: np.random.Generator, count: int) -> Int[np.ndarray, " count"]:
    """An order in which nothing is where it was."""
    while ((order := dice.permutation(count)) == np.arange(count)).any():
        pass
    return order


def _repaired(image: UInt8[np.ndarray, "3 height width"], tiles: int, band: int) -> UInt8[np.ndarray, "3 height width"]:
    """The pixels beside the seams, arranged so that they come nearest to a cross-fade with what is mirrored in the seam."""
    fade, beside = image.astype(np.float64), np.zeros(image.shape[1:], dtype=bool)
    for axis in (1, 2):
        whole, near = np.moveaxis(fade, axis, 0), np.moveaxis(beside, axis - 1, 0)  # views
        for seam in range(len(whole) // tiles, len(whole), len(whole) // tiles):
            near[seam - band : seam + band] = True
            for step in range(band):
                weight, sides = (1 - step / band) / 2, (seam - 1 - step, seam + step)
                first, second = whole[sides[0]].copy(), whole[sides[1]].copy()
                whole[sides[0]], whole[sides[1]] = (1 - weight) * first + weight * second, (1 - weight) * second + weight * first
    wanted, own = fade[:, beside].T, image[:, beside].T.astype(np.float64)
    gaps = np.square(wanted).sum(1)[:, None] + np.square(own).sum(1) - 2 * wanted @ own.T
    _, chosen = linear_sum_assignment(gaps)
    made = image.copy()
    made[:, beside] = image[:, beside][:, chosen]
    return made


def _colours(images: Pixels) -> Int[np.ndarray, "sample pixel"]:
    red, green, blue = images.reshape(len(images), 3, -1).astype(np.int64).transpose(1, 0, 2)
    return red << 16 | green << 8 | blue


def same_colours(left: Pixels, right: Pixels) -> Bool[np.ndarray, " sample"]:
    """Whether each picture has the colours of the other, of 256³, each as often."""
    return (np.sort(_colours(left), 1) == np.sort(_colours(right), 1)).all(1)


def colour_histogram(images: Pixels, bins: int = 8) -> Float[np.ndarray, "sample colour"]:
    """The share of pixels of each of bins³ colours."""
    red, green, blue = images.reshape(len(images), 3, -1).astype(np.int64).transpose(1, 0, 2) * bins // 256
    codes = (red * bins + green) * bins + blue
    counts = np.stack([np.bincount(one, minlength=bins**3) for one in codes])
    return (counts / codes.shape[1]).astype(np.float32)


def global_statistics(encode: Encode, train: Pixels, test: Pixels, *, tiles: int = 2, band: int = 2, seed: int = 0) -> Scores:
    """Whether a linear probe on features tells pictures from their shuffled twins, and one on colour histograms, which cannot.

    Args:
        encode: from pictures to features.
        train: pictures that probes are fitted to, each with its twin.
        test: others.
        tiles: a side.
        band: pixels to either side of a seam that repairs it.
        seed: of the orders.
    """
    pairs = [
        np.concatenate([shuffled(part, tiles=tiles, band=band, seed=seed + number, move=move) for move in (False, True)])
        for number, part in enumerate((train, test))
    ]
    labels = [np.repeat([0, 1], len(part)) for part in (train, test)]
    rows = [_encoded(encode, torch.from_numpy(part).float() / 255) for part in pairs]
    values = {"features": linear(Features(rows[0], rows[1], labels[0], labels[1]), seed=seed).values["top1"]}
    (fitted, judged) = (colour_histogram(part) for part in pairs)
    kinds, places = np.unique(judged, axis=0, return_inverse=True)  # the same histogram is asked once and has one answer
    given = fit_probe(fitted, labels[0], 2, 1e-3)(kinds)[places.reshape(-1)]
    values["histogram"] = proportion(given == labels[1], seed)
    words = f"linear probes of pictures against the same with {tiles} x {tiles} tiles shuffled, seams of {2 * band} px repaired; chance 0.5"
    return Scores(values, words)


@dataclass(frozen=True)
class Shared:
    """The share of neighbours that have the same value, and that of all other samples."""

    value: Score
    chance: float


def neighbours_share(
    rows: Float[np.ndarray, "sample dim"],
    factors: Mapping[str, Shaped[np.ndarray, " sample"]],
    *,
    count: int = 10,
    bins: int = 8,
    seed: int = 0,
) -> dict[str, Shared]:
    """What the nearest neighbours of a sample, by cosine, have in common with it, factor by factor.

    Args:
        rows: features.
        factors: one value a sample; numbers of more than 16 values are cut into bins of the same size.
        count: neighbours.
        bins: how many.
        seed: of the intervals.
    """
    _, near = nearest(rows, rows, count, exclude_self=True)
    told = {}
    for name, values in factors.items():
        kinds, codes = np.unique(values.astype(str) if values.dtype == object else values, return_inverse=True)
        if values.dtype.kind == "f" and len(kinds) > 16:
            codes = np.searchsorted(np.quantile(values, np.arange(1, bins) / bins), values, side="right")
        sizes = np.bincount(codes.reshape(-1)).astype(float)
        chance = float((sizes * (sizes - 1)).sum() / (len(rows) * (len(rows) - 1)))
        told[name] = Shared(mean_score((codes[near] == codes[:, None]).mean(1), seed), chance)
    return told
