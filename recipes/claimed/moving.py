"""Claims on equivariance of features, and on equivalence of two networks."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from claimed.common import BLUE, RED, Claim, ClaimResult, curves, plain
from claimed.taught import STEPS, WIDTH, judge, scenes
from selfsight.backbones.image.hog import HOG
from selfsight.backbones.loading import untrained_twin
from selfsight.core.representation import Representation
from selfsight.measure.analysis.cues import cue_images
from selfsight.measure.analysis.equivalence import LabelledGrids, stitching
from selfsight.measure.analysis.equivariance import CompensationErrors, compensation_errors, equivariance, invariant_share
from selfsight.measure.analysis.transformations import flipped, rotated

MAP_STEPS = 300
ANGLES = (15, 30, 45, 60, 90)


def upside_down(_: Path) -> ClaimResult:
    """Compensation of a vertical flip at each layer."""
    train, test = scenes("train", 4000), scenes("test", 2000)
    told, change = judge(train), flipped(upright=True)
    bars = compensation_errors(told, train, test, change, steps=MAP_STEPS)
    asked = (change.apply(test[0]), test[1])
    table = {
        layer: {
            "positions moved, error in %": 100 * bars.by_position[layer].value,
            "trained map, error in %": 100 * bars.by_map[layer].value,
            "channels that need no filter, in %": 100 * invariant_share(told, layer, bars.maps[layer], asked),
        }
        for layer in bars.by_position
    }
    errors = [bars.by_map[layer].value for layer in bars.by_map]
    between = all(bars.original.value <= error < bars.changed.value for error in errors)
    whole = {"original": 100 * bars.original.value, "flipped": 100 * bars.changed.value}
    return ClaimResult(
        {"error on scenes, in %": whole, "compensated at": table}, between and errors[-1] > errors[0], partial(draw_bars, bars)
    )


def draw_bars(bars: CompensationErrors, axes: Any) -> None:
    layers = list(bars.by_position)
    for shift, values, words, colour in (
        (-0.2, bars.by_position, "positions moved back", BLUE),
        (0.2, bars.by_map, "map trained on the task", RED),
    ):
        heights = [100 * values[layer].value for layer in layers]
        shown = axes.bar(np.arange(len(layers)) + shift, heights, 0.38, label=words, color=colour)
        axes.bar_label(shown, fmt="%.1f", fontsize=8, padding=2)
    for score, words, style in ((bars.original, "original", ":"), (bars.changed, "flipped, not compensated", "--")):
        axes.axhline(100 * score.value, color="black", linestyle=style, linewidth=1, label=f"{words}: {100 * score.value:.1f}")
    _finish(axes, layers, "Vertically flipped scenes, compensated at a layer")


def _finish(axes: Any, layers: list[str], title: str) -> None:
    axes.set_xticks(range(len(layers)), layers)
    axes.set_ylabel("error (%)")
    axes.set_title(title, loc="left", fontsize=11)
    axes.legend(fontsize=9, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes.margins(y=0.12)
    plain(axes)


@dataclass(frozen=True)
class Stitches:
    """Errors in percent of stitched networks by case, kind of stitch and layer, and of the second network alone."""

    original: float
    by_case: dict[str, dict[str, dict[str, float]]]


BARS = ("before training", "naive", "learned")


def textured(split: str, count: int) -> LabelledGrids:
    """Objects with the texture as label and an independent shape."""
    made = cue_images(count, cues="free", split=split)
    return made.images, torch.from_numpy(made.texture)


def stitched_together(_: Path) -> ClaimResult:
    """The lower part of one network is stitched to the upper part of another, layer by layer (after Lenc & Vedaldi)."""
    train, test = scenes("train", 4000), scenes("test", 2000)
    told = judge(train)
    firsts = {
        "the same seed": judge(train).phi,
        "another seed": judge(train, seed=1).phi,
        "another seed, 1.5 times as wide": judge(train, seed=2, width=WIDTH * 3 // 2).phi,
        "other data and classes": judge(textured("train", 4000), seed=3).phi,
        "untrained": untrained_twin(told.phi, 4),
    }
    by_case: dict[str, dict[str, dict[str, float]]] = {}
    for case, first in firsts.items():
        by_case[case] = {bar: {} for bar in BARS}
        for layer in told.phi.layers:
            found = stitching(first, told, train, test, layer=layer, steps=MAP_STEPS)
            for bar, score in zip(BARS, (found.random, found.identity, found.trained), strict=True):
                by_case[case][bar][layer] = 100 * score.value
    found = Stitches(100 * told.error(*test).value, by_case)
    table = {f"{case}, {bar}": values for case, bars_of in by_case.items() for bar, values in bars_of.items()}
    measured = {"error of the second network alone, in %": found.original, "error when stitched after the layer, in %": table}
    return ClaimResult(measured, in_order(found), partial(draw_stitches, found))


def in_order(found: Stitches) -> bool:
    """Whether the errors have the expected order."""
    same, other, far = (found.by_case[case] for case in ("the same seed", "another seed", "other data and classes"))
    learned = list(other["learned"].values())
    apart = all(min(other[bar][layer] for bar in BARS[:2]) >= error + 30 for layer, error in other["learned"].items())
    alike = all(error == found.original for error in same["naive"].values())
    deeper = learned[0] <= found.original + 2 and learned[-1] > learned[0]
    return alike and apart and deeper and list(far["learned"].values())[-1] > learned[-1]


def draw_stitches(found: Stitches, axes: Any) -> None:
    left, right = axes
    layers = list(found.by_case["another seed"]["learned"])
    for shift, bar, colour in ((-0.27, BARS[0], "#bbbbbb"), (0.0, BARS[1], RED), (0.27, BARS[2], BLUE)):
        heights = [found.by_case["another seed"][bar][layer] for layer in layers]
        shown = left.bar(np.arange(len(layers)) + shift, heights, 0.25, label=bar, color=colour)
        left.bar_label(shown, fmt="%.0f", fontsize=8, padding=2)
    for case, bars_of in found.by_case.items():
        style = "--" if case in ("untrained", "the same seed") else "-"
        right.plot(layers, list(bars_of["learned"].values()), style, marker="o", label=case)
    for one, title in ((left, "Another seed, stitched after a layer"), (right, "Learned stitches")):
        one.axhline(found.original, color="black", linestyle=":", linewidth=1, label=f"not stitched: {found.original:.1f}")
        _finish(one, layers, title)
        one.set_ylim(0, 118)


def hog_turns(_: Path) -> ClaimResult:
    """Histograms of gradients are equivariant to rotation by a sparse linear map."""
    (train, _), (test, _) = (scenes(split, count, preset="coloured", size=64) for split, count in (("train", 2000), ("test", 500)))
    phi = Representation(HOG(size=64), mean=(0.0,) * 3, std=(1.0,) * 3, size=64)
    told: dict[str, dict[str, float]] = {}
    for angle in ANGLES:
        values = equivariance(phi, train, test, rotated(angle))["blocks"].values
        for name, score in values.items():
            told.setdefault(name, {})[f"{angle}°"] = score.value
    holds = told["sparse"]["45°"] <= told["identity"]["45°"] / 2
    lines = {name: list(values.items()) for name, values in told.items()}
    return ClaimResult({"relative error": told}, holds, partial(draw_turns, lines))


def draw_turns(lines: dict[str, list[tuple[Any, float]]], axes: Any) -> None:
    curves("HOG of rotated scenes, by maps of HOG", lines, "rotation", "relative error", frozenset({"constant"}))(axes)
    axes.set_ylim(bottom=0)


CLAIMS = {
    "v": Claim(
        "The effect of a vertical flip on a layer can be compensated by a learned map, better in the first layer than in the last",
        f"for a network trained on the shapes of 4,000 scenes ({STEPS} steps) the error on flipped scenes, compensated by a trained 3 x 3 map, is at "
        "every layer at least the error on the original scenes and below that on flipped ones, and higher at the last layer than at the first",
        upside_down,
    ),
    "w": Claim(
        "The lower part of one network fits the upper part of another after a learned 1 x 1 map, better in early layers",
        "errors of the upper part of a network on another's lower part: with the same seed the naive stitch (identity) has exactly the network's own "
        "error; with another seed the learned stitch is after the first layer within two points of it, after the last layer worse than after the "
        "first, and at every layer 30 points or more below the naive stitch and the untrained stitch; after the last layer a network that was "
        "trained on other classes of other images is worse than one with another seed",
        stitched_together,
        wide=2,
    ),
    "x": Claim(
        "Histograms of gradients are equivariant to a rotation by 45 degrees, by a sparse linear map",
        "on test scenes of 64 px the relative error of the sparse map (3 x 3 blocks around the position that a block comes from) is at most half of "
        "that of the identity",
        hog_turns,
    ),
}
