"""Claims on inversion and activation maximisation: what layers keep, what activates units."""

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
"""Gradient ascent without image priors."""
TRIES = 3


def decibels(found: Tensor, images: Tensor) -> float:
    """Mean peak signal-to-noise ratio of images in [0, 1]."""
    return float(-10 * torch.log10((found - images).square().mean((1, 2, 3))).mean())


def real(count: int = 2000) -> Tensor:
    """Training scenes as input of the network."""
    source = open_source(world("train", 4000), size=32)
    return torch.cat([central_square(load_images(source, rows), 32) for rows in np.array_split(np.arange(count), 4)])


def rough(pictures: Tensor) -> float:
    """Fraction of the energy of images, without their mean colour, above half of the highest frequency."""
    waves = torch.fft.rfft2(pictures - pictures.mean((2, 3), keepdim=True)).abs().square()
    frequency = (torch.fft.fftfreq(pictures.shape[2])[:, None].square() + torch.fft.rfftfreq(pictures.shape[3]).square()).sqrt()
    return float(waves[:, :, frequency > 0.25].sum() / waves.sum())


def kept_by_depth(folder: Path) -> ClaimResult:  # noqa: ARG001
    """Inversion of every layer, three restarts."""
    run = trained(0)
    shown, *_ = scenes(run, 12)
    errors, spreads = {}, {}
    rows: dict[str, list[Tile]] = {f"scene {number}": [Tile(levels(shown[number]), "scene")] for number in range(3)}
    for layer in run.phi.layers:
        found = invert(run.phi, shown, layer, restarts=3)
        errors[layer] = float((found.images - shown[:, None]).square().mean((2, 3, 4)).sqrt().mean())
        spreads[layer] = float(found.spread().mean())
        for number in range(3):
            rows[f"scene {number}"] += [
                Tile(levels(found.images[number, again]), f"{layer}\nerror {float(found.errors[number, again]):.2f}") for again in (0, 1)
            ]
    grows = all(list(values.values()) == sorted(values.values()) for values in (errors, spreads))
    measured = {"root mean square error of a pixel (0 to 1)": errors, "spread over restarts": spreads}
    return ClaimResult(measured, grows, png=sheet(rows))


def smoothness(folder: Path) -> ClaimResult:  # noqa: ARG001
    """No prior, total variation with exponents one and two."""
    run = trained(0)
    shown, *_ = scenes(run, 8)
    layer = run.phi.layers[2]
    priors = {"no prior": Prior(0.0, 2.0, 0.0), "total variation, exponent 1": Prior(1.0, 1.0), "exponent 2": Prior(1.0, 2.0)}
    found = {name: invert(run.phi, shown, layer, prior=prior) for name, prior in priors.items()}
    energy = {name: rough(each.images[:, 0]) for name, each in found.items()}
    energy["original scenes"] = rough(shown)
    rows = {
        f"scene {number}": [
            Tile(levels(shown[number]), "scene"),
            *(Tile(levels(each.images[number, 0]), f"{name}\nerror {float(each.errors[number, 0]):.2f}") for name, each in found.items()),
        ]
        for number in range(3)
    }
    holds = energy["no prior"] > energy["total variation, exponent 1"] > energy["exponent 2"]
    return ClaimResult({"fraction of the energy at high frequencies": energy}, holds, png=sheet(rows))


def deep_image_prior(folder: Path) -> ClaimResult:  # noqa: ARG001
    """A network fits a photograph faster than a shuffled one, and faster than noise."""
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
    drawn = curves("Squared error / variance, one network per image", lines, "step", "error")
    return ClaimResult({"squared error / variance after 300 steps": mean}, holds, drawn)


def learned_inversion(folder: Path) -> ClaimResult:  # noqa: ARG001
    """A learned inverter and inversion by optimisation, on one core."""
    run = trained(0)
    shown, *_ = scenes(run, 16)
    measured: dict[str, dict[str, float]] = {}
    rows: dict[str, list[Tile]] = {f"scene {number}": [Tile(levels(shown[number]), "scene")] for number in range(4)}
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
            "optimised (dB)": decibels(searched.images[:, 0], shown),
            "learned (dB)": decibels(learnt.images[:, 0], shown),
            "optimisation, s": search,
            "learned, s": one,
            "speed-up": search / one,
            "training, s": learning,
        }
        for number in range(4):
            for name, each in (("optimised", searched), ("learned", learnt)):
                words = f"{layer}, {name}\nerror {float(each.errors[number, 0]):.2f}"
                rows[f"scene {number}"].append(Tile(levels(each.images[number, 0]), words))
    holds = all(row["learned (dB)"] >= row["optimised (dB)"] - 2 and row["speed-up"] >= 100 for row in measured.values())
    return ClaimResult({"on 16 scenes": measured}, holds, png=sheet(rows))


