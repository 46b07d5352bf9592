"""Golden values of measures: probes and analyses with baselines, agreement, CKA, average precision, SVMs, lottery tickets."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from selfsight.backbones.loading import untrained
from selfsight.bank.extract import extract_features, make_encoder
from selfsight.bank.store import OUTPUT
from selfsight.core.representation import Representation
from selfsight.data.opening import open_source
from selfsight.data.source import Source
from selfsight.measure.analysis.cues import cue_conflict, global_statistics, neighbour_agreement
from selfsight.measure.analysis.equivalence import StitchEvaluator, head_of
from selfsight.measure.analysis.equivariance import compensation_errors, equivariance
from selfsight.measure.analysis.inputs import AnalysisInput, central_images
from selfsight.measure.analysis.lottery import cluster_agreement, lottery
from selfsight.measure.analysis.similarity import cka, similarity_table
from selfsight.measure.analysis.transformations import flipped, recoloured, rotated, scaled
from selfsight.measure.baselines import channel_statistics, pixel_encoder
from selfsight.measure.metrics.agreement import (
    adjusted_mutual_information,
    adjusted_rand,
    contingency,
    matched_accuracy,
    normalised_mutual_information,
)
from selfsight.measure.metrics.overlap import corloc, score_masks, score_segments
from selfsight.measure.metrics.precision import average_precision, score_detections
from selfsight.measure.probes.knn import knn
from selfsight.measure.probes.layers import LabelPair, layers
from selfsight.measure.probes.linear import fit_probe, linear
from selfsight.measure.probes.retrieve import detect_copies, retrieve
from selfsight.measure.probes.reverse import reverse, reverse_by_clusters, reverse_without
from selfsight.measure.probes.svm import fit_machines, low_shot, svm
from selfsight.measure.probes.table import LAYER_PROBES, PROBES
from selfsight.measure.results import Features, Score, proportion
from selfsight.tasks.classify import finetune
from selfsight.tasks.detect import detect
from selfsight.tasks.segment import segment
from selfsight.tasks.tuning import TuneConfig
from selfsight.workflows.evaluate.analyses.table import ANALYSES
from selfsight.workflows.evaluate.probes import EvaluationResult, evaluate

from golden import check

pytestmark = pytest.mark.slow

SIZE, SMALL = 32, 16
NETS = {"resnet_tiny": "resnet_tiny?width=8", "vit_nano": "vit_nano?blocks=2"}


def network(name: str = "resnet_tiny", size: int = SIZE, seed: int = 3) -> Representation:
    return untrained(NETS[name], size=size, seed=seed)


def parts(size: int = SIZE, train: int = 120, test: int = 60) -> tuple[Source, Source]:
    """Rendered objects with ground truth."""
    return tuple(
        open_source(f"world:shapes?count={count}&size={size}&split={split}") for count, split in ((train, "train"), (test, "test"))
    )


def labels(train: Source, test: Source) -> LabelPair:
    truths = [part.truth(np.arange(len(part))) for part in (train, test)]
    return LabelPair(truths[0].labels, truths[1].labels, truths[0].classes)


def features(size: int = SIZE) -> Features:
    """Features of both parts with annotations."""
    train, test = parts(size)
    encode = make_encoder(network(size=size))
    rows = [extract_features(part, encode, size=size)[OUTPUT] for part in (train, test)]
    known, truth = (part.truth(np.arange(len(part))) for part in (train, test))
    return Features(rows[0], rows[1], known.labels, truth.labels, known.classes, truths=(known, truth))


def flat(values: dict[str, Score], about: str = "") -> dict[str, Any]:
    """Scores with their intervals, by name."""
    return {f"{about}{name}": [float(one.value), float(one.low), float(one.high)] for name, one in values.items()}


def examined(found: EvaluationResult) -> dict[str, Any]:
    """Scores, baselines with their forms, and fitted models."""
    values: dict[str, Any] = {}
    for probe, scores in found.scores.items():
        values |= flat(scores, f"{probe}/")
    for baseline, table in found.baselines.items():
        for probe, scores in table.items():
            values |= flat(scores, f"floor {baseline}/{probe}/")
    for probe, readout in found.readouts.items():
        values |= {f"readout/{probe}/{name}": array for name, array in readout.arrays.items()}
    return values


@pytest.mark.parametrize("name", [*PROBES, *LAYER_PROBES])
def test_probe(name: str) -> None:
    check(f"probe.{name}", examined(evaluate(network(), *parts(), probes=[name], baselines=True)))


@pytest.mark.parametrize("name", PROBES)
def test_probe_of_tokens(name: str) -> None:
    check(f"probe.{name}.vit_nano", examined(evaluate(network("vit_nano"), *parts(), probes=[name], baselines=False)))


@pytest.mark.parametrize("name", ANALYSES)
def test_network_measure(name: str) -> None:
    """As in evaluations, on few images; detect, finetune and segment have their full schedules."""
    phi, others = network(size=SMALL), {"other": network(size=SMALL, seed=4)} if ANALYSES[name].needs[-1:] == ("others",) else {}
    if name == "similarity":
        others = {"other": network("vit_nano", size=SMALL)}
    at = phi.layers[2:3] if name == "stitching" else ()  # one layer, for each is taught 200 steps
    found = evaluate(phi, *parts(SMALL), probes=[name], baselines=False, others=others, layers=at)
    check(
        f"network.{name}",
        examined(found) | {f"main {number}": word for number, word in enumerate(ANALYSES.load(name).main([*found.scores[name]]))},
    )


@pytest.mark.parametrize("name", ["similarity", "dissect"])
def test_network_floor(name: str) -> None:
    check(f"network.{name}.floors", examined(evaluate(network(size=SMALL), *parts(SMALL, 40, 24), probes=[name], baselines=True)))


def test_agreement() -> None:
    rng = np.random.default_rng(0)
    measures = {
        "accuracy": matched_accuracy,
        "nmi": normalised_mutual_information,
        "ami": adjusted_mutual_information,
        "ari": adjusted_rand,
    }
    truth = rng.integers(0, 7, 500)
    guesses = {
        "half right": np.where(rng.random(500) < 0.5, truth, rng.integers(0, 9, 500)),
        "by chance": rng.integers(0, 4, 500),
        "renamed": (truth * 3 + 1) % 7,
        "one": np.zeros(500, dtype=np.int64),
    }
    found: dict[str, Any] = {}
    for word, guess in guesses.items():
        table = contingency(guess, truth)
        found |= {f"{word}/table": table} | {f"{word}/{name}": float(measure(table)) for name, measure in measures.items()}
    check("agreement", found)


def test_cka() -> None:
    rng = np.random.default_rng(1)
    rows = [rng.standard_normal((80, dim)) for dim in (5, 40, 200)]
    rows += [rows[0] @ rng.standard_normal((5, 12)) + 0.5 * rng.standard_normal((80, 12)), rows[1].astype(np.float32)]
    found = {
        "unbiased": similarity_table(rows),
        "biased": similarity_table(rows, unbiased=False),
        "in batches": similarity_table(rows, batch=16),
        "pair": cka(rows[0], rows[3]),
        "biased pair": cka(rows[0], rows[1], unbiased=False),
    }
    check("cka", found)


def drawn_boxes(seed: int) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Boxes of three classes in twelve images, detected approximately; some are crowds."""
    rng, found, truth, crowds = np.random.default_rng(seed), [], [], []
    for _ in range(12):
        corner = rng.integers(0, 50, (int(rng.integers(0, 5)), 2))
        real = np.concatenate([corner, corner + rng.integers(5, 40, corner.shape), rng.integers(0, 3, (len(corner), 1))], 1).astype(float)
        near = real.repeat(2, 0) + np.concatenate([rng.integers(-3, 4, (2 * len(real), 4)), np.zeros((2 * len(real), 1))], 1)
        found.append(np.concatenate([near, rng.integers(0, 20, (len(near), 1)) / 20], 1))
        truth.append(real)
        crowds.append(rng.random(len(real)) < 0.2)
    return found, truth, crowds


