"""Evaluation of a representation by probes and analyses, with baselines."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from selfsight.bank.extract import Encoder, extract_features, get_bank, make_encoder
from selfsight.bank.store import OUTPUT
from selfsight.core.cache import digest_of, write_atomically
from selfsight.core.clock import Clock, key
from selfsight.core.errors import DataError
from selfsight.core.method import Frame
from selfsight.core.names import look_up
from selfsight.core.progress import no_progress
from selfsight.core.readout import Readout
from selfsight.core.representation import Representation
from selfsight.core.views import Images
from selfsight.data.evaluation_view import check_modality
from selfsight.data.loader import load_images
from selfsight.data.source import Source, Truth
from selfsight.data.views.alignment import ALIGNMENT_VIEWS
from selfsight.measure.analysis.inputs import AnalysisInput
from selfsight.measure.baselines import (
    ANALYSIS_SEEDS,
    ESTIMATED,
    PIXEL_SIDE,
    channel_statistics,
    pixel_encoder,
    strongest_form,
    untrained_networks,
)
from selfsight.measure.probes.geometry import ROWS
from selfsight.measure.probes.layers import LabelPair
from selfsight.measure.probes.table import LAYER_PROBES, PROBES
from selfsight.measure.results import Features, Score, Scores
from selfsight.render.panels import facts, interval, panel, table
from selfsight.workflows.evaluate.analyses.checks import check_analysis, untrained_analysis
from selfsight.workflows.evaluate.analyses.table import ANALYSES
from selfsight.workflows.evaluate.tables import lower_is_better

__all__ = ["EvaluationResult", "evaluate", "select_probes"]

VERSION = 2
"""Incremented when a probe or a baseline changes, which invalidates cached baselines."""

Table = dict[str, dict[str, Score]]


@dataclass(frozen=True)
class EvaluationResult:
    """Results of an evaluation.

    Attributes:
        scores: by probe, then by name.
        baselines: the same for the baselines ``untrained`` and ``pixels``, each the best of its forms.
        forms: that form, by baseline, probe and name.
        protocol: description by probe.
        readouts: fitted models by probe.
    """

    scores: Table
    baselines: dict[str, Table] = field(default_factory=dict)
    forms: dict[str, dict[str, dict[str, str]]] = field(default_factory=dict)
    protocol: dict[str, str] = field(default_factory=dict)
    readouts: dict[str, Readout] = field(default_factory=dict)

    def only(self, probes: Sequence[str]) -> "EvaluationResult":
        """The results of some probes."""

        def selected(table: Mapping[str, Any]) -> dict[str, Any]:
            return {probe: table[probe] for probe in probes if probe in table}

        baselines, forms = ({baseline: selected(table) for baseline, table in tables.items()} for tables in (self.baselines, self.forms))
        return EvaluationResult(selected(self.scores), baselines, forms, selected(self.protocol), selected(self.readouts))

    def to_json(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        return {
            "scores": _plain(self.scores),
            "floors": {name: _plain(table) for name, table in self.baselines.items()},
            "protocol": self.protocol,
            "forms": self.forms,
        }

    def _repr_html_(self) -> str:
        columns = {"this network": self.scores, **self.baselines}
        rows = [
            (probe, name, *(_cell(column, probe, name) for column in columns.values()))
            for probe in self.scores
            for name in self.scores[probe]
        ]
        protocols = [facts({f"{probe}:": text}) for probe, text in self.protocol.items()]
        return panel("Scores and baselines, with 95 % intervals", table(("probe", "score", *columns), rows), *protocols)


def _plain(table: Table) -> dict[str, dict[str, dict[str, float]]]:
    return {probe: {name: score.to_json() for name, score in scores.items()} for probe, scores in table.items()}


def _cell(table: Table, probe: str, name: str) -> str | None:
    score = table.get(probe, {}).get(name)
    return None if score is None else interval(score.value, score.low, score.high)


@dataclass(frozen=True)
class _Parts:
    """A training and a test source with their annotations."""

    train: Source
    test: Source
    train_labels: np.ndarray | None
    test_labels: np.ndarray | None
    classes: tuple[str, ...]
    truths: tuple[Truth, Truth]

    @property
    def annotated(self) -> bool:
        """Whether both have labels or common attributes."""
        return self.train_labels is not None or bool(set(self.truths[0].attributes) & set(self.truths[1].attributes))

    def analysis_input(self, others: Mapping[str, Representation], layers: Sequence[str], progress: Callable[[str], None]) -> AnalysisInput:
        """The input of analyses."""
        labels = LabelPair(self.train_labels, self.test_labels, self.classes)
        return AnalysisInput(self.train, self.test, labels, others, tuple(layers), progress)

    def labelled(self, train: np.ndarray, test: np.ndarray, twins: tuple[np.ndarray, np.ndarray]) -> Features:
        """Features with the annotations of their samples."""
        return Features(train, test, self.train_labels, self.test_labels, self.classes, twins, self.truths)

    def features(self, encoder: Encoder, size: int, device: torch.device | None = None) -> dict[str, Features]:
        """Features of both parts by the encoder's names, with features of augmented pairs."""
        train_features = extract_features(self.train, encoder, size=size, device=device)
        test_features = extract_features(self.test, encoder, size=size, device=device)
        pairs = self.twins(encoder, size, device)
        return {name: self.labelled(train_features[name], test_features[name], pairs[name]) for name in train_features}

    def twins(self, encoder: Encoder, size: int, device: torch.device | None) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Features of two random crops of some test images, the same crops for every encoder."""
        rows = np.random.default_rng(0).permutation(len(self.test))[: ROWS // 2]
        features: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
        for number, part in enumerate(np.array_split(np.sort(rows), max(len(rows) // 256, 1))):
            images: Images = load_images(self.test, part)
            recipe = ALIGNMENT_VIEWS[images.modality]
            drawn = recipe.draw(len(part), Clock(seed=key(0, 0x7121), step=number), Frame(size, 1))
            left, right = recipe.make(images, drawn).large
            with torch.inference_mode():
                views = (left, right) if images.modality == "sound" else (left.clamp(0, 1), right.clamp(0, 1))
                pair = [encoder(view.to(device) if device else view) for view in views]
            for name in pair[0]:
                features.setdefault(name, []).append((pair[0][name].float().cpu().numpy(), pair[1][name].float().cpu().numpy()))
        return {name: (np.concatenate([a for a, _ in rows]), np.concatenate([b for _, b in rows])) for name, rows in features.items()}


def select_probes(names: Sequence[str] | None, *, labelled: bool, annotated: bool = False) -> tuple[str, ...]:
    """Check the requested probes, or select all that the data allow.

    Args:
        names: names of probes and analyses, or one text with commas between them; None, empty or ``["all"]``: all probes.
        labelled: whether the data have labels.
        annotated: whether the data have labels or attributes.

    Raises:
        UsageError: a probe does not exist.
        DataError: a probe needs labels and there are none.
    """
    names = names.split(",") if isinstance(names, str) else names
    available = frozenset(("labels", "labels or attributes") if labelled else ("labels or attributes",) if annotated else ())
    probes = {**PROBES, **LAYER_PROBES}
    allowed = {name for name, entry in probes.items() if available.issuperset(entry.needs)}
    if not names or list(names) == ["all"]:
        return tuple(name for name in PROBES if name in allowed)
    for name in names:
        look_up("probe", name, (*probes, *ANALYSES))
        if name in probes and name not in allowed:
            (needed,) = probes[name].needs
            raise DataError(
                f"The probe {name} needs {needed}, and the data have none.", "Use the probe geometry, or labelled --train and --test."
            )
    return tuple(names)


def evaluate(
    phi: Representation,
    train: Source,
    test: Source,
    *,
    probes: Sequence[str] | None = None,
    baselines: bool = True,
    bf16: bool = False,
    others: Mapping[str, Representation] | None = None,
    layers: Sequence[str] = (),
    banks: Path | None = None,
    cache: Path | None = None,
    progress: Callable[[str], None] = no_progress,
) -> EvaluationResult:
    """Evaluate a representation with probes that are fitted on one source and scored on another, and with analyses; score baselines as well.

    Args:
        phi: the representation.
        train: source on which probes are fitted.
        test: source on which they are scored.
        probes: names in ``PROBES``, ``LAYER_PROBES`` and ``ANALYSES``; None: all of ``PROBES`` that the data allow.
        baselines: also score the baselines.
        bf16: extract features in bfloat16.
        others: other networks by name, for comparison (``similarity``, ``stitching``).
        layers: layers for ``LAYER_PROBES`` and ``ANALYSES``; empty: ``phi.layers``.
        banks: folder of cached features; None: no cache.
        cache: folder of cached baselines; None: no cache.
        progress: called with a line per step.
    """
    parts = _parts(phi, train, test)
    names = select_probes(probes, labelled=parts.train_labels is not None, annotated=parts.annotated)
    analyses, inputs = [name for name in names if name in ANALYSES], parts.analysis_input(others or {}, layers, progress)
    for name in analyses:
        check_analysis(name, phi, inputs)
    names = tuple(name for name in names if name not in ANALYSES)
    result = _result(_measured(phi, parts, names, bf16, banks, progress, layers) | _of_networks(phi, inputs, analyses))
    if baselines:
        _add_baselines(result, phi, parts, names, bf16, cache, progress)
        _add_analysis_baselines(result, phi, inputs, analyses, cache)
    return result


def _of_networks(phi: Representation, inputs: AnalysisInput, names: Sequence[str]) -> dict[str, Scores]:
    scores: dict[str, Scores] = {}
    for name in names:
        inputs.progress(f"measure {name}")
        scores[name] = ANALYSES.load(name).measure(phi, inputs)
    return scores


def _result(results: Mapping[str, Scores]) -> EvaluationResult:
    return EvaluationResult(
        {name: scores.values for name, scores in results.items()},
        protocol={name: scores.protocol for name, scores in results.items()},
        readouts={name: scores.readout for name, scores in results.items() if scores.readout is not None},
    )


def _add_baselines(
    result: EvaluationResult,
    phi: Representation,
    parts: _Parts,
    names: Sequence[str],
    bf16: bool,  # noqa: FBT001
    cache: Path | None,
    progress: Callable[[str], None],
) -> None:
    """Baselines of probes: the untrained network, and pixels."""
    for baseline, forms in (("untrained", _untrained), ("pixels", _pixels)):
        has = [name for name in names if baseline == "untrained" or name in PROBES]
        if has:
            progress(f"baseline: {baseline}")
        file = _baseline_file(cache, baseline, parts.train, parts.test, parts.train_labels is not None, *_network(baseline, phi, bf16))
        result.baselines[baseline], result.forms[baseline] = _cached(
            has, lambda missing, forms=forms: forms(phi, parts, missing, bf16), file
        )


def _add_analysis_baselines(
    result: EvaluationResult, phi: Representation, inputs: AnalysisInput, names: Sequence[str], cache: Path | None
) -> None:
    """Baselines of analyses: the mean over untrained networks; results that depend on other networks are not cached."""
    for name in names:
        inputs.progress(f"baseline: untrained, {name}")

        def measure(missing: Sequence[str]) -> Forms:
            seeds = range(ANALYSIS_SEEDS)
            return {ESTIMATED: [{each: untrained_analysis(each, phi, inputs, seed).values for each in missing} for seed in seeds]}

        key_parts = (inputs.train, inputs.test, inputs.labels.train is not None, *_network("networks", phi, False), inputs.layers)  # noqa: FBT003
        file = None if inputs.others else _baseline_file(cache, "networks", *key_parts)
        table, forms = _cached([name], measure, file)
        result.baselines["untrained"] |= table
        result.forms["untrained"] |= forms


def _parts(phi: Representation, train: Source, test: Source) -> _Parts:
    """Both sources, checked to have the network's modality, with labels if both have them."""
    for source in (train, test):
        check_modality(source, phi)
    truths = train.truth(np.arange(len(train))), test.truth(np.arange(len(test)))
    labelled = all(truth.labels is not None for truth in truths)
    train_labels, test_labels = (truth.labels if labelled else None for truth in truths)
    return _Parts(train, test, train_labels, test_labels, truths[0].classes, truths)