def matching(one: Tensor, other: Tensor) -> Tensor:
    """For each unit of the first network the most correlated unit of the second."""
    left, right = ((rows - rows.mean(0)) / rows.std(0).clamp(min=1e-9) for rows in (one, other))
    return (left.T @ right).argmax(1)


def above(phi: Representation, layer: str, pictures: Tensor, units: Tensor, seen: Tensor, quantile: float) -> Tensor:
    """Whether each image activates its unit above a quantile of the activations of real images."""
    said = responses(phi, pictures, layer)[torch.arange(len(units)), units]
    return said > seen[:, units].quantile(quantile, dim=0)


def best_of(phi: Representation, layer: str, units: Tensor, **given: Any) -> MaximisationResult:
    """For each unit the image, of three from different noise, with the highest activation under shifts, as ``maximise`` selects it."""
    made = maximise(phi, unit(layer, units.repeat(TRIES)), count=TRIES * len(units), **given)
    best = made.shifted.view(TRIES, -1).argmax(0) * len(units) + torch.arange(len(units))
    return MaximisationResult(made.images[best], made.scores[best], made.shifted[best], made.curve)


def units_driven(folder: Path) -> ClaimResult:  # noqa: ARG001
    """Activations of synthetic images, as saved and shifted, on their network and on another."""
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
                    Tile(picture.permute(1, 2, 0).numpy(), f"unit {int(number)}\n{float(score):.2g}, highest real {float(best):.2g}")
                    for picture, number, score, best in zip(made.images[:6], units, made.scores, here[:, units].amax(0), strict=False)
                ]
        measured[layer] = {
            "above the 99.9th percentile under shifts (%)": driven,
            "matched unit above its 95th percentile (%)": goes["regularised"],
            "matched unit, unconstrained (%)": goes["free"],
        }
    over, free = (
        statistics.mean(row[name] for row in measured.values())
        for name in ("matched unit above its 95th percentile (%)", "matched unit, unconstrained (%)")
    )
    holds = all(row["above the 99.9th percentile under shifts (%)"] >= 90 for row in measured.values()) and over > free
    classes = torch.arange(10)
    made = maximise(one.phi, probe(one).at(classes), count=10)
    with torch.no_grad():
        named = {
            name: 100 * float((probe(run).numbers(run.phi, run.phi.normalise(made.images)).argmax(1) == classes).float().mean())
            for name, run in (("same network", one), ("other network", other))
        }
    return ClaimResult({"by layer": measured, "images of classes that are classified correctly (%)": named}, holds, png=sheet(rows))


CLAIMS = {
    "q": Claim(
        "Deeper layers keep less of an image",
        "pixel error and spread over restarts increase from every layer to the next",
        kept_by_depth,
    ),
    "r": Claim(
        "Natural-image priors make inversions smooth",
        "the fraction of the energy above half of the highest frequency decreases from no prior to total variation with exponent 1 to exponent 2",
        smoothness,
    ),
    "s": Claim(
        "The structure of a network is an image prior",
        "after 300 steps the squared error of each of four crops of a photograph, relative to its variance, is less than half of that of the same "
        "crop with shuffled pixels, and of noise of the same variance",
        deep_image_prior,
    ),
    "t": Claim(
        "Inversion can be learned",
        "at a middle layer and at the last layer a learned inverter is within 2 dB of optimisation, and at least a hundred times as fast",
        learned_inversion,
    ),
    "u": Claim(
        "Synthetic images for units activate them strongly, and also the matching units of another network",
        "in each of three layers at least 90 % of 24 images, the best of three each, as saved in eight bits and under shifts of two pixels, activate "
        "their unit above the 99.9th percentile of 2,000 scenes; over the three layers, the most correlated unit of a network with another seed is "
        "activated above its 95th percentile more often than by unconstrained ascent",
        units_driven,
        before="with one image per unit, 100, 100 and 87.5 % activated theirs; three images, of which a user takes the best, were tested next. At "
        "first matched units were compared in each layer separately: in the first layer images of unconstrained ascent transfer equally often, "
        "because filters of a few pixels leave little to constrain.",
    ),
}