def test_precision() -> None:
    found, truth, crowds = drawn_boxes(0)
    values: dict[str, Any] = {
        "table": average_precision(found, truth, 3),
        "table with crowds": average_precision(found, truth, 3, crowds=crowds),
    }
    values |= flat(score_detections(found, truth, 3)) | flat(score_detections(found, truth, 3, crowds=crowds, seed=1), "crowds/")
    values |= flat({"corloc": corloc(found, truth)})
    check("precision", values)


def test_masks() -> None:
    """Masks and classes that differ from the true ones by a shift."""
    _, test = parts(test=12)
    truth = test.truth(np.arange(len(test)))
    assert truth.masks is not None
    masks, sizes = [np.roll(np.asarray(mask) > 0, 3, axis=1) for mask in truth.masks], [np.asarray(mask).shape for mask in truth.masks]
    found: dict[str, Any] = {
        name: float(value) for name, value in (score_masks(lambda row, size: masks[row] * 0.8, test, sizes) or {}).items()
    }
    kinds = score_segments(lambda row, size: masks[row] * (1 + row % 3), test, 3, sizes)
    found["kinds"] = "not judged" if kinds is None else [kinds.value, kinds.low, kinds.high]
    check("masks", found)


def test_machines() -> None:
    known = features()
    rows = torch.from_numpy(known.train).double()
    positive = torch.from_numpy(known.train_labels)[:, None] == torch.arange(len(known.classes))
    machines = fit_machines(rows / rows.norm(dim=1, keepdim=True), positive, 1.0)
    found: dict[str, Any] = {name: getattr(machines, name) for name in ("weight", "bias", "objective", "above")}
    found |= flat(svm(known, seed=1).values, "svm/") | flat(low_shot(known, shots=(1, 3), draws=3, costs=(0.1, 10.0)).values, "low shot/")
    check("machines", found)


