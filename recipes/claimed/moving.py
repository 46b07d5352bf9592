"""Claims on how features move with pictures, and on whether two networks say the same."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from claimed.common import BLUE, RED, Claim, Found, curves, plain
from claimed.taught import STEPS, WIDTH, judge, scenes
from selfsight.backbones.hog import HOG
from selfsight.backbones.loading import untrained_twin
from selfsight.core.representation import Representation
from selfsight.measure.cues import cue_pictures
from selfsight.measure.equivalence import Labelled, stitching
from selfsight.measure.equivariance import Bars, equivariance, flipped, four_bars, invariant_share, rotated

MAP_STEPS = 300
ANGLES = (15, 30, 45, 60, 90)


def upside_down(_: Path) -> Found:
    """What a vertical flip does to a layer can be undone in that layer."""
    train, test = scenes("train", 4000), scenes("test", 2000)
    told, change = judge(train), flipped(upright=True)
    bars = four_bars(told, train, test, change, steps=MAP_STEPS)
    asked = (change.pictures(test[0]), test[1])
    table = {
        layer: {
            "places moved, error in %": 100 * bars.moved[layer].value,
            "taught, error in %": 100 * bars.taught[layer].value,
            "channels that need no filter, in %": 100 * invariant_share(told, layer, bars.maps[layer], asked),
        }
        for layer in bars.moved
    }
    errors = [bars.taught[layer].value for layer in bars.taught]
    between = all(bars.original.value <= error < bars.changed.value for error in errors)
    whole = {"as they are": 100 * bars.original.value, "flipped": 100 * bars.changed.value}
    return Found({"error on scenes, in %": whole, "compensated at": table}, between and errors[-1] > errors[0], partial(draw_bars, bars))


def draw_bars(bars: Bars, axes: Any) -> None:
    layers = list(bars.moved)
    for shift, values, words, colour in ((-0.2, bars.moved, "places moved back", BLUE), (0.2, bars.taught, "map taught by the task", RED)):
        heights = [100 * values[layer].value for layer in layers]
        shown = axes.bar(np.arange(len(layers)) + shift, heights, 0.38, label=words, color=colour)
        axes.bar_label(shown, fmt="%.1f", fontsize=8, padding=2)
    for score, words, style in ((bars.original, "as they are", ":"), (bars.changed, "flipped, not compensated", "--")):
        axes.axhline(100 * score.value, color="black", linestyle=style, linewidth=1, label=f"{words}: {100 * score.value:.1f}")
    _finish(axes, layers, "Scenes upside down, compensated at a layer")


def _finish(axes: Any, layers: list[str], title: str) -> None:
    axes.set_xticks(range(len(layers)), layers)
    axes.set_ylabel("error (%)")
    axes.set_title(title, loc="left", fontsize=11)
    axes.legend(fontsize=9, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes.margins(y=0.12)
    plain(axes)


@dataclass(frozen=True)
class Sewn:
    """Errors by layer, in percent, of networks that were sewn to another, and that of the other itself."""

    original: float
    by_name: dict[str, dict[str, float]]


def textured(split: str, count: int) -> Labelled:
    """Objects whose texture is told, their shape anything."""
    made = cue_pictures(count, cues="free", split=split)
    return made.images, torch.from_numpy(made.texture)


def sewn_together(_: Path) -> Found:
    """The first part of one network goes with the rest of another, the better the earlier they are sewn."""
    train, test = scenes("train", 4000), scenes("test", 2000)
    told = judge(train)
    firsts = {
        "another seed": judge(train, seed=1).phi,
        "half as wide again": judge(train, seed=2, width=WIDTH * 3 // 2).phi,
        "told textures": judge(textured("train", 4000), seed=3).phi,
        "untrained": untrained_twin(told.phi, 4),
    }
    by_name: dict[str, dict[str, float]] = {}
    for name, first in firsts.items():
        for layer in told.phi.layers:
            found = stitching(first, told, train, test, layer=layer, steps=MAP_STEPS)
            by_name.setdefault(f"{name}, taught", {})[layer] = 100 * found.taught.value
            if name == "another seed":
                by_name.setdefault(f"{name}, identity", {})[layer] = 100 * found.identity.value
                by_name.setdefault(f"{name}, before it was taught", {})[layer] = 100 * found.drawn.value
    sewn = Sewn(100 * told.error(*test).value, by_name)
    seeds, naive = list(by_name["another seed, taught"].values()), list(by_name["another seed, identity"].values())
    apart = all(worse >= taught + 30 for worse, taught in zip(naive, seeds, strict=True))
    holds = seeds[0] <= sewn.original + 2 and seeds[-1] > seeds[0] and apart
    return Found({"error of the original, in %": sewn.original, "error when sewn after, in %": by_name}, holds, partial(draw_sewn, sewn))


def draw_sewn(sewn: Sewn, axes: Any) -> None:
    for name, values in sewn.by_name.items():
        style = "-" if name.endswith(", taught") else "--"
        axes.plot(list(values), list(values.values()), style, marker="o", label=name.removesuffix(", taught"))
    axes.axhline(sewn.original, color="black", linestyle=":", linewidth=1, label=f"the original: {sewn.original:.1f}")
    _finish(axes, list(next(iter(sewn.by_name.values()))), "First part of another network, rest of one")
    axes.set_xlabel("sewn after")
    axes.set_ylim(0, 105)


def hog_turns(_: Path) -> Found:
    """Histograms of gradients follow a turn of the picture by a sparse linear map."""
    (train, _), (test, _) = (scenes(split, count, preset="coloured", size=64) for split, count in (("train", 2000), ("test", 500)))
    phi = Representation(HOG(size=64), mean=(0.0,) * 3, std=(1.0,) * 3, size=64)
    told: dict[str, dict[str, float]] = {}
    for angle in ANGLES:
        values = equivariance(phi, train, test, rotated(angle))["blocks"].values
        for name, score in values.items():
            told.setdefault(name, {})[f"{angle}°"] = score.value
    holds = told["sparse"]["45°"] <= told["identity"]["45°"] / 2
    lines = {name: list(values.items()) for name, values in told.items()}
    return Found({"relative error": told}, holds, partial(draw_turns, lines))


def draw_turns(lines: dict[str, list[tuple[Any, float]]], axes: Any) -> None:
    curves("HOG of turned scenes, by maps of HOG", lines, "turn", "relative error", frozenset({"constant"}))(axes)
    axes.set_ylim(bottom=0)


CLAIMS = {
    "v": Claim(
        "What a flip does to a layer can be undone in that layer, less well the later it is",
        f"of a network that was taught shapes of 4,000 scenes ({STEPS} steps) the error on scenes upside down, compensated by a taught 3 x 3 map, "
        "is at every layer at least the error on scenes as they are and below that on flipped ones, and higher at the last layer than at the "
        "first",
        upside_down,
    ),
    "w": Claim(
        "Networks of two seeds say the same in other words, the more so the earlier the layer",
        "the rest of a network on the first part of another seed's, sewn by a taught 1 x 1 map, is after the first layer within two points "
        "of the original's error, and after the last one worse than after the first; at every layer the identity is worse by 30 points or more",
        sewn_together,
    ),
    "x": Claim(
        "Histograms of gradients follow a turn by 45 degrees, by a sparse linear map",
        "on unseen scenes of 64 px the relative error of the sparse map (3 x 3 blocks around where a block comes from) is at most half of the "
        "identity's",
        hog_turns,
    ),
}
