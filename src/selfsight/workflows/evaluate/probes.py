"""The examination: every probe, for the representation and for its floors."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from selfsight.bank.extract import Encoder, extract_features, get_bank, make_encoder
from selfsight.bank.store import OUTPUT
from selfsight.core.clock import Clock, key
from selfsight.core.errors import DataError
from selfsight.core.method import Frame
from selfsight.core.names import look_up
from selfsight.core.progress import no_progress
from selfsight.core.readout import Readout
from selfsight.core.representation import Representation
from selfsight.core.views import Images
from selfsight.data.loader import load_images
from selfsight.data.source import Source, Truth
from selfsight.data.views.alignment import ALIGNMENT_VIEWS
from selfsight.measure.analysis.inputs import AnalysisInput
from selfsight.measure.baselines import PIXEL_SIDE, channel_statistics, pixel_encoder, untrained_networks
from selfsight.measure.probes.geometry import ROWS
from selfsight.measure.probes.layers import LabelPair
from selfsight.measure.probes.table import LAYER_PROBES, PROBES
from selfsight.measure.results import Features, Score, Scores
from selfsight.render.panels import facts, interval, panel, table
from selfsight.workflows.evaluate.analyses.checks import check_analysis, untrained_analysis
from selfsight.workflows.evaluate.analyses.table import ANALYSES

__all__ = ["EvaluationResult", "evaluate", "select_probes"]

LOWER_IS_BETTER = {"alignment", "uniformity"}
NETWORK_SEEDS = 2
VERSION = 2
"""Raised when a probe or a floor changes, so that cached floors are made again."""

Table = dict[str, dict[str, Score]]


@dataclass(frozen=True)
class EvaluationResult:
    """What an examination found.

    Attributes:
        scores: by probe, then by name.
        floors: the same for ``untrained`` and ``pixels``, each the strongest of its plain forms.
        forms: which form that was, by floor, probe and name.
        protocol: words, by probe.
        readouts: what was fitted, by probe.
    """

    scores: Table
    floors: dict[str, Table] = field(default_factory=dict)
    forms: dict[str, dict[str, dict[str, str]]] = field(default_factory=dict)
    protocol: dict[str, str] = field(default_factory=dict)
    readouts: dict[str, Readout] = field(default_factory=dict)

    def only(self, probes: Sequence[str]) -> "EvaluationResult":
        """What was found by some of the probes."""

        def some(table: Mapping[str, Any]) -> dict[str, Any]:
            return {probe: table[probe] for probe in probes if probe in table}

        floors, forms = ({floor: some(table) for floor, table in every.items()} for every in (self.floors, self.forms))
        return EvaluationResult(some(self.scores), floors, forms, some(self.protocol), some(self.readouts))

    def to_json(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        return {
            "scores": _plain(self.scores),
            "floors": {name: _plain(table) for name, table in self.floors.items()},
            "protocol": self.protocol,
            "forms": self.forms,
        }

    def _repr_html_(self) -> str:
        floors = {"this network": self.scores, **self.floors}
        rows = [
            (probe, name, *(_cell(every, probe, name) for every in floors.values())) for probe in self.scores for name in self.scores[probe]
        ]
        words = [facts({f"{probe}:": told}) for probe, told in self.protocol.items()]
        return panel("Scores beside their floors, with 95 % intervals", table(("probe", "score", *floors), rows), *words)


def _plain(table: Table) -> dict[str, dict[str, dict[str, float]]]:
    return {probe: {name: score.to_json() for name, score in scores.items()} for probe, scores in table.items()}


def _cell(every: Table, probe: str, name: str) -> str | None:
    score = every.get(probe, {}).get(name)
    return None if score is None else interval(score.value, score.low, score.high)


@dataclass(frozen=True)
class _Parts:
    """A training and a test source, with what is known of them."""

    train: Source
    test: Source
    train_labels: np.ndarray | None
    test_labels: np.ndarray | None
    classes: tuple[str, ...]
    truths: tuple[Truth, Truth]

    @property
    def annotated(self) -> bool:
        """Whether labels or attributes are known of both."""
        return self.train_labels is not None or bool(set(self.truths[0].attributes) & set(self.truths[1].attributes))

    def asked(self, others: Mapping[str, Representation], layers: Sequence[str], progress: Callable[[str], None]) -> AnalysisInput:
        """What measures of networks are given."""
        known = LabelPair(self.train_labels, self.test_labels, self.classes)
        return AnalysisInput(self.train, self.test, known, others, tuple(layers), progress)

    def labelled(self, train: np.ndarray, test: np.ndarray, twins: tuple[np.ndarray, np.ndarray]) -> Features:
        """Features with what is known of their samples."""
        return Features(train, test, self.train_labels, self.test_labels, self.classes, twins, self.truths)

    def features(self, encoder: Encoder, size: int, device: torch.device | None = None) -> dict[str, Features]:
        """Features of both parts by the encoder's names, with twins."""
        fitted = extract_features(self.train, encoder, size=size, device=device)
        judged = extract_features(self.test, encoder, size=size, device=device)
        twins = self.twins(encoder, size, device)
        return {name: self.labelled(fitted[name], judged[name], twins[name]) for name in fitted}

    def twins(self, encoder: Encoder, size: int, device: torch.device | None) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Features of two random crops of some test pictures, the same crops for every encoder."""
        rows = np.random.default_rng(0).permutation(len(self.test))[: ROWS // 2]
        found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
        for number, part in enumerate(np.array_split(np.sort(rows), max(len(rows) // 256, 1))):
            pictures: Images = load_images(self.test, part)
            recipe = ALIGNMENT_VIEWS[pictures.modality]
            drawn = recipe.draw(len(part), Clock(seed=key(0, 0x7121), step=number), Frame(size, 1))
            left, right = recipe.make(pictures, drawn).large
            with torch.inference_mode():
                views = (left, right) if pictures.modality == "sound" else (left.clamp(0, 1), right.clamp(0, 1))
                pair = [encoder(view.to(device) if device else view) for view in views]
            for name in pair[0]:
                found.setdefault(name, []).append((pair[0][name].float().cpu().numpy(), pair[1][name].float().cpu().numpy()))
        return {name: (np.concatenate([a for a, _ in rows]), np.concatenate([b for _, b in rows])) for name, rows in found.items()}


def select_probes(names: Sequence[str] | None, *, labelled: bool, annotated: bool = False) -> tuple[str, ...]:
    """The probes asked for, or all that the data allow; ``annotated``: attributes are known, if no labels.

    Raises:
        UsageError: there is no such probe.
        DataError: it needs labels and there are none.
    """
    known = frozenset(("labels", "labels or attributes") if labelled else ("labels or attributes",) if annotated else ())
    probes = {**PROBES, **LAYER_PROBES}
    allowed = {name for name, entry in probes.items() if known.issuperset(entry.needs)}
    if not names or list(names) == ["all"]:
        return tuple(name for name in PROBES if name in allowed)
    for name in names:
        look_up("probe", name, (*probes, *ANALYSES))
        if name in probes and name not in allowed:
            (what,) = probes[name].needs
            raise DataError(
                f"The probe {name} needs {what}, and the data have none.", "Measure geometry, or give labelled --train and --test."
            )
    return tuple(names)


def evaluate(
    phi: Representation,
    train: Source,
    test: Source,
    *,
    probes: Sequence[str] | None = None,
    floors: bool = True,
    bf16: bool = False,
    others: Mapping[str, Representation] | None = None,
    layers: Sequence[str] = (),
    banks: Path | None = None,
    cache: Path | None = None,
    progress: Callable[[str], None] = no_progress,
) -> EvaluationResult:
    """Measure a representation: fitted on one source, scored on another, beside its floors.

    Args:
        phi: the representation.
        train, test: what probes are fitted on, and what they are scored on.
        probes: names of ``PROBES``, ``LAYER_PROBES`` and ``ANALYSES``; all of ``PROBES`` that the data allow by default.
        floors: measure the floors too.
        bf16: extract features in bfloat16.
        others: networks that this one is compared with, by name (``similarity``, ``stitching``).
        layers: that ``ANALYSES`` look at; all that are worth looking at by default.
        banks, cache: folders where the representation's banks and the floors are kept; without them nothing is.
        progress: called with what is being done.
    """
    parts = _parts(train, test)
    names = select_probes(probes, labelled=parts.train_labels is not None, annotated=parts.annotated)
    whole, asked = [name for name in names if name in ANALYSES], parts.asked(others or {}, layers, progress)
    for name in whole:
        check_analysis(name, phi, asked)
    names = tuple(name for name in names if name not in ANALYSES)
    result = _result(_measured(phi, parts, names, bf16, banks, progress) | _of_networks(phi, asked, whole))
    if floors:
        _add_floors(result, phi, parts, names, bf16, cache, progress)
        _add_network_floors(result, phi, asked, whole, cache)
    return result


def _of_networks(phi: Representation, asked: AnalysisInput, names: Sequence[str]) -> dict[str, Scores]:
    found: dict[str, Scores] = {}
    for name in names:
        asked.progress(f"measure {name}")
        found[name] = ANALYSES.load(name).measure(phi, asked)
    return found


def _result(found: Mapping[str, Scores]) -> EvaluationResult:
    return EvaluationResult(
        {name: scores.values for name, scores in found.items()},
        protocol={name: scores.protocol for name, scores in found.items()},
        readouts={name: scores.readout for name, scores in found.items() if scores.readout is not None},
    )


def _add_floors(
    result: EvaluationResult,
    phi: Representation,
    parts: _Parts,
    names: Sequence[str],
    bf16: bool,  # noqa: FBT001
    cache: Path | None,
    progress: Callable[[str], None],
) -> None:
    """Floors of probes: the untrained network, and pixels."""
    for floor, forms in (("untrained", _untrained), ("pixels", _pixels)):
        has = [name for name in names if floor == "untrained" or name in PROBES]
        if has:
            progress(f"floor: {floor}")
        file = _floor_file(cache, floor, parts.train, parts.test, parts.train_labels is not None, *_network(floor, phi, bf16))
        result.floors[floor], result.forms[floor] = _cached(has, lambda missing, forms=forms: forms(phi, parts, missing, bf16), file)


def _add_network_floors(
    result: EvaluationResult, phi: Representation, asked: AnalysisInput, names: Sequence[str], cache: Path | None
) -> None:
    """Floors of measures of networks: the mean of some untrained ones; what depends on other networks is not cached."""
    form = "batch statistics estimated"
    for name in names:
        asked.progress(f"floor: untrained, {name}")

        def measure(missing: Sequence[str]) -> Forms:
            return {form: [{one: untrained_analysis(one, phi, asked, seed).values for one in missing} for seed in range(NETWORK_SEEDS)]}

        about = (asked.train, asked.test, asked.labels.train is not None, *_network("networks", phi, False), asked.layers)  # noqa: FBT003
        file = None if asked.others else _floor_file(cache, "networks", *about)
        table, forms = _cached([name], measure, file)
        result.floors["untrained"] |= table
        result.forms["untrained"] |= forms


def _parts(train: Source, test: Source) -> _Parts:
    """Both sources with their labels, where both have them."""
    known, judged = train.truth(np.arange(len(train))), test.truth(np.arange(len(test)))
    labelled = known.labels is not None and judged.labels is not None
    return _Parts(train, test, known.labels if labelled else None, judged.labels if labelled else None, known.classes, (known, judged))


def _measured(
    phi: Representation,
    parts: _Parts,
    names: Sequence[str],
    bf16: bool,  # noqa: FBT001
    banks: Path | None = None,
    progress: Callable[[str], None] = no_progress,
) -> dict[str, Scores]:
    """Every probe of a representation, on its output or inside it."""
    if names:
        progress(f"features of {len(parts.train) + len(parts.test):,} images")
    features = _features(phi, parts, bf16, banks) if set(names) & set(PROBES) else None
    found: dict[str, Scores] = {}
    for name in names:
        progress(f"probe {name}")
        if features is not None and name in PROBES:
            found[name] = PROBES.load(name)(features)
        else:
            known = LabelPair(parts.train_labels, parts.test_labels, parts.classes)
            found[name] = LAYER_PROBES.load(name)(phi, parts.train, parts.test, known, bf16=bf16, progress=progress)
    return found


def _features(phi: Representation, parts: _Parts, bf16: bool, banks: Path | None) -> Features:  # noqa: FBT001
    """What a representation says of both parts, from its banks where they are kept."""
    encoder = make_encoder(phi, bf16=bf16)
    if banks is None:
        return parts.features(encoder, phi.size, phi.device)[OUTPUT]
    fitted, judged = (get_bank(phi, source, banks, bf16=bf16) for source in (parts.train, parts.test))
    twins = parts.twins(encoder, phi.size, phi.device)[OUTPUT]
    return parts.labelled(fitted.pooled(), judged.pooled(), twins)


Forms = dict[str, list[dict[str, dict[str, Score]]]]
"""For each plain form, the scores of each seed."""


def _untrained(phi: Representation, parts: _Parts, names: Sequence[str], bf16: bool) -> Forms:  # noqa: FBT001
    forms: Forms = {}
    for form, _, network in untrained_networks(phi, parts.train):
        found = _measured(network(), parts, names, bf16)
        forms.setdefault(form, []).append({name: scores.values for name, scores in found.items()})
    return forms


def _pixels(phi: Representation, parts: _Parts, names: Sequence[str], bf16: bool) -> Forms:  # noqa: ARG001, FBT001
    size = phi.size if phi.backbone.modality == "sound" else PIXEL_SIDE  # a spectrogram is compared at its full length
    encoder = pixel_encoder(*channel_statistics(parts.train, size=size))
    features = parts.features(encoder, size)
    return {form: [{name: PROBES.load(name)(found).values for name in names}] for form, found in features.items()}


def _strongest(forms: Forms) -> tuple[Table, dict[str, dict[str, str]]]:
    """For each score the best form: the mean over its seeds, from the lowest bound to the highest."""
    table: Table = {}
    which: dict[str, dict[str, str]] = {}
    first = next(iter(forms.values()))[0]
    for probe, scores in first.items():
        for name in scores:
            means = {form: float(np.mean([seed[probe][name].value for seed in seeds])) for form, seeds in forms.items()}
            pick = (min if name in LOWER_IS_BETTER else max)(means, key=lambda form: means[form])
            seeds = [seed[probe][name] for seed in forms[pick]]
            score = Score(means[pick], min(seed.low for seed in seeds), max(seed.high for seed in seeds))
            table.setdefault(probe, {})[name] = score
            count = f", mean of {len(seeds)} seeds" if len(seeds) > 1 else ""
            which.setdefault(probe, {})[name] = f"{pick}{count}"
    return table, which


def _network(floor: str, phi: Representation, bf16: bool) -> tuple[object, ...]:  # noqa: FBT001
    """What a floor depends on beside the data."""
    return () if floor == "pixels" else (phi.spec, phi.size, phi.mean, phi.std, bf16)


def _floor_file(cache: Path | None, floor: str, train: Source, test: Source, *more: object) -> Path | None:
    about = (VERSION, floor, train.fingerprint, test.fingerprint, *more)
    return cache / f"{hashlib.sha256(repr(about).encode()).hexdigest()[:20]}.json" if cache else None


def _cached(names: Sequence[str], measure: Callable[[Sequence[str]], Forms], file: Path | None) -> tuple[Table, dict[str, dict[str, str]]]:
    """A floor from the cache, with the probes that it lacks measured and added."""
    saved: Mapping[str, Any] = json.loads(file.read_text()) if file and file.is_file() else {"scores": {}, "forms": {}}
    missing = [name for name in names if name not in saved["scores"]]
    table = {probe: {name: Score(**score) for name, score in scores.items()} for probe, scores in saved["scores"].items()}
    which = dict(saved["forms"])
    if missing:
        fresh, forms = _strongest(measure(missing))
        table, which = table | fresh, which | forms
        if file:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps({"scores": _plain(table), "forms": which}))
    return {name: table[name] for name in names}, {name: which[name] for name in names}