def test_readers() -> None:
    """Functions of probes with options other than in evaluations."""
    known = features()
    found = flat(retrieve(known, queries=20, database_size=50, seed=1).values, "retrieve/")
    found |= flat(reverse(known, clusters=6, seed=1).values, "reverse/") | flat(
        reverse_without(known, clusters=6).values, "reverse without/"
    )
    for count, scores in reverse_by_clusters(known, counts=(4,)).items():
        found |= flat(scores.values, f"reverse by {count}/")
    found |= flat(linear(known, seed=1).values, "linear/")
    probe = fit_probe(known.train, known.train_labels, len(known.classes), 1e-2)
    found |= {"probe/weight": probe.weight, "probe/bias": probe.bias}
    found |= flat({"share": proportion(np.arange(50) % 3 == 0, seed=2)})
    check("readers", found)


def test_copies() -> None:
    check("copies", flat(detect_copies(network(), parts()[0], queries=20, database_size=60).values))


def test_layers() -> None:
    train, test = parts()
    found = flat(layers(network("vit_nano"), train, test, labels(train, test), probe=knn).values)
    check("layers.knn", found)


def test_pixel_baselines() -> None:
    train, _ = parts()
    mean, std = channel_statistics(train)
    found: dict[str, Any] = {"mean": mean, "std": std}
    check("floors.pixels", found | extract_features(train, pixel_encoder(mean, std), size=SIZE))


def test_cues() -> None:
    phi, (train, test) = network(size=SMALL), parts(SMALL, 40, 24)
    found = flat(cue_conflict(phi.pooled, count=80, size=SMALL, classes=5).values, "conflict/")
    pixels = [(central_images(part, np.arange(len(part)), SMALL) * 255).round().to(torch.uint8).numpy() for part in (train, test)]
    found |= flat(global_statistics(phi.pooled, *pixels, band=1).values, "whole/")
    known = features()
    factors = {"label": known.test_labels, "noise": np.random.default_rng(0).random(len(known.test))}
    for name, told in neighbour_agreement(known.test, factors, bins=4).items():
        found |= flat({"value": told.value}, f"neighbours/{name}/") | {f"neighbours/{name}/chance": float(told.chance)}
    check("cues", found)


