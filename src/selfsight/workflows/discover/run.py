"""Discoveries beside baselines: the untrained network, colours and pixels alone, the centre of the image."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from selfsight.core.progress import ProgressCallback, no_progress
from selfsight.core.registry import Registry
from selfsight.core.representation import Representation
from selfsight.data.source import Source
from selfsight.measure.baselines import untrained_networks
from selfsight.measure.results import Score
from selfsight.workflows.discover.discovery import Judged
from selfsight.workflows.discover.table import DISCOVERIES

__all__ = ["discover", "method_registry"]

Table = dict[str, dict[str, Score]]
"""By measure, then by method: the method first, then its baselines."""


SHARED_OPTIONS = ("feature_spec", "classes", "parts", "within", "count", "seed")
"""Options of a method that its baselines take too."""


def _without_caches(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in ("cache", "banks")}


def method_registry(what: str) -> Registry[Any]:
    """The registry of the methods of a discovery.

    Raises:
        UsageError: there is no such discovery.
    """
    choices = DISCOVERIES.resolve(what).choices
    assert choices is not None
    return choices


def discover(
    phi: Representation,
    source: Source,
    what: str = "boxes",
    method: str | None = None,
    *,
    floors: bool = True,
    progress: ProgressCallback = no_progress,
    **options: Any,
) -> tuple[Any, Table]:
    """Find something in a data set's pictures, and score it beside its floors where the truth is known.

    Args:
        phi, source: what looks, and at what.
        what: a name of ``DISCOVERIES``: boxes (``discover.found.find_objects``), segments (``segment.segment_images``; as many classes as
            classes are known, else 10), parts (``parts.find_parts``), clusters (``clusters.find_clusters``), duplicates
            (``labelling.find_duplicates``) or selection (``count`` pictures worth a label, by ``classes`` clusters).
        method, floors: how, each has a default; judge the untrained network and what needs no network too.
        progress: called with how far it is.
        options: of the function that finds. What is in ``cache`` is of the representation alone, not of its floors.

    Returns:
        What was found; scores by measure, then by who is judged: the method under its own name, ``untrained`` with the same method (the
        stronger of its plain forms, the mean of three seeds), and what is blind.

    Raises:
        UsageError: there is no such discovery or method.
    """
    kind, methods = DISCOVERIES.load(what), method_registry(what)
    method = method or methods.default
    entry = methods.resolve(method)
    found = kind.find(phi, source, method, progress=progress, **options)
    judged = kind.judge(found, source)
    every = {method: judged}
    if judged and floors:
        options = _without_caches(options) | dict(kind.fixed(found))
        if not entry.model_free:
            every["untrained"] = _untrained(phi, source, partial(kind.baseline, source=source, method=method, **options), progress)
        look = {name: value for name, value in options.items() if name in SHARED_OPTIONS}
        every |= {name: kind.baseline(phi, source, name, **look) for name in methods.baselines() if name != method}
    return found, {name: {who: some[name] for who, some in every.items() if name in some} for name in judged}


def _untrained(phi: Representation, source: Source, judged: Callable[[Representation], Judged], progress: ProgressCallback) -> Judged:
    """Of each score the strongest plain form of the untrained network: the mean over its seeds, from the lowest bound to the highest."""
    if not phi.spec:
        progress(f"floor: {phi.name} cannot be built again without its weights")
        return {}
    forms: dict[str, list[Judged]] = {}
    for form, seed, network in untrained_networks(phi, source):
        progress(f"floor: untrained, {form}, seed {seed}")
        forms.setdefault(form, []).append(judged(network()))
    names = next(iter(forms.values()))[0]
    return {name: _strongest([[one[name] for one in seeds] for seeds in forms.values()]) for name in names}


def _strongest(forms: list[list[Score]]) -> Score:
    """Of the form with the highest mean over seeds: that mean, from the lowest bound to the highest."""
    seeds = max(forms, key=lambda some: sum(score.value for score in some))
    return Score(sum(one.value for one in seeds) / len(seeds), min(one.low for one in seeds), max(one.high for one in seeds))
