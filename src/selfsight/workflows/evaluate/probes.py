"""Evaluation of a representation by probes and analyses, with baselines."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from selfsight.bank.extract import extract_features, get_bank, make_encoder
from selfsight.bank.store import OUTPUT
from selfsight.core.cache import digest_of, write_atomically
from selfsight.core.errors import DataError
from selfsight.core.files import read_json
from selfsight.core.json_text import json_text
from selfsight.core.names import look_up
from selfsight.core.progress import no_progress
from selfsight.core.readout import Readout
from selfsight.core.representation import Representation
from selfsight.data.contents import truth_digest
from selfsight.data.source import Source, Subset
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
from selfsight.measure.probes.layers import LabelPair
from selfsight.measure.probes.table import LAYER_PROBES, PROBES
from selfsight.measure.results import Features, Score, Scores
from selfsight.render.panels import facts, interval, panel, table
from selfsight.workflows.evaluate.analyses.checks import check_analyses, untrained_analysis
from selfsight.workflows.evaluate.analyses.table import ANALYSES
from selfsight.workflows.evaluate.data import EvaluationData, data_notes, evaluation_data, unlabelled_part
from selfsight.workflows.evaluate.tables import lower_is_better

__all__ = ["EvaluationResult", "evaluate", "select_probes"]

VERSION = 3
"""Incremented when a probe or a baseline changes, which invalidates cached baselines."""
CHECKED = 64
"""Test images whose features are checked before an analysis."""

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
        notes: what to know about the data, such as test images that are also training images.
    """

    scores: Table
    baselines: dict[str, Table] = field(default_factory=dict)
    forms: dict[str, dict[str, dict[str, str]]] = field(default_factory=dict)
    protocol: dict[str, str] = field(default_factory=dict)
    readouts: dict[str, Readout] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def only(self, probes: Sequence[str]) -> "EvaluationResult":
        """The results of some probes."""

        def selected(table: Mapping[str, Any]) -> dict[str, Any]:
            return {probe: table[probe] for probe in probes if probe in table}

        baselines, forms = ({baseline: selected(table) for baseline, table in tables.items()} for tables in (self.baselines, self.forms))
        return EvaluationResult(selected(self.scores), baselines, forms, selected(self.protocol), selected(self.readouts), self.notes)

    def to_json(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        return {
            "scores": _plain(self.scores),
            "floors": {name: _plain(table) for name, table in self.baselines.items()},
            "protocol": self.protocol,
            "forms": self.forms,
            "notes": list(self.notes),
        }

    def _repr_html_(self) -> str:
        columns = {"this network": self.scores, **self.baselines}
        rows = [
            (probe, name, *(_cell(column, probe, name) for column in columns.values()))
            for probe in self.scores
            for name in self.scores[probe]
        ]
        protocols = [facts({f"{probe}:": text}) for probe, text in self.protocol.items()]
        notes = [facts({"note:": note}) for note in self.notes]
        return panel("Scores and baselines, with 95 % intervals", table(("probe", "score", *columns), rows), *notes, *protocols)


def _plain(table: Table) -> dict[str, dict[str, dict[str, float]]]:
    return {probe: {name: score.to_json() for name, score in scores.items()} for probe, scores in table.items()}


def _cell(table: Table, probe: str, name: str) -> str | None:
    score = table.get(probe, {}).get(name)
    return None if score is None else interval(score.value, score.low, score.high)


def select_probes(names: Sequence[str] | None, *, labelled: bool, annotated: bool = False, missing: str = "the data") -> tuple[str, ...]:
    """Check the requested probes, or select all that the data allow.

    Args:
        names: names of probes and analyses, or one text with commas between them; None, empty or ``["all"]``: all probes.
        labelled: whether the data have labels.
        annotated: whether the data have labels or attributes.
        missing: the data that have none, for the message.

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
                f"The probe {name} needs {needed}, which {missing} lack.", "Use the probe geometry, or labelled --train and --test."
            )
    return tuple(names)


def _allowed(probes: Sequence[str] | None, parts: EvaluationData) -> tuple[str, ...]:
    labelled = parts.train_labels is not None
    missing = "the data" if labelled else unlabelled_part(parts.train, parts.test)
    return select_probes(probes, labelled=labelled, annotated=parts.annotated, missing=missing)


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
    parts = evaluation_data(phi, train, test, probes)
    names = _allowed(probes, parts)
    analyses, inputs = [name for name in names if name in ANALYSES], parts.analysis_input(others or {}, layers, progress)
    check_analyses(analyses, phi, inputs)
    names = tuple(name for name in names if name not in ANALYSES)
    notes = data_notes(parts, cache, progress)
    result = _result(_measured(phi, parts, names, bf16, banks, progress, layers) | _of_networks(phi, inputs, analyses), notes)
    if baselines:
        _add_baselines(result, phi, parts, names, bf16, cache, progress)
        _add_analysis_baselines(result, phi, inputs, analyses, cache)
    return result


def _of_networks(phi: Representation, inputs: AnalysisInput, names: Sequence[str]) -> dict[str, Scores]:
    """Scores of analyses, most of which read inner layers or train a copy, and would not show that features are NaN."""
    if names:
        first = Subset(inputs.test, np.arange(min(len(inputs.test), CHECKED)))
        extract_features(first, make_encoder(phi), size=phi.size, device=phi.device)  # raises DataError
    scores: dict[str, Scores] = {}
    for name in names:
        inputs.progress(f"measure {name}")
        scores[name] = ANALYSES.load(name).measure(phi, inputs)
    return scores


def _result(results: Mapping[str, Scores], notes: tuple[str, ...]) -> EvaluationResult:
    return EvaluationResult(
        {name: scores.values for name, scores in results.items()},
        protocol={name: scores.protocol for name, scores in results.items()},
        readouts={name: scores.readout for name, scores in results.items() if scores.readout is not None},
        notes=notes,
    )


def _add_baselines(
    result: EvaluationResult,
    phi: Representation,
    parts: EvaluationData,
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
        file = _baseline_file(cache, baseline, parts.train, parts.test, *_network(baseline, phi, bf16))
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

        key_parts = (*_network("networks", phi, False), inputs.layers)  # noqa: FBT003
        file = None if inputs.others else _baseline_file(cache, "networks", inputs.train, inputs.test, *key_parts)
        table, forms = _cached([name], measure, file)
        result.baselines["untrained"] |= table
        result.forms["untrained"] |= forms


def _measured(
    phi: Representation,
    parts: EvaluationData,
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


def _features(phi: Representation, parts: EvaluationData, bf16: bool, banks: Path | None) -> Features:  # noqa: FBT001
    """Features of both parts, from cached banks if there is a folder."""
    encoder = make_encoder(phi, bf16=bf16)
    if banks is None:
        return parts.features(encoder, phi.size, phi.device)[OUTPUT]
    train_bank, test_bank = (get_bank(phi, source, banks, bf16=bf16) for source in (parts.train, parts.test))
    pairs = parts.twins(encoder, phi.size, phi.device)[OUTPUT]
    return parts.labelled(train_bank.pooled(), test_bank.pooled(), pairs)


Forms = dict[str, list[dict[str, dict[str, Score]]]]
"""Scores of each seed, by form of the baseline."""


def _untrained(phi: Representation, parts: EvaluationData, names: Sequence[str], bf16: bool) -> Forms:  # noqa: FBT001
    forms: Forms = {}
    for form, _, network in untrained_networks(phi, parts.train):
        results = _measured(network(), parts, names, bf16)
        forms.setdefault(form, []).append({name: scores.values for name, scores in results.items()})
    return forms


def _pixels(phi: Representation, parts: EvaluationData, names: Sequence[str], bf16: bool) -> Forms:  # noqa: ARG001, FBT001
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
    if cache is None:
        return None
    key_parts = (VERSION, baseline, *((source.fingerprint, truth_digest(source)) for source in (train, test)), *extra)
    return cache / f"{digest_of(key_parts, length=20)}.json"


def _score(saved: Mapping[str, float | None]) -> Score:
    """A score from its JSON, in which NaN is null."""
    return Score(**{name: np.nan if value is None else float(value) for name, value in saved.items()})


def _read_baseline(file: Path | None) -> tuple[Table, dict[str, dict[str, str]]]:
    """Scores and forms of a baseline in the cache; empty without a file, or if it is damaged."""
    if file is None or not file.is_file():
        return {}, {}
    try:
        saved = read_json(file)
        table = {probe: {name: _score(score) for name, score in scores.items()} for probe, scores in saved["scores"].items()}
        return table, {probe: dict(forms) for probe, forms in saved["forms"].items()}
    except (DataError, KeyError, TypeError, AttributeError, ValueError):
        return {}, {}


def _cached(names: Sequence[str], measure: Callable[[Sequence[str]], Forms], file: Path | None) -> tuple[Table, dict[str, dict[str, str]]]:
    """A baseline from the cache; missing probes are measured and added."""
    table, chosen = _read_baseline(file)
    missing = [name for name in names if name not in table or name not in chosen]
    if missing:
        fresh, forms = _strongest(measure(missing))
        table, chosen = table | fresh, chosen | forms
        if file:
            write_atomically(file, json_text({"scores": _plain(table), "forms": chosen}))
    return {name: table[name] for name in names}, {name: chosen[name] for name in names}
