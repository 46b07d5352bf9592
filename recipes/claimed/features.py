"""Claims on the content of features."""

import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from claimed.common import SEED, TEST, TRAIN, Claim, ClaimResult, bars, curves, layers_told, learn, method_of, top1
from selfsight.backbones.loading import untrained_twin
from selfsight.core.card import small_sgd
from selfsight.core.errors import DataError
from selfsight.core.representation import Representation
from selfsight.data.loader import load_images
from selfsight.data.opening import open_source
from selfsight.data.views.image.geometry import Crop, central_square, rotate
from selfsight.data.views.image.recipes import FourTurns, View
from selfsight.measure.baselines import estimate_statistics
from selfsight.measure.probes.linear import linear
from selfsight.measure.results import Features
from selfsight.objectives.contrast import info_nce

DIGITS = ("digits?split=train", "digits?split=test")
"""Digits share an orientation; the shapes of ``world:shapes`` are rotated arbitrarily."""
PHOTO_STEPS, TURN_STEPS, PUZZLE_STEPS = 400, 300, 3000
HALVES_STEPS = 480


def lines(told: dict[str, dict[str, float]]) -> dict[str, list[tuple[Any, float]]]:
    return {name: list(values.items()) for name, values in told.items()}


def cells(phi: Representation) -> Callable[[Tensor, str], Tensor]:
    """A layer's feature map, averaged in each of 4 x 4 cells."""
    return lambda shown, layer: adaptive_avg_pool2d(phi.grid(shown, layer), 4).flatten(1)


def one_photograph(folder: Path) -> ClaimResult:
    """First layers trained on one photograph and on many."""
    root = Path(os.environ.get("SELFSIGHT_SHARED_DATA", ".")) / "cifar10"
    many, test = root / "train.parquet", root / "test.parquet"
    if not many.is_file():
        raise DataError(f"There is no {many}.", "Set SELFSIGHT_SHARED_DATA to a folder with cifar10/train.parquet and test.parquet.")
    told = {}
    for name, data in (("many photographs", str(many)), ("one photograph", "photo:astronaut?count=4000")):
        run, _ = learn(folder / name.replace(" ", "_"), "rotnet", PHOTO_STEPS, data=data, limit=4000)
        told[name] = layers_told(run.phi, linear, (str(many), str(test)), cells(run.phi))
    bare = untrained_twin(run.phi, seed=SEED)
    forms = [layers_told(bare, linear, (str(many), str(test)), cells(bare))]
    estimate_statistics(bare, open_source(str(many), size=32, limit=4000, seed=SEED))
    forms.append(layers_told(bare, linear, (str(many), str(test)), cells(bare)))
    told["untrained"] = {layer: max(form[layer] for form in forms) for layer in forms[0]}
    _, second, *_, last = told["untrained"]
    behind = {layer: told["many photographs"][layer] - told["one photograph"][layer] for layer in told["untrained"]}
    over = {layer: told["one photograph"][layer] - told["untrained"][layer] for layer in told["untrained"]}
    holds = behind[second] <= 2 and over[second] >= 2 and behind[last] > behind[second]
    measured = {"linear probe by layer": told, "one photograph behind many": behind, "one photograph above untrained": over}
    drawn = curves("Linear probes of each layer on CIFAR-10", lines(told), "layer", "linear top-1 (%)", frozenset({"untrained"}))
    return ClaimResult(measured, holds, drawn)


def turns_told(network: Callable[[Tensor], Tensor], normalise: Any) -> tuple[float, float]:
    """Accuracy of a linear probe of the rotation of test digits (chance: 25), and the fraction of the variance due to rotation; percent."""
    parts = []
    for data in DIGITS:
        source = open_source(data, size=32)
        shown = central_square(load_images(source, np.arange(len(source))), 32, normalise)
        with torch.no_grad():
            rows = torch.cat([network(rotate(shown, quarters)) for quarters in range(4)]).numpy()
        parts.append((rows, np.repeat(np.arange(4), len(source))))
    (fitted, fitted_labels), (judged, judged_labels) = parts
    features = Features(fitted, judged, fitted_labels, judged_labels, ("0", "90", "180", "270"), None)
    turns = judged.reshape(4, -1, judged.shape[1])
    within = ((turns - turns.mean(0)) ** 2).sum() / ((turns - judged.mean(0)) ** 2).sum()
    return 100 * linear(features).values["top1"].value, 100 * float(within)