@pytest.mark.parametrize("net", NETS)
def test_equivariance(net: str) -> None:
    phi, (train, test) = network(net, SMALL), parts(SMALL, 24, 12)
    rows = [central_images(part, np.arange(len(part)), SMALL) for part in (train, test)]
    changes = [flipped(upright=True), rotated(30), scaled(1.2), recoloured(np.full((3, 3), 1 / 3))]
    changes = changes if net == "resnet_tiny" else changes[1:2]  # whose maps are many times as large
    found: dict[str, Any] = {}
    for change in changes:
        for layer, scores in equivariance(phi, *rows, change, layers=phi.layers[-1:], cells=4).items():
            found |= flat(scores.values, f"{change.name}/{layer}/")
    check(f"equivariance.{net}", found)


def test_bars() -> None:
    known, phi = features(SMALL), network(size=SMALL)
    train, test = parts(SMALL)
    told = linear(known)
    assert told.readout is not None
    shown = [
        (central_images(part, np.arange(len(part)), SMALL), torch.from_numpy(part.truth(np.arange(len(part))).labels))
        for part in (train, test)
    ]
    bars = compensation_errors(StitchEvaluator(phi, head_of(told.readout)), *shown, flipped(), layers=phi.layers[1:3], steps=4)
    values = {"original": bars.original, "changed": bars.changed}
    values |= {
        f"{word}/{layer}": one for word, errors in (("moved", bars.by_position), ("taught", bars.by_map)) for layer, one in errors.items()
    }
    found: dict[str, Any] = flat(values)
    found |= {f"map/{layer}": transport.state_dict() for layer, transport in bars.maps.items()}
    check("bars", found)


@pytest.mark.parametrize("net", NETS)
def test_taught(net: str) -> None:
    """Short fine-tuning of a copy."""
    phi, (train, test) = network(net, SMALL), parts(SMALL, 40, 24)
    asked, config = AnalysisInput(train, test, labels(train, test)), TuneConfig(4, 16)
    found: dict[str, Any] = {}
    for name, teach in {"finetune": finetune, "segment": segment, "detect": detect}.items():
        found |= flat(teach(phi, asked, config=config).values, f"{name}/")
    check(f"taught.{net}", found)


def test_lottery() -> None:
    def make(seed: int) -> torch.nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return torch.nn.Sequential(torch.nn.Linear(8, 12), torch.nn.ReLU(), torch.nn.Linear(12, 3)).double()

    rng = torch.Generator().manual_seed(0)
    rows, wanted = torch.randn(60, 8, generator=rng).double(), torch.arange(60) % 3

    def train(module: torch.nn.Module) -> float:
        learner = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
        for _ in range(10):
            loss = torch.nn.functional.cross_entropy(module(rows), wanted)
            learner.zero_grad()
            loss.backward()
            learner.step()
        return float(torch.nn.functional.cross_entropy(module(rows), wanted).detach())

    found: dict[str, Any] = {}
    for number, ticket in enumerate(lottery(make, train, rounds=3)):
        found |= {
            f"{number}/left": ticket.left,
            f"{number}/score": ticket.score,
            f"{number}/control": list(ticket.control),
            f"{number}/masks": dict(ticket.masks),
        }
    known = features()
    agreed = cluster_agreement([known.train, known.train[:, ::2]], 5)
    check("lottery", found | {"between": agreed.between, "within": agreed.within})


def test_banks(tmp_path: Path) -> None:
    """Evaluations with cached banks and baselines give the same results."""
    kept = [examined(evaluate(network(), *parts(), probes=["knn"], banks=tmp_path / "banks", cache=tmp_path / "floors")) for _ in range(2)]
    assert kept[0].keys() == kept[1].keys()
    check("examine.banks", kept[0])
