"""Claims on pictures that explain: what layers keep, what units like."""

import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from claimed.attributing import levels
from claimed.common import Claim, ClaimResult, curves
from claimed.trained import probe, scenes, trained, world
from selfsight.core.representation import Representation
from selfsight.data.loader import load_images
from selfsight.data.opening import open_source
from selfsight.data.views.image.geometry import central_square
from selfsight.explain.inversion.descent import Prior, fit_hourglass, invert
from selfsight.explain.inversion.inverter import invert_learned
from selfsight.explain.synthesis.activation import NO_TRANSFORMS, Fourier, MaximisationResult, Pixels, maximise
from selfsight.explain.synthesis.comparison import responses
from selfsight.explain.targets import unit
from selfsight.render.sheet import Tile, sheet

NATURAL = Pixels(), NO_TRANSFORMS
"""An ascent without anything that is known of pictures."""
TRIES = 3


def decibels(found: Tensor, images: Tensor) -> float:
    """The mean peak signal-to-noise ratio of pictures in [0, 1]."""
    return float(-10 * torch.log10((found - images).square().mean((1, 2, 3))).mean())


def real(count: int = 2000) -> Tensor:
    """Scenes that were learnt from, as the network sees them."""
    source = open_source(world("train", 4000), size=32)
    return torch.cat([central_square(load_images(source, rows), 32) for rows in np.array_split(np.arange(count), 4)])


def rough(pictures: Tensor) -> float:
    """The part of the energy of pictures, their mean colour left out, above half of the highest frequency."""
    waves = torch.fft.rfft2(pictures - pictures.mean((2, 3), keepdim=True)).abs().square()
    frequency = (torch.fft.fftfreq(pictures.shape[2])[:, None].square() + torch.fft.rfftfreq(pictures.shape[3]).square()).sqrt()
    return float(waves[:, :, frequency > 0.25].sum() / waves.sum())


def kept_by_depth(folder: Path) -> ClaimResult:  # noqa: ARG001
    """Inversion of every layer, three restarts."""
    run = trained(0)
    shown, *_ = scenes(run, 12)
    errors, spreads = {}, {}
    rows: dict[str, list[Tile]] = {f"scene {number}": [Tile(levels(shown[number]), "the scene")] for number in range(3)}
    for layer in run.phi.layers:
        found = invert(run.phi, shown, layer, restarts=3)
        errors[layer] = float((found.images - shown[:, None]).square().mean((2, 3, 4)).sqrt().mean())
        spreads[layer] = float(found.spread().mean())
        for number in range(3):
            rows[f"scene {number}"] += [
                Tile(levels(found.images[number, again]), f"{layer}\nerror {float(found.errors[number, again]):.2f}") for again in (0, 1)
            ]
    grows = all(list(values.values()) == sorted(values.values()) for values in (errors, spreads))
    measured = {"error of a pixel (root mean square, 0 to 1)": errors, "spread over restarts": spreads}
    return ClaimResult(measured, grows, png=sheet(rows))


def smoothness(folder: Path) -> ClaimResult:  # noqa: ARG001
    """No prior, total variation with exponents one and two."""
    run = trained(0)
    shown, *_ = scenes(run, 8)
    layer = run.phi.layers[2]
    priors = {"no prior": Prior(0.0, 2.0, 0.0), "total variation, exponent 1": Prior(1.0, 1.0), "exponent 2": Prior(1.0, 2.0)}
    found = {name: invert(run.phi, shown, layer, prior=prior) for name, prior in priors.items()}
    energy = {name: rough(each.images[:, 0]) for name, each in found.items()}
    energy["the scenes"] = rough(shown)
    rows = {
        f"scene {number}": [
            Tile(levels(shown[number]), "the scene"),
            *(Tile(levels(each.images[number, 0]), f"{name}\nerror {float(each.errors[number, 0]):.2f}") for name, each in found.items()),
        ]
        for number in range(3)
    }
    holds = energy["no prior"] > energy["total variation, exponent 1"] > energy["exponent 2"]
    return ClaimResult({"part of the energy at high frequencies": energy}, holds, png=sheet(rows))