def decoupled_turns(folder: Path) -> ClaimResult:
    """One half of the features encodes the rotation, the other hardly does, and both together are as good as RotNet's."""
    alike: dict[str, Any] = {
        "data": DIGITS[0],
        "recipe": FourTurns(View(Crop((0.5, 1.0)), flip=0.0)),
        "batch": 32,
        "training": asdict(small_sgd(0.4)),
    }
    halves, _ = learn(folder / "halves", "rotation_decoupling", TURN_STEPS, **alike)
    whole, _ = learn(folder / "rotnet", "rotnet", TURN_STEPS, **alike)
    method = method_of(halves)
    normalise, middle = method.recipe.normalise, method.middle
    parts = (
        lambda shown: method.backbone(shown).pooled[:, :middle],
        lambda shown: method.backbone(shown).pooled[:, middle:],
    )
    (first, moved), (second, still) = (turns_told(part, normalise) for part in parts)
    values = {
        "first half: rotation accuracy": first,
        "second half: rotation accuracy": second,
        "first half: variance due to rotation": moved,
        "second half: variance due to rotation": still,
        "k-NN, both halves": top1(halves, *DIGITS),
        "k-NN, RotNet": top1(whole, *DIGITS),
    }
    holds = first > 60 and second < 40 and values["k-NN, both halves"] >= values["k-NN, RotNet"] - 1
    return ClaimResult(values, holds, bars("Rotation decoupling on digits (chance 25 and 10)", values, set(), "%"))


def task_specific(folder: Path) -> ClaimResult:
    """The last layer of a jigsaw network is specific to the puzzle; that of PIRL is not."""
    told: dict[str, dict[str, float]] = {}
    for name in ("jigsaw", "pirl"):
        run, _ = learn(folder / name, name, PUZZLE_STEPS)
        told[name] = layers_told(run.phi, linear, (TRAIN, TEST), run.phi.pooled)
    best = {name: max(values, key=values.__getitem__) for name, values in told.items()}
    last = list(told["pirl"])[-1]
    drop = {name: max(values.values()) - values[last] for name, values in told.items()}
    measured = {"linear probe by layer": told, "last layer below the best, in points": drop}
    drawn = curves("Linear probes of the shape", lines(told), "layer", "linear top-1 (%)")
    return ClaimResult(measured, best["jigsaw"] != last and drop["pirl"] < drop["jigsaw"], drawn)


class Coupled(nn.Module):
    """An invertible network: each half of the dimensions scales and shifts the other, alternately (RealNVP, Dinh et al. 2016, arXiv:1605.08803)."""

    def __init__(self, dim: int, *, layers: int = 8, hidden: int = 256, gain: float = 2.0) -> None:
        super().__init__()
        half = dim // 2
        self.nets = nn.ModuleList(
            nn.Sequential(nn.Linear(half, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 2 * half))
            for _ in range(layers)
        )
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.orthogonal_(layer.weight, gain)  # so that the initial network mixes its input strongly

    def forward(self, rows: Tensor) -> Tensor:
        kept, moved = rows.chunk(2, 1)
        for net in self.nets:
            scale, shift = net(kept).chunk(2, 1)
            kept, moved = moved * torch.tanh(scale).exp() + shift, kept
        return torch.cat([kept, moved], 1)

    def back(self, rows: Tensor) -> Tensor:
        """The inverse."""
        kept, moved = rows.chunk(2, 1)
        for net in reversed(self.nets):
            scale, shift = net(moved).chunk(2, 1)
            kept, moved = moved, (kept - shift) * (-torch.tanh(scale)).exp()
        return torch.cat([kept, moved], 1)


