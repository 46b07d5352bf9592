"""The examination: every probe, for the representation and for its floors."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from selfsight.bank.extract import Encoder, bank_of, encoder_of, pass_through
from selfsight.bank.store import OUTPUT
from selfsight.core.clock import Clock, key
from selfsight.core.errors import DataError
from selfsight.core.method import Frame
from selfsight.core.names import look_up
from selfsight.core.readout import Readout
from selfsight.core.representation import Representation
from selfsight.core.say import quiet
from selfsight.core.views import Images
from selfsight.data.loader import images
from selfsight.data.source import Source, Truth
from selfsight.data.views.geometry import Normalise
from selfsight.data.views.recipes import PLAIN, TwoCrops
from selfsight.measure.cluster import cluster
from selfsight.measure.floors import PIXEL_SIDE, channel_statistics, pixel_encoder, untrained_networks
from selfsight.measure.geometry import ROWS, geometry
from selfsight.measure.knn import knn
from selfsight.measure.layers import Labelled, layers
from selfsight.measure.linear import linear
from selfsight.measure.retrieve import retrieve
from selfsight.measure.reverse import reverse
from selfsight.measure.scores import Features, Score, Scores
from selfsight.measure.svm import svm

__all__ = ["INSIDE", "PROBES", "Examination", "examine"]

PROBES: dict[str, Callable[[Features], Scores]] = {
    "cluster": cluster,
    "geometry": geometry,
    "knn": knn,
    "linear": linear,
    "retrieve": retrieve,
    "reverse": reverse,
    "svm": svm,
}
"""What is measured on a network's output, and asked for by ``all``."""
INSIDE = ("layers",)
"""What looks inside the network: asked for by name alone, for it takes a probe a layer; raw pixels have no inside."""
LOWER_IS_BETTER = {"alignment", "uniformity"}
LABEL_FREE = {"geometry"}
TWINS = TwoCrops(PLAIN, PLAIN, Normalise((0.0,) * 3, (1.0,) * 3))
"""The two crops of a picture whose features shall be aligned; pixels in [0, 1]."""
VERSION = 1
"""Raised when a probe or a floor changes, so that cached floors are made again."""

Table = dict[str, dict[str, Score]]


