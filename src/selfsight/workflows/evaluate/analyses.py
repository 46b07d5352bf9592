"""Measures of whole networks, asked for by name: what layers say of changed pictures, of each other, of concepts, and of other networks.

Each is a function from a representation and what it is measured on (``AnalysisInput``) to a table of scores with its protocol, and has a floor:
the same of the untrained network, its batch statistics estimated on training pictures (for ``stitching``: of the network that is stitched
to it). The parts of a score's name are separated by ``/``, such as ``horizontal flip/stages.1/ridge``. Where a layer is not named, all that
are worth looking at are taken; pictures are drawn evenly from the data set, as many as each measure says.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import torch

from selfsight.backbones.loading import untrained_twin
from selfsight.bank.extract import extract_features, make_encoder
from selfsight.bank.store import OUTPUT
from selfsight.core.clock import key
from selfsight.core.errors import DataError, UsageError
from selfsight.core.names import look_up
from selfsight.core.representation import Representation
from selfsight.data.source import Subset, Truth
from selfsight.measure.analysis.cues import cue_conflict, global_statistics
from selfsight.measure.analysis.dissect import Concepts, dissect, region_concepts, scene_concepts, segment_concepts, turned_at_random
from selfsight.measure.analysis.equivalence import StitchEvaluator, head_of, stitching
from selfsight.measure.analysis.equivariance import equivariance, flipped, mean_score, rotated
from selfsight.measure.analysis.inputs import AnalysisInput, central_images, evenly_spaced_rows, spatial_layers
from selfsight.measure.analysis.similarity import similarity_table
from selfsight.measure.baselines import estimate_statistics
from selfsight.measure.probes.linear import linear
from selfsight.measure.results import Features, Score, Scores, proportion
from selfsight.tasks.classify import finetune
from selfsight.tasks.detect import detect
from selfsight.tasks.segment import segment

__all__ = ["ANALYSES", "Analysis", "AnalysisInput", "check_analysis", "concepts_of", "untrained_analysis"]

MAPS = ("identity", "permutation", "sparse", "ridge")
CHANGES = (flipped(), rotated(90))
CELLS = 8
"""Grids of more cells a side are averaged down to so many before maps are fitted."""
FEW, SMALL = 64, 16
"""Side in pixels above which fewer pictures are taken; the least side of pictures whose seams are repaired."""
HALVES = 10


@dataclass(frozen=True)
class Analysis:
    """A measure by name.

    Attributes:
        about: what it says, in a line.
        measure: from a network to scores.
        main: which of its scores stand in a table of several networks.
        needs: what it cannot do without: ``labels``; ``masks`` or ``boxes`` (of test pictures); ``others``.
    """

    about: str
    measure: Callable[[Representation, AnalysisInput], Scores]
    main: Callable[[Sequence[str]], list[str]]
    needs: tuple[str, ...] = ()


def check_analysis(name: str, phi: Representation, asked: AnalysisInput) -> None:
    """Refuse what the data, or a single network, do not allow, before anything is measured.

    Raises:
        DataError: labels or masks are needed, and there are none.
        UsageError: it compares networks and there is one, or there is no such layer.
    """
    needs = ANALYSES[name].needs
    if "labels" in needs and asked.labels.train is None:
        raise DataError(f"The measure {name} needs labels, and the data have none.", "Give labelled --train and --test.")
    truth = asked.test.truth(np.arange(min(len(asked.test), 1)))
    for what, there in (("masks", truth.masks), ("boxes", truth.boxes)):
        if what in needs and there is None:
            raise DataError(
                f"The measure {name} needs {what} of the test pictures, and there are none.",
                f"Give a world as --test, or --truth with {what}.",
            )
    if "others" in needs and not asked.others:
        raise UsageError(f"The measure {name} joins two networks, and there is one.", "Name another: selfsight measure RUN RUN2 …")
    for layer in asked.layers:
        look_up("layer", layer, phi.layers)


def untrained_analysis(name: str, phi: Representation, asked: AnalysisInput, seed: int) -> Scores:
    """The floor: the same of a network with random weights and the batch statistics of training pictures.

    Raises:
        UsageError: an architecture has no name to build it from.
    """

    def twin(of: Representation) -> Representation:
        found = untrained_twin(of, key(seed, 0xF1008))
        estimate_statistics(found, asked.train, seed=seed)
        return found

    if "others" in ANALYSES[name].needs:
        return ANALYSES[name].measure(phi, replace(asked, others={other: twin(first) for other, first in asked.others.items()}))
    return ANALYSES[name].measure(twin(phi), asked)


def _equivariance(phi: Representation, asked: AnalysisInput) -> Scores:
    """Relative errors of maps from features of pictures to those of changed pictures."""
    fitted, judged = (300, 150) if phi.size <= FEW else (200, 100)
    train, test = (
        central_images(part, evenly_spaced_rows(part, most), phi.size) for part, most in ((asked.train, fitted), (asked.test, judged))
    )
    values, words = dict[str, Score](), ""
    for change in CHANGES:
        asked.progress(f"maps of features under a {change.name}")
        told = equivariance(phi, train, test, change, layers=spatial_layers(phi, asked.layers), kinds=MAPS, cells=CELLS)
        for layer, scores in told.items():
            values |= {f"{change.name}/{layer}/{kind}": score for kind, score in scores.values.items()}
            words = scores.protocol
    about = f"at each layer, as in: {words}; constant says the mean of changed features whatever the picture; lower is nearer"
    return Scores(values, about)


def _similarity(phi: Representation, asked: AnalysisInput) -> Scores:
    """CKA of every two layers, and of the outputs of all layers with those of other networks."""
    rows = evenly_spaced_rows(asked.test, 1000)
    source, own = Subset(asked.test, rows), asked.layers or phi.layers
    said: dict[str, np.ndarray] = {}
    for name, network in {"": phi, **asked.others}.items():
        asked.progress(f"layers of {name or 'the network'}")
        chosen = own if not name else network.layers
        found = extract_features(source, make_encoder(network, chosen), size=network.size, device=network.device)
        said |= {f"{name}/{layer}" if name else layer: found[layer] for layer in (*chosen, OUTPUT)}
    inside = (*own, OUTPUT)
    pairs = [pair for pair in combinations(said, 2) if pair[0] in inside]
    whole, dice = similarity_table(list(said.values())), np.random.default_rng(0)
    places = {name: place for place, name in enumerate(said)}
    halves = [dice.permutation(len(rows))[: len(rows) // 2] for _ in range(HALVES)]
    tables = np.stack([similarity_table([each[half] for each in said.values()]) for half in halves])
    values = {}
    for left, right in pairs:
        value, spread = whole[places[left], places[right]], tables[:, places[left], places[right]].std(ddof=1)
        values[f"{left}/{right}"] = Score(float(value), float(value - 1.96 * spread), float(value + 1.96 * spread))
    words = (
        f"linear CKA, estimated without bias, of {len(rows)} test pictures' features (averaged over places) at every two layers; "
        f"intervals from the spread of {HALVES} random halves"
    )
    return Scores(values, words)


def _cues(phi: Representation, asked: AnalysisInput) -> Scores:
    """Shape against texture on rendered objects; wholes against their shuffled parts on the data's own pictures."""
    if phi.backbone.channels != 3:
        raise UsageError(f"Cues are of colour pictures, and {phi.name} sees {phi.backbone.channels} channels.", "Measure another network.")
    if phi.size < SMALL or phi.size % 2:
        raise UsageError(
            f"Pictures of {phi.size} px cannot be cut into tiles.", f"Measure a network of {SMALL} px or more, an even number."
        )
    small = phi.size <= FEW
    asked.progress("shape against texture")
    conflict = cue_conflict(phi.pooled, count=2000 if small else 800, size=phi.size)
    asked.progress("wholes against shuffled parts")
    parts = [
        (central_images(part, evenly_spaced_rows(part, most), phi.size) * 255).round().clamp(0, 255).to(torch.uint8).numpy()
        for part, most in ((asked.train, 400 if small else 100), (asked.test, 200 if small else 100))
    ]
    whole = global_statistics(phi.pooled, parts[0], parts[1], band=min(2, phi.size // 8) if small else 1)
    values = {"conflict/shape bias": conflict.values["shape_bias"], "conflict/coverage": conflict.values["coverage"]}
    values |= {"conflict/right where cues agree": conflict.values["agree"]}
    values |= {f"whole/{name}": whole.values[score] for name, score in (("features", "features"), ("colour histogram", "histogram"))}
    words = (
        f"conflict: {conflict.protocol}; coverage is the share of pictures of which either cue was right. whole: {whole.protocol}, "
        f"{len(parts[0])} training and {len(parts[1])} test pictures, each with its twin"
    )
    return Scores(values, words)


def concepts_of(truth: Truth) -> Concepts:
    """All that masks know: of scenes four categories, of other data classes of objects, or objects."""
    if {"texture_name", "background_name", "value"} <= set(truth.attributes):
        return scene_concepts(truth)
    if truth.boxes is None and truth.labels is None:
        return region_concepts(truth, "object", ["object"] * len(truth.masks or ()))
    return segment_concepts(truth)


def _dissection(phi: Representation, asked: AnalysisInput) -> Scores:
    """Units that detect a concept; the largest IoU of any unit with each concept."""
    rows = evenly_spaced_rows(asked.test, 500 if phi.size <= FEW else 200)
    source = Subset(asked.test, rows)
    concepts, values, words = concepts_of(asked.test.truth(rows)), dict[str, Score](), ""
    for layer in asked.layers or spatial_layers(phi)[-1:]:
        asked.progress(f"units of {layer} against {len(concepts.names)} concepts")
        found = dissect(phi, source, concepts, layer=layer)
        units = len(found.ious)
        turned = dissect(phi, source, concepts, layer=layer, turn=turned_at_random(units))
        for name, one in (("units", found), ("random directions", turned)):
            values[f"{layer}/detectors among {name}"] = proportion(np.isin(np.arange(units), list(one.detectors())))
        values[f"{layer}/best IoU of a unit, mean"] = mean_score(found.ious.max(1), 0)
        best = found.ious.max(0)
        values |= {
            f"{layer}/{kind} {name}": Score(float(iou), float(iou), float(iou))
            for kind, name, iou in zip(found.categories, found.names, best, strict=True)
        }
        words = found.protocol
    about = "a detector has an IoU above 0.04; a concept's score is the largest IoU of any unit; intervals over units, where there are any"
    return Scores(values, f"{words}; {about}")


def _pairs(first: Representation, rest: Representation, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """A layer of one network for each of the other's: that of the same name, else of the same depth."""
    here, there = spatial_layers(first), spatial_layers(rest, names)
    for at in there:
        depth = rest.layers.index(at) / max(len(rest.layers) - 1, 1)
        yield (at if at in here else here[round(depth * (len(here) - 1))]), at


def _stitching(phi: Representation, asked: AnalysisInput) -> Scores:
    """Errors of the rest of the network on first parts of others, layer by layer."""
    known, truth = asked.labels.train, asked.labels.test
    assert known is not None and truth is not None  # noqa: PT018
    parts = []
    for source, labels, most in ((asked.train, known, 4000), (asked.test, truth, 2000)):
        rows = np.flatnonzero(labels >= 0)
        rows = rows[np.linspace(0, len(rows) - 1, min(most if phi.size <= FEW else most // 4, len(rows))).astype(np.int64)]
        parts.append((central_images(source, rows, phi.size), torch.from_numpy(labels[rows])))
    train, test = parts
    with torch.no_grad():
        fitted, judged = (torch.cat([phi.pooled(some).float().cpu() for some in part.split(256)]).numpy() for part, _ in parts)
    probe = linear(Features(fitted, judged, train[1].numpy(), test[1].numpy(), asked.labels.classes))
    assert probe.readout is not None
    judge = StitchEvaluator(phi, head_of(probe.readout))
    values = {"not stitched": judge.error(*test)}
    for other, first in asked.others.items():
        if first.size != phi.size:
            raise UsageError(
                f"{phi.name} sees pictures of {phi.size} px, {other} of {first.size} px.", "Stitch networks of one size (--size)."
            )
        for layer, at in _pairs(first, phi, asked.layers):
            asked.progress(f"stitching after {layer} of {other}")
            found = stitching(first, judge, train, test, layer=layer, at=at)
            where = f"{other}/{at}" if layer == at else f"{other}/{layer} to {at}"
            values |= {f"{where}/before training": found.drawn, f"{where}/naive": found.identity, f"{where}/learned": found.taught}
    words = (
        f"errors of {len(test[1])} test pictures by the rest of this network and its linear probe, on the first part of another network up to a "
        f"layer; between them filters 1 x 1: as drawn, the identity (naive), and learned by 200 steps of 64 of {len(train[1])} training pictures"
    )
    return Scores(values, words)


def _named(*endings: str) -> Callable[[Sequence[str]], list[str]]:
    """Scores whose names end so."""
    return lambda names: [name for name in names if name.endswith(endings)]


def _outputs(names: Sequence[str]) -> list[str]:
    """The likeness of a network's output to that of others."""
    return [name for name in names if name.startswith(f"{OUTPUT}/") and name.endswith(f"/{OUTPUT}")]


def _last_of(*endings: str) -> Callable[[Sequence[str]], list[str]]:
    """Of scores with the same beginning and one of these endings, the last; that is the deepest layer's."""

    def main(names: Sequence[str]) -> list[str]:
        last = {(name.split("/")[0], name.split("/")[-1]): name for name in names if name.endswith(endings)}
        return list(last.values())

    return main


ANALYSES: dict[str, Analysis] = {
    "cues": Analysis(
        "shape bias where cues conflict, and wholes told from shuffled parts", _cues, _named("bias", "coverage", "whole/features")
    ),
    "dissect": Analysis("units that detect concepts of masks", _dissection, _named("among units", "mean"), ("masks",)),
    "equivariance": Analysis(
        "how features follow a flip and a turn, by the best map of each kind", _equivariance, _last_of("identity", "permutation", "ridge")
    ),
    "detect": Analysis("boxes of objects, taught to a copy: AP, AP50, AP75", detect, list, ("boxes",)),
    "finetune": Analysis("classes, taught to a copy: whole, with a tenth of the labels, and from a layer on", finetune, list, ("labels",)),
    "segment": Analysis("classes of pixels, taught to a copy: mean IoU", segment, _named("mean IoU"), ("masks",)),
    "similarity": Analysis("CKA of all layers, and with other networks", _similarity, _outputs),
    "stitching": Analysis(
        "whether the first part of another network goes with the rest of this", _stitching, _last_of("learned"), ("labels", "others")
    ),
}
"""By name; not asked for by ``all``, for they take minutes."""