def form_is_a_prior(folder: Path) -> ClaimResult:  # noqa: ARG001
    """A network fits a photograph sooner than a shuffled one, and than noise."""
    photo = open_source("photo:astronaut?count=4", size=64)
    rng = torch.Generator().manual_seed(0)
    errors: dict[str, list[float]] = {"photograph": [], "shuffled": [], "noise": []}
    lines: dict[str, list[tuple[Any, float]]] = {}
    for number, picture in enumerate(central_square(load_images(photo, np.arange(4)), 64)):
        order = torch.randperm(64 * 64, generator=rng)
        kinds = {
            "photograph": picture,
            "shuffled": picture.flatten(1)[:, order].view_as(picture),
            "noise": torch.rand(picture.shape, generator=rng) * 3**0.5 * 2 * picture.std() + 0.5 - 3**0.5 * picture.std(),
        }
        for name, each in kinds.items():
            curve = fit_hourglass(each, steps=300)
            errors[name].append(curve[-1] / float(each.var()))
            if number == 0:
                lines[name] = [(step, value / float(each.var())) for step, value in enumerate(curve) if step % 5 == 0]
    mean = {name: float(np.mean(values)) for name, values in errors.items()}
    holds = all(errors["photograph"][k] < 0.5 * min(errors["shuffled"][k], errors["noise"][k]) for k in range(4))
    drawn = curves("Squared error in parts of the variance, one network a picture", lines, "step", "error")
    return ClaimResult({"error after 300 steps, in parts of the variance": mean}, holds, drawn)


def learnt_and_searched(folder: Path) -> ClaimResult:  # noqa: ARG001
    """A learned inverter beside the search, on one core."""
    run = trained(0)
    shown, *_ = scenes(run, 16)
    measured: dict[str, dict[str, float]] = {}
    rows: dict[str, list[Tile]] = {f"scene {number}": [Tile(levels(shown[number]), "the scene")] for number in range(4)}
    for layer in (run.phi.layers[2], run.phi.layers[-1]):
        started = time.process_time()
        searched = invert(run.phi, shown, layer)
        search, started = time.process_time() - started, time.process_time()
        inverter = run.inverter(layer)
        learning, started = time.process_time() - started, time.process_time()
        for _ in range(10):
            learnt = invert_learned(run.phi, shown, inverter)
        one = (time.process_time() - started) / 10
        measured[layer] = {
            "searched (dB)": decibels(searched.images[:, 0], shown),
            "learnt (dB)": decibels(learnt.images[:, 0], shown),
            "search, s": search,
            "learnt, s": one,
            "times as fast": search / one,
            "learning, s": learning,
        }
        for number in range(4):
            for name, each in (("searched", searched), ("learnt", learnt)):
                words = f"{layer}, {name}\nerror {float(each.errors[number, 0]):.2f}"
                rows[f"scene {number}"].append(Tile(levels(each.images[number, 0]), words))
    holds = all(row["learnt (dB)"] >= row["searched (dB)"] - 2 and row["times as fast"] >= 100 for row in measured.values())
    return ClaimResult({"on 16 scenes": measured}, holds, png=sheet(rows))


def matching(one: Tensor, other: Tensor) -> Tensor:
    """For each unit of the first network that of the second which goes most with it."""
    left, right = ((rows - rows.mean(0)) / rows.std(0).clamp(min=1e-9) for rows in (one, other))
    return (left.T @ right).argmax(1)


def above(phi: Representation, layer: str, pictures: Tensor, units: Tensor, seen: Tensor, quantile: float) -> Tensor:
    """Whether each picture drives its unit above a quantile of what it says of real images."""
    said = responses(phi, pictures, layer)[torch.arange(len(units)), units]
    return said > seen[:, units].quantile(quantile, dim=0)


def best_of(phi: Representation, layer: str, units: Tensor, **given: Any) -> MaximisationResult:
    """For each unit that of three pictures, from different noise, which drives it most under shifts: what ``maximise`` shows a user."""
    made = maximise(phi, unit(layer, units.repeat(TRIES)), count=TRIES * len(units), **given)
    best = made.shifted.view(TRIES, -1).argmax(0) * len(units) + torch.arange(len(units))
    return MaximisationResult(made.images[best], made.scores[best], made.shifted[best], made.curve)