@dataclass(frozen=True)
class Examination:
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

    def to_plain(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        return {
            "scores": _plain(self.scores),
            "floors": {name: _plain(table) for name, table in self.floors.items()},
            "protocol": self.protocol,
            "forms": self.forms,
        }


def _plain(table: Table) -> dict[str, dict[str, dict[str, float]]]:
    return {probe: {name: score.to_plain() for name, score in scores.items()} for probe, scores in table.items()}


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
    def described(self) -> bool:
        """Whether labels or attributes are known of both."""
        return self.train_labels is not None or bool(set(self.truths[0].attributes) & set(self.truths[1].attributes))

    def labelled(self, train: np.ndarray, test: np.ndarray, twins: tuple[np.ndarray, np.ndarray]) -> Features:
        """Features with what is known of their samples."""
        return Features(train, test, self.train_labels, self.test_labels, self.classes, twins, self.truths)

    def features(self, encoder: Encoder, size: int, device: torch.device | None = None) -> dict[str, Features]:
        """Features of both parts by the encoder's names, with twins."""
        fitted = pass_through(self.train, encoder, size=size, device=device)
        judged = pass_through(self.test, encoder, size=size, device=device)
        twins = self.twins(encoder, size, device)
        return {name: self.labelled(fitted[name], judged[name], twins[name]) for name in fitted}

    def twins(self, encoder: Encoder, size: int, device: torch.device | None) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Features of two random crops of some test pictures, the same crops for every encoder."""
        rows = np.random.default_rng(0).permutation(len(self.test))[: ROWS // 2]
        found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
        for number, part in enumerate(np.array_split(np.sort(rows), max(len(rows) // 256, 1))):
            pictures: Images = images(self.test, part)
            drawn = TWINS.draw(len(part), Clock(seed=key(0, 0x7121), step=number), Frame(size, 1))
            left, right = TWINS.make(pictures, drawn).large
            with torch.inference_mode():
                pair = [encoder(view.clamp(0, 1).to(device) if device else view.clamp(0, 1)) for view in (left, right)]
            for name in pair[0]:
                found.setdefault(name, []).append((pair[0][name].float().cpu().numpy(), pair[1][name].float().cpu().numpy()))
        return {name: (np.concatenate([a for a, _ in rows]), np.concatenate([b for _, b in rows])) for name, rows in found.items()}


def chosen_probes(names: Sequence[str] | None, *, labelled: bool, described: bool = False) -> tuple[str, ...]:
    """The probes asked for, or all that the data allow; ``described``: attributes are known, if no labels.

    Raises:
        UsageError: there is no such probe.
        DataError: it needs labels and there are none.
    """
    allowed = {name for name in (*PROBES, *INSIDE) if labelled or name in LABEL_FREE or (described and name == "reverse")}
    if not names or list(names) == ["all"]:
        return tuple(name for name in PROBES if name in allowed)
    for name in names:
        look_up("probe", name, (*PROBES, *INSIDE))
        if name not in allowed:
            what = "labels or attributes" if name == "reverse" else "labels"
            raise DataError(
                f"The probe {name} needs {what}, and the data have none.", "Measure geometry, or give labelled --train and --test."
            )
    return tuple(names)


def examine(
    phi: Representation,
    train: Source,
    test: Source,
    *,
    probes: Sequence[str] | None = None,
    floors: bool = True,
    bf16: bool = False,
    banks: Path | None = None,
    cache: Path | None = None,
    say: Callable[[str], None] = quiet,
) -> Examination:
    """Measure a representation: fitted on one source, scored on another, beside its floors.

    Args:
        phi: the representation.
        train, test: what probes are fitted on, and what they are scored on.
        probes: names of ``PROBES`` and ``INSIDE``; all of ``PROBES`` that the data allow by default.
        floors: measure the floors too.
        bf16: extract features in bfloat16.
        banks, cache: folders where the representation's banks and the floors are kept; without them nothing is.
        say: called with what is being done.
    """
    parts = _parts(train, test)
    names = chosen_probes(probes, labelled=parts.train_labels is not None, described=parts.described)
    say(f"features of {len(train) + len(test):,} images")
    found = _measured(phi, parts, names, bf16, banks, say)
    result = Examination(
        {name: scores.values for name, scores in found.items()},
        protocol={name: scores.protocol for name, scores in found.items()},
        readouts={name: scores.readout for name, scores in found.items() if scores.readout is not None},
    )
    for floor, forms in (("untrained", _untrained), ("pixels", _pixels)) if floors else ():
        say(f"floor: {floor}")
        has = names if floor == "untrained" else tuple(name for name in names if name in PROBES)
        result.floors[floor], result.forms[floor] = _cached(floor, forms, phi, parts, has, bf16, cache)
    return result


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
    say: Callable[[str], None] = quiet,
) -> dict[str, Scores]:
    """Every probe of a representation, on its output or inside it."""
    features = _features(phi, parts, bf16, banks) if set(names) & set(PROBES) else None
    found: dict[str, Scores] = {}
    for name in names:
        say(f"probe {name}")
        if features is not None and name in PROBES:
            found[name] = PROBES[name](features)
        else:
            known = Labelled(parts.train_labels, parts.test_labels, parts.classes)
            found[name] = layers(phi, parts.train, parts.test, known, bf16=bf16, say=say)
    return found


def _features(phi: Representation, parts: _Parts, bf16: bool, banks: Path | None) -> Features:  # noqa: FBT001
    """What a representation says of both parts, from its banks where they are kept."""
    encoder = encoder_of(phi, bf16=bf16)
    if banks is None:
        return parts.features(encoder, phi.size, phi.device)[OUTPUT]
    fitted, judged = (bank_of(phi, source, banks, bf16=bf16) for source in (parts.train, parts.test))
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
    encoder = pixel_encoder(*channel_statistics(parts.train))
    features = parts.features(encoder, PIXEL_SIDE)
    return {form: [{name: PROBES[name](found).values for name in names}] for form, found in features.items()}


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


def _cached(
    floor: str,
    measure: Callable[[Representation, _Parts, Sequence[str], bool], Forms],
    phi: Representation,
    parts: _Parts,
    names: Sequence[str],
    bf16: bool,  # noqa: FBT001
    cache: Path | None,
) -> tuple[Table, dict[str, dict[str, str]]]:
    """A floor from the cache, with the probes that it lacks measured and added."""
    about = (VERSION, floor, parts.train.fingerprint, parts.test.fingerprint, parts.train_labels is not None)
    about += (phi.spec, phi.size, phi.mean, phi.std, bf16) if floor == "untrained" else ()
    file = cache / f"{hashlib.sha256(repr(about).encode()).hexdigest()[:20]}.json" if cache else None
    saved: Mapping[str, Any] = json.loads(file.read_text()) if file and file.is_file() else {"scores": {}, "forms": {}}
    missing = [name for name in names if name not in saved["scores"]]
    table = {probe: {name: Score(**score) for name, score in scores.items()} for probe, scores in saved["scores"].items()}
    which = dict(saved["forms"])
    if missing:
        fresh, forms = _strongest(measure(phi, parts, missing, bf16))
        table, which = table | fresh, which | forms
        if file:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps({"scores": _plain(table), "forms": which}))
    return {name: table[name] for name in names}, {name: which[name] for name in names}
