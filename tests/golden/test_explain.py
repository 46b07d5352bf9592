"""Golden values of explanations: attributions, masks, scores, inversion, synthesis, diagnoses."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from selfsight.backbones.loading import untrained
from selfsight.core.errors import UsageError
from selfsight.core.readout import Readout
from selfsight.core.representation import Representation
from selfsight.data.loader import load_images
from selfsight.explain.attribution.perturbation import extremal_channels, extremal_perturbation
from selfsight.explain.attribution.saliency import grad_cam, gradient, gradient_times_input, rise
from selfsight.explain.attribution.table import ATTRIBUTIONS
from selfsight.explain.checks.diagnosis import diagnose
from selfsight.explain.checks.pointing import boxes_of, curves, fit_threshold, localised, pointing_game, random_map
from selfsight.explain.checks.sanity import (
    cascading_randomisation,
    correlation,
    infidelity,
    neuron_sensitivity,
    rank_correlation,
    shift_sensitivity,
)
from selfsight.explain.inversion.descent import Prior, caricature, fit_hourglass, invert, invert_with_deep_prior
from selfsight.explain.inversion.inverter import invert_learned, learn_inverter
from selfsight.explain.synthesis.activation import Generated, Phase, Pixels, deep_dream, maximise, synthesise_style
from selfsight.explain.synthesis.comparison import compare_units
from selfsight.explain.synthesis.priors import estimate_spectrum, natural_noise
from selfsight.explain.targets import Target, argmax_target, cluster, code, direction, probe_class, similarity_to, unit

from golden import check
from small import world

pytestmark = pytest.mark.slow

SIZE, STEPS = 32, 12
NETWORKS = {"resnet_tiny": "resnet_tiny?width=8", "vit_nano": "vit_nano?blocks=2"}
FEW: dict[str, dict[str, Any]] = {
    "extremal": {"areas": (0.1, 0.2), "steps": STEPS},
    "integrated_gradients": {"steps": 8, "most": 32},
    "meaningful_perturbation": {"steps": STEPS},
    "occlusion": {"window": 8, "stride": 4},
    "rise": {"masks": 60},
    "smooth_grad": {"samples": 4},
    "var_grad": {"samples": 4},
}
"""Options that make a method fast."""


def network(name: str) -> Representation:
    """A network with random weights; batch norms have the statistics of noise, so that none is the identity."""
    phi = untrained(NETWORKS[name], size=SIZE, seed=3)
    rng = torch.Generator().manual_seed(4)
    for word, buffer in phi.backbone.named_buffers():
        if word.endswith("running_mean"):
            buffer.copy_(0.1 * torch.randn(buffer.shape, generator=rng))
        if word.endswith("running_var"):
            buffer.copy_(0.5 + torch.rand(buffer.shape, generator=rng))
    return phi


def some(count: int = 2) -> tuple[Tensor, Tensor]:
    """Rendered objects in [0, 1], and object masks."""
    source, rows = world(12, SIZE), np.arange(count)
    masks = source.truth(rows).masks
    assert masks is not None
    return load_images(source, rows).pixels.float() / 255, torch.stack([torch.from_numpy(np.asarray(mask) > 0) for mask in masks])


def aim(phi: Representation, seed: int = 5) -> Target:
    """A dimension of the output."""
    return direction(torch.randn(phi.backbone.dim, generator=torch.Generator().manual_seed(seed)))


EXTREMAL_FIELDS = {
    "masks": "masks", "kept": "masked_score", "whole": "full_score", "nothing": "baseline_score", "visible": "visible", "share": "share",
    "steps": "steps",
}  # fmt: skip
"""Names in the recorded values, which are those of version 0.1, and the present fields."""


@pytest.mark.parametrize("net", NETWORKS)
@pytest.mark.parametrize("name", ATTRIBUTIONS)
def test_attribution(name: str, net: str) -> None:
    phi, method = network(net), ATTRIBUTIONS.load(name)
    shown, _ = some()
    found: dict[str, Any] = {}
    for word, target in {"output": aim(phi), "unit": unit(phi.layers[-2], 2)}.items():
        try:
            found[f"{word}/map"] = method(phi, shown, target, **FEW.get(name, {}))
        except UsageError:  # such as attention of a network without any
            found[f"{word}/refused"] = 1
    check(f"attribution.{name}.{net}", found)


def test_attribution_options() -> None:
    """Options other than the defaults of the table."""
    phi, (shown, _) = network("resnet_tiny"), some()
    target, layer = aim(phi), phi.layers[1]
    found: dict[str, Any] = {}
    for rule in ("gradient", "deconvnet", "guided"):
        found[f"saliency at {layer}, {rule}"] = gradient(phi, shown, target, at=layer, rule=rule)
    found["grad_cam, whole pixels"] = grad_cam(phi, (255 * shown).to(torch.uint8), target)
    found["rise, another seed"] = rise(phi, shown, target, masks=40, grid=5, keep=0.3, seed=1)
    found["excitation, pixels"] = ATTRIBUTIONS.load("excitation")(phi, shown, target, at="")
    check("attribution.options", found)


@pytest.mark.parametrize("net", NETWORKS)
@pytest.mark.parametrize("mode", ["preserve", "delete", "dual"])
def test_extremal(mode: Any, net: str) -> None:
    phi, (shown, _) = network(net), some()
    found: dict[str, Any] = {}
    for substrate in ("blur", "mean"):
        masks = extremal_perturbation(phi, shown, aim(phi), areas=(0.1, 0.3), mode=mode, steps=STEPS, substrate=substrate)
        found |= {f"{substrate}/{name}": getattr(masks, field) for name, field in EXTREMAL_FIELDS.items()}
    rough = extremal_perturbation(phi, shown, aim(phi), mode=mode, steps=STEPS, smooth=False)
    channels = extremal_channels(phi, shown, aim(phi), phi.layers[-2], areas=(0.2,), mode=mode, steps=STEPS)
    found |= {"rough/masks": rough.masks, "channels/masks": channels.masks, "channels/kept": channels.masked_score}
    check(f"extremal.{mode}.{net}", found)


def test_pointing() -> None:
    phi, (shown, objects) = network("resnet_tiny"), some(8)
    found: dict[str, Any] = {}
    for name, maps in {"grad_cam": grad_cam(phi, shown, aim(phi)), "random": random_map((8, 1, SIZE, SIZE))}.items():
        said = pointing_game(maps, objects, torch.arange(8) % 3, distractors=torch.arange(8) % 2 == 0)
        found |= {f"{name}/{word}": value for word, value in asdict(said).items()}
        for threshold in ("value", "energy", "mean"):
            alpha = fit_threshold(maps, objects, threshold)
            boxes = boxes_of(maps, threshold, alpha)
            found |= {f"{name}/{threshold}/alpha": alpha, f"{name}/{threshold}/boxes": boxes}
            found[f"{name}/{threshold}/localised"] = localised(boxes, objects)
        for substrate in ("blur", "mean"):
            lines = curves(phi, shown, aim(phi), maps, steps=8, substrate=substrate)
            found |= {f"{name}/{substrate}/deletion": lines.deletion, f"{name}/{substrate}/insertion": lines.insertion}
            found |= {f"{name}/{substrate}/area of {word}": area for word, area in lines.areas.items()}
    check("pointing", found)


@pytest.mark.parametrize("net", NETWORKS)
def test_sanity(net: str) -> None:
    phi, (shown, _) = network(net), some()
    target, middle = aim(phi), unit(phi.layers[-2], 0)
    maps = {"gradient": gradient, "gradient_times_input": gradient_times_input, "grad_cam": grad_cam}
    found: dict[str, Any] = {}
    for name, method in maps.items():
        found[f"{name}/neuron sensitivity"] = neuron_sensitivity(phi, shown, middle, method, others=3)
        found[f"{name}/shift sensitivity"] = shift_sensitivity(phi, shown, target, method)
        for step in cascading_randomisation(phi, shown, target, method):
            found |= {f"{name}/cascade {step['layers']:.0f}/{word}": step[word] for word in ("signed", "absolute")}
    made = [method(phi, shown, target) for method in maps.values()]
    found |= {"correlation": correlation(made[0], made[1]), "rank correlation": rank_correlation(made[0], made[1])}
    found["infidelity"] = infidelity(phi, shown, target, made[1].expand(-1, 3, -1, -1), samples=10)
    check(f"sanity.{net}", found)


@pytest.mark.parametrize("net", NETWORKS)
def test_inversion(net: str) -> None:
    phi, (shown, _) = network(net), some()
    layer = phi.layers[1]
    found: dict[str, Any] = {}
    for word, at in {"layer": layer, "output": None}.items():
        made = invert(phi, shown, at, prior=Prior(smooth=0.5, beta=1.5), steps=(STEPS, 4), restarts=2)
        found |= {f"invert {word}/pictures": made.images, f"invert {word}/errors": made.errors, f"invert {word}/spread": made.spread()}
    found["caricature"] = caricature(phi, shown, layer, weight=5.0, steps=(STEPS, 2))
    made = invert_with_deep_prior(phi, shown[:1], layer, steps=4)
    found |= {"by network/pictures": made.images, "by network/errors": made.errors}
    found["hourglass"] = fit_hourglass(shown[0], steps=3)
    check(f"inversion.{net}", found)


@pytest.mark.parametrize("net", NETWORKS)
def test_inversion_learned(net: str) -> None:
    phi, (shown, _) = network(net), some(12)
    found: dict[str, Any] = {}
    for word, at, real in (("layer", phi.layers[1], 0.0), ("output", None, 0.01)):
        inverter = learn_inverter(phi, shown[:10], at, steps=4, batch=4, rate=3e-3, adversarial_weight=real, width=8)
        made = invert_learned(phi, shown[10:], inverter)
        found |= {f"{word}/state": inverter.state_dict(), f"{word}/pictures": made.images, f"{word}/errors": made.errors}
    written = maximise(phi, aim(phi), count=2, parameterisation=Generated(inverter), steps=3)
    found |= {"generated/pictures": written.images, "generated/scores": written.scores}
    check(f"inversion_learned.{net}", found)


@pytest.mark.parametrize("net", NETWORKS)
def test_maximise(net: str) -> None:
    phi, (shown, _) = network(net), some(8)
    target, middle = aim(phi), unit(phi.layers[-2], 2)
    spectrum = estimate_spectrum(shown)
    found: dict[str, Any] = {"spectrum": spectrum.magnitude, "noise": natural_noise((1, 3, SIZE, SIZE), 0)}
    ways: dict[str, Callable[[], Any]] = {
        "fourier": lambda: maximise(phi, target, steps=5),
        "unit, two diverse": lambda: maximise(phi, middle, count=2, steps=5, diversity=1.0),
        "pixels, natural": lambda: maximise(phi, target, parameterisation=Pixels(), steps=5, prior_weight=0.1, seed=1),
        "phase": lambda: maximise(phi, target, parameterisation=Phase(spectrum), steps=5),
    }
    for word, make in ways.items():
        made = make()
        found |= {f"{word}/{name}": getattr(made, name) for name in ("scores", "shifted", "curve")} | {f"{word}/pictures": made.images}
    found["dream"] = deep_dream(phi, shown[:1], phi.layers[1], octaves=2, ratio=2.0, steps=3)
    found["style"], found["style/curve"] = synthesise_style(phi, shown[:1], phi.layers[:2], content=shown[1:2], steps=4)
    check(f"maximise.{net}", found)


@pytest.mark.parametrize("net", NETWORKS)
def test_diagnose(net: str) -> None:
    phi, (shown, objects) = network(net), some(4)
    found: dict[str, Any] = {}
    for word, target in {"output": aim(phi), "code": code(phi, shown)}.items():
        said = diagnose(phi, shown, target, objects=objects, areas=(0.1, 0.3), steps=STEPS)
        found |= {f"{word}/{name}": getattr(said, name) for name in ("images", "masks", "areas", "share", "suspects")}
        found |= {
            f"{word}/enough": said.required_fraction,
            f"{word}/alone": said.object_fraction,
            f"{word}/without": said.background_fraction,
        }
    check(f"diagnose.{net}", found)


@pytest.mark.parametrize("net", NETWORKS)
def test_targets(net: str) -> None:
    phi, (shown, _) = network(net), some(4)
    given, rng = phi.normalise(shown), np.random.default_rng(0)
    dim, layer = phi.backbone.dim, phi.layers[-2]
    arrays = {"weight": rng.normal(size=(3, dim)), "bias": rng.normal(size=3), "mean": rng.normal(size=dim), "scale": np.ones(dim)}
    probe = Readout("linear", "output", arrays, ("a", "b", "c"))
    centroids = Readout("centroids", "output", {"centroids": rng.normal(size=(4, dim))}, facts={"unit_length": True})
    targets = {
        "direction": aim(phi),
        "class": probe_class(probe, "b"),
        "strongest class": argmax_target(probe_class(probe, 0), phi, shown),
        "cluster": cluster(centroids, 1),
        "like": similarity_to(phi, shown[0]),
        "code": code(phi, shown),
        "code of a layer": code(phi, shown, layer),
        "unit": unit(layer, 1),
        "unit, max": unit(layer, 1, "max"),
        "unit, place": unit(layer, 1, (1, 1)),
    }
    with torch.no_grad():
        found: dict[str, Any] = {name: target.score(phi, given) for name, target in targets.items()}
    check(f"targets.{net}", found)


def test_comparison() -> None:
    """Comparison of units of two networks."""
    shown, _ = some(12)
    nets = {name: network(name) for name in NETWORKS}
    made = compare_units(nets, dict.fromkeys(nets, shown), depth=0.5, ranks=(0, 3), steps=4)
    found: dict[str, Any] = {}
    for name, rows in made.to_json()["rows"].items():
        for number, row in enumerate(rows):
            found |= {f"{name}/{number}/{word}": value for word, value in row.items() if word != "words"}
    check("comparison", found)