def _measured(
    phi: Representation,
    parts: _Parts,
    names: Sequence[str],
    bf16: bool,  # noqa: FBT001
    banks: Path | None = None,
    progress: Callable[[str], None] = no_progress,
    layers: Sequence[str] = (),
) -> dict[str, Scores]:
    """Scores of every probe, on the output or on layers of a representation."""
    if names:
        progress(f"features of {len(parts.train) + len(parts.test):,} images")
    features = _features(phi, parts, bf16, banks) if set(names) & set(PROBES) else None
    scores: dict[str, Scores] = {}
    for name in names:
        progress(f"probe {name}")
        if features is not None and name in PROBES:
            scores[name] = PROBES.load(name)(features)
        else:
            labels = LabelPair(parts.train_labels, parts.test_labels, parts.classes)
            scores[name] = LAYER_PROBES.load(name)(phi, parts.train, parts.test, labels, names=layers, bf16=bf16, progress=progress)
    return scores


def _features(phi: Representation, parts: _Parts, bf16: bool, banks: Path | None) -> Features:  # noqa: FBT001
    """Features of both parts, from cached banks if there is a folder."""
    encoder = make_encoder(phi, bf16=bf16)
    if banks is None:
        return parts.features(encoder, phi.size, phi.device)[OUTPUT]
    train_bank, test_bank = (get_bank(phi, source, banks, bf16=bf16) for source in (parts.train, parts.test))
    pairs = parts.twins(encoder, phi.size, phi.device)[OUTPUT]
    return parts.labelled(train_bank.pooled(), test_bank.pooled(), pairs)