def units_driven(folder: Path) -> ClaimResult:  # noqa: ARG001
    """Pictures for units, as saved and shifted, on their network and on another."""
    one, other = trained(0), trained(1)
    scenes_seen, count = real(), 24
    measured: dict[str, dict[str, float]] = {}
    rows: dict[str, list[Tile]] = {}
    for layer in (one.phi.layers[1], one.phi.layers[2], one.phi.layers[-1]):
        here, there = responses(one.phi, scenes_seen, layer), responses(other.phi, scenes_seen, layer)
        alive = torch.nonzero(here.std(0) > 1e-6)[:, 0]
        units = alive[torch.linspace(0, len(alive) - 1, count).long()]
        partner = matching(here, there)[units]
        goes = {}
        for name, (parameterisation, transforms) in {"regularised": (Fourier(), None), "free": NATURAL}.items():
            given: dict[str, Any] = {} if transforms is None else {"transforms": transforms}
            made = best_of(one.phi, layer, units, parameterisation=parameterisation, **given)
            goes[name] = 100 * float(above(other.phi, layer, made.images, partner, there, 0.95).float().mean())
            if name == "regularised":
                driven = 100 * float((made.shifted.cpu() > here[:, units].quantile(0.999, dim=0)).float().mean())
                rows[layer] = [
                    Tile(picture.permute(1, 2, 0).numpy(), f"unit {int(number)}\n{float(score):.2g}, at most {float(best):.2g} seen")
                    for picture, number, score, best in zip(made.images[:6], units, made.scores, here[:, units].amax(0), strict=False)
                ]
        measured[layer] = {
            "above the 99.9th percentile, shifted too (%)": driven,
            "partner above its 95th (%)": goes["regularised"],
            "partner, free ascent (%)": goes["free"],
        }
    over, free = (
        statistics.mean(row[name] for row in measured.values()) for name in ("partner above its 95th (%)", "partner, free ascent (%)")
    )
    holds = all(row["above the 99.9th percentile, shifted too (%)"] >= 90 for row in measured.values()) and over > free
    classes = torch.arange(10)
    made = maximise(one.phi, probe(one).at(classes), count=10)
    with torch.no_grad():
        named = {
            name: 100 * float((probe(run).numbers(run.phi, run.phi.normalise(made.images)).argmax(1) == classes).float().mean())
            for name, run in (("its own network", one), ("another", other))
        }
    return ClaimResult({"by layer": measured, "pictures of classes that are given their class (%)": named}, holds, png=sheet(rows))


CLAIMS = {
    "q": Claim(
        "The deeper a layer, the less of a picture it keeps",
        "error of pixels and spread over restarts grow from every layer to the next",
        kept_by_depth,
    ),
    "r": Claim(
        "What is known of pictures makes inversions smooth",
        "the part of the energy above half of the highest frequency falls from no prior to total variation with exponent 1 to exponent 2",
        smoothness,
    ),
    "s": Claim(
        "The form of a network is a prior of pictures",
        "after 300 steps the error of each of four crops of a photograph, in parts of its variance, is less than half of the same crop's "
        "shuffled, and of noise of the same variance",
        form_is_a_prior,
    ),
    "t": Claim(
        "Inversion can be learnt",
        "at a middle and at the last layer a learned inverter is within 2 dB of the search, at least a hundred times as fast",
        learnt_and_searched,
    ),
    "u": Claim(
        "Pictures made for units drive them, and are not peculiar to one network",
        "in each of three layers at least 90 % of 24 pictures, the best of three each, as saved in eight bits and under shifts of two pixels, "
        "drive their unit above the 99.9th percentile of 2,000 scenes; over the three layers, the unit of another seed that goes with it is driven "
        "above its 95th more often than by a free ascent",
        units_driven,
        before="of one picture for each unit, 100, 100 and 87.5 % drove theirs; three, of which a user takes the best, were tried next. Partners were "
        "compared in each layer by itself at first: in the first layer free ascents go over as often, for there is little to hold back in "
        "filters of a few pixels.",
    ),
}
