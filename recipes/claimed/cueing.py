"""Claims on the cues that networks use."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from claimed.common import BLUE, RED, Claim, ClaimResult, bars, plain
from claimed.taught import judge
from selfsight.backbones.loading import untrained_twin
from selfsight.measure.analysis.cues import CueImages, ShapeBias, cue_images, global_statistics, neighbour_agreement, shape_bias, shuffled

PAIRS = (800, 400)


def cues_of_networks(_: Path) -> ClaimResult:
    """Networks use the cue of their labels, and colour histograms cannot detect shuffled tiles."""
    free, agree = (cue_images(4000, cues=cues, split="train") for cues in ("free", "agree"))
    asked = cue_images(2000, cues="conflict")
    told = {
        "shape labels": judge((free.images, torch.from_numpy(free.shape))),
        "texture labels": judge((free.images, torch.from_numpy(free.texture))),
        "both, which agree": judge((agree.images, torch.from_numpy(agree.shape))),
    }
    biases = {name: _bias(each, asked) for name, each in told.items()}
    phis = {name: each.phi for name, each in told.items()} | {"untrained": untrained_twin(told["shape labels"].phi, 5)}
    train, test = (_bytes(cue_images(count, cues="free", split=split)) for count, split in zip(PAIRS, ("train", "test"), strict=True))
    whole, histogram = {}, 0.0
    for name, phi in phis.items():
        values = global_statistics(phi.pooled, train, test).values
        whole[name], histogram = 100 * values["features"].value, values["histogram"].value
    factors = {"shape": asked.shape, "texture": asked.texture}
    near: dict[str, dict[str, float]] = {}
    for name, phi in phis.items():
        with torch.no_grad():
            rows = phi.pooled(asked.images).numpy()
        found = neighbour_agreement(rows, factors)
        near[name] = {factor: 100 * each.value.value for factor, each in found.items()}
        near["chance"] = {factor: 100 * each.chance for factor, each in found.items()}
    shown = {name: {"shape bias": one.bias.value, "coverage": one.coverage.value} for name, one in biases.items()}
    enough = all(biases[name].coverage.value >= 0.5 for name in ("shape labels", "texture labels"))
    holds = shown["texture labels"]["shape bias"] < 0.3 and shown["shape labels"]["shape bias"] > 0.7 and enough and histogram == 0.5
    measured = {
        "cue conflict": shown,
        "shuffled images detected by a linear probe, in %": whole | {"colour histogram": 100 * histogram},
        "ten nearest neighbours with the same, in %": near,
    }
    return ClaimResult(measured, holds, partial(draw_cues, biases, whole | {"colour histogram": 100 * histogram}), tall=1.15)


def _bias(told: Any, asked: CueImages) -> ShapeBias:
    with torch.no_grad():
        given = told.logits(asked.images).argmax(1).numpy()
    return shape_bias(given, asked.shape, asked.texture)


def _bytes(pictures: CueImages) -> np.ndarray:
    return (pictures.images * 255).round().to(torch.uint8).numpy()


def draw_cues(biases: dict[str, ShapeBias], whole: dict[str, float], axes: Any) -> None:
    examples, left, right = axes
    agree, conflict = (_bytes(cue_images(4, cues=cues, size=64)) for cues in ("agree", "conflict"))
    rows = {"agree": agree, "conflict": conflict, "seams repaired": shuffled(conflict, move=False), "shuffled": shuffled(conflict)}
    examples.imshow(np.concatenate([np.concatenate(list(row), 2) for row in rows.values()], 1).transpose(1, 2, 0))
    examples.set_yticks([64 * place + 32 for place in range(len(rows))], list(rows), fontsize=9)
    examples.set_xticks([])
    examples.tick_params(length=0)
    examples.spines[:].set_visible(False)
    examples.set_title("Images", loc="left", fontsize=11)
    for place, (_, one) in enumerate(biases.items()):
        for shift, score, colour in ((0.2, one.bias, BLUE), (-0.2, one.coverage, "#bbbbbb")):
            left.barh(place + shift, score.value, 0.38, color=colour)
            left.annotate(f"{score.value:.2f}", (score.value, place + shift), (3, 0), textcoords="offset points", va="center", fontsize=9)
    left.set_yticks(range(len(biases)), [name.replace(", ", ",\n") for name in biases])
    left.invert_yaxis()
    left.set_xlim(0, 1.15)
    left.set_title("Shape bias (blue) and coverage (grey)", loc="left", fontsize=11)
    plain(left)
    bars(
        "Shuffled images detected (chance 50)",
        {name.replace(", ", ",\n"): value for name, value in whole.items()},
        {"colour histogram"},
        "%",
    )(right)
    right.axvline(50, color=RED, linestyle=":", linewidth=1)


CLAIMS = {
    "y": Claim(
        "Networks use the cue that their labels describe, and colour histograms cannot distinguish an image from its shuffled tiles",
        "on 2,000 objects with the shape of one class and the texture of another a network trained on textures has a shape bias below 0.3, one trained "
        "on shapes above 0.7, each with a coverage of at least half of the images; a probe of colour histograms distinguishes images from their "
        "shuffled twins with an accuracy of exactly 50 %",
        cues_of_networks,
        wide=3,
    ),
}