Forms = dict[str, list[dict[str, dict[str, Score]]]]
"""Scores of each seed, by form of the baseline."""


def _untrained(phi: Representation, parts: _Parts, names: Sequence[str], bf16: bool) -> Forms:  # noqa: FBT001
    forms: Forms = {}
    for form, _, network in untrained_networks(phi, parts.train):
        results = _measured(network(), parts, names, bf16)
        forms.setdefault(form, []).append({name: scores.values for name, scores in results.items()})
    return forms


def _pixels(phi: Representation, parts: _Parts, names: Sequence[str], bf16: bool) -> Forms:  # noqa: ARG001, FBT001
    size = phi.size if phi.backbone.modality == "sound" else PIXEL_SIDE  # a spectrogram is compared at its full length
    encoder = pixel_encoder(*channel_statistics(parts.train, size=size))
    features = parts.features(encoder, size)
    return {form: [{name: PROBES.load(name)(found).values for name in names}] for form, found in features.items()}


def _strongest(forms: Forms) -> tuple[Table, dict[str, dict[str, str]]]:
    """For each score the best form: the mean over its seeds, with the lowest and the highest bound."""
    table: Table = {}
    chosen: dict[str, dict[str, str]] = {}
    first = next(iter(forms.values()))[0]
    for probe, scores in first.items():
        for name in scores:
            by_form = {form: [seed[probe][name] for seed in seeds] for form, seeds in forms.items()}
            best, score = strongest_form(by_form, lower=lower_is_better(probe, name))
            table.setdefault(probe, {})[name] = score
            count = f", mean of {len(forms[best])} seeds" if len(forms[best]) > 1 else ""
            chosen.setdefault(probe, {})[name] = f"{best}{count}"
    return table, chosen