def all_information(_: Path) -> ClaimResult:
    """No information is lost, and features still improve (Tschannen et al. 2019, arXiv:1907.13625, section 3.1)."""
    source = open_source("digits", size=32)
    order = np.random.default_rng(SEED).permutation(len(source))
    small = adaptive_avg_pool2d(load_images(source, order).pixels.double().mean(1, keepdim=True) / 255, 8).flatten(1)
    labels, judged = source.truth(order).labels, len(order) // 2
    assert labels is not None
    torch.manual_seed(SEED)
    upper, lower = Coupled(32).double(), Coupled(32).double()
    learner = torch.optim.Adam([*upper.parameters(), *lower.parameters()], lr=3e-4)
    told, lost = [], []
    for step in range(HALVES_STEPS + 1):
        if step % (HALVES_STEPS // 6) == 0:
            with torch.no_grad():
                said = upper(small[:, :32])
                lost.append(float((upper.back(said) - small[:, :32]).abs().max()))
            rows = said.float().numpy()
            score = linear(Features(rows[judged:], rows[:judged], labels[judged:], labels[:judged])).values["top1"].value
            told.append((step, 100 * score))
        rng = torch.Generator().manual_seed(step)
        chosen = torch.randint(judged, len(order), (256,), generator=rng)
        shown = small[chosen] + 0.2 * torch.randn(256, 64, generator=rng, dtype=small.dtype)
        loss = info_nce(upper(shown[:, :32]), lower(shown[:, 32:]), 0.3)
        learner.zero_grad()
        loss.backward()
        learner.step()
    measured = {
        "linear probe at initialisation": told[0][1],
        "linear probe at the end": told[-1][1],
        "largest error of the inverse": max(lost),
    }
    drawn = curves("Upper halves of digits through an invertible network", {"linear probe": told}, "step", "linear top-1 (%)")
    return ClaimResult(measured, max(lost) < 1e-6 and told[-1][1] - told[0][1] > 5, drawn)


CLAIMS = {
    "e": Claim(
        "One photograph is nearly as good as many for training the first layers",
        "by linear probes of RotNet on CIFAR-10, one photograph is in the first stage at most two points below 4,000 and two points or more "
        "above the untrained network's stronger form, and the difference to 4,000 is larger in the last stage than in the first",
        one_photograph,
        failed="At 32 px random first layers are as good as trained ones, by a probe of 4 x 4 cells, so that the claim cannot be tested there. One "
        "photograph is within 1.3 points of many at every layer, and from the second stage on both are above the untrained network: the difference "
        "is small where training helps, and largest in the last stage, as claimed.",
    ),
    "f": Claim(
        "One half of decoupled features encodes the rotation, the other half does not, and nothing is lost",
        "a linear probe predicts the rotation of test digits from the first half with more than 60 %, from the second with less than 40 % (chance "
        "25); k-NN of both halves is at least that of RotNet, trained with the same views and steps, minus one point",
        decoupled_turns,
        failed="Nothing is lost, and the halves differ: nearly all of the variance of the first half over test digits is due to rotation, and "
        "less than half of that of the second. But the second half is drawn to its mean by a squared error averaged over dimensions, as "
        "in the published code, and 300 steps are too few: a linear probe finds the rotation in the remaining variance. A weight a "
        "hundred times as large (seed 500, 250 steps) reduces the accuracy to 70 %, and k-NN with it.",
    ),
    "g": Claim(
        "The last layers of a jigsaw network are specific to the puzzle, those of PIRL are not",
        "by linear probes, as in PIRL's paper, jigsaw's best layer is not its last, and its last is further below its best than PIRL's is",
        task_specific,
        before="the first test used k-NN after 700 steps, and the claim did not hold: both networks were best in their last layer, but jigsaw had "
        "learnt little (16.3; PIRL 27.9). Steps and probe were then changed to 3,000 and the paper's.",
    ),
    "h": Claim(
        "Features improve although no information is gained or lost: mutual information is not the objective",
        "an invertible network reconstructs the upper halves of digits to 1e-6 throughout, and while it is trained to match noisy upper and lower "
        "halves, a linear probe on other digits improves by more than five points",
        all_information,
        before="two earlier experiments did not show it: a network that changes little at initialisation improved by 2.7 points (criterion: three); "
        "one that mixes its input strongly, but memorised its 900 noise-free training digits, by 2.0 (criterion: five).",
    ),
}