def _network(baseline: str, phi: Representation, bf16: bool) -> tuple[object, ...]:  # noqa: FBT001
    """What a baseline depends on besides the data."""
    return () if baseline == "pixels" else (phi.spec, phi.size, phi.mean, phi.std, bf16)


def _baseline_file(cache: Path | None, baseline: str, train: Source, test: Source, *extra: object) -> Path | None:
    key_parts = (VERSION, baseline, train.fingerprint, test.fingerprint, *extra)
    return cache / f"{digest_of(key_parts, length=20)}.json" if cache else None


def _cached(names: Sequence[str], measure: Callable[[Sequence[str]], Forms], file: Path | None) -> tuple[Table, dict[str, dict[str, str]]]:
    """A baseline from the cache; missing probes are measured and added."""
    saved: Mapping[str, Any] = json.loads(file.read_text()) if file and file.is_file() else {"scores": {}, "forms": {}}
    missing = [name for name in names if name not in saved["scores"]]
    table = {probe: {name: Score(**score) for name, score in scores.items()} for probe, scores in saved["scores"].items()}
    chosen = dict(saved["forms"])
    if missing:
        fresh, forms = _strongest(measure(missing))
        table, chosen = table | fresh, chosen | forms
        if file:
            write_atomically(file, json.dumps({"scores": _plain(table), "forms": chosen}))
    return {name: table[name] for name in names}, {name: chosen[name] for name in names}
