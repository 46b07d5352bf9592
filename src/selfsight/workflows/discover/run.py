"""Discoveries with baselines: the untrained network, methods without a representation, the image centre."""

from collections.abc import Callable
from functools import partial
from typing import Any, Unpack

from selfsight.core.bounds import check_numbers
from selfsight.core.progress import ProgressCallback, no_progress
from selfsight.core.representation import Representation
from selfsight.data.source import Source, readable
from selfsight.measure.baselines import strongest_form, untrained_networks
from selfsight.measure.results import Score
from selfsight.workflows.discover.discovery import Judged
from selfsight.workflows.discover.table import DISCOVERIES, method_registry
from selfsight.workflows.options import SearchOptions

__all__ = ["discover"]

Table = dict[str, dict[str, Score]]
"""Scores by metric, then by method: the method first, then its baselines."""


SHARED_OPTIONS = ("feature_spec", "classes", "parts", "foreground", "count", "seed")
"""Options of a method that also apply to its baselines."""


def discover(
    phi: Representation, source: Source, what: str = "boxes", method: str | None = None, *, baselines: bool = True,
    progress: ProgressCallback = no_progress, **options: Unpack[SearchOptions],
) -> tuple[Any, Table]:  # fmt: skip
    """Find something in the images of a data set, and score it next to baselines if annotations exist.

    Args:
        phi: the representation.
        source: the data set; unreadable files have no part.
        what: a name in ``DISCOVERIES``: boxes (``objects.object_regions.find_objects``), segments (``segments.segment.segment_images``; with the
            number of known classes, otherwise 10), parts (``parts.parts.find_parts``), clusters (``images.clusters.find_clusters``), duplicates
            (``images.duplicates.find_duplicates``) or selection (``count`` images for labelling, from ``classes`` clusters).
        method: name of the method; None: the default.
        baselines: also score the untrained network and methods without a representation.
        progress: called with a line per step.
        options: options of the search; a ``cache`` is used for the representation only, not for baselines.

    Returns:
        The result, and scores by metric and then by method: the method itself, ``untrained`` with the same method (the best form, the mean
        of three seeds), and methods without a representation.

    Raises:
        UsageError: the discovery or method does not exist, or a number is outside of its range.
    """
    check_numbers(options)
    source, discovery, methods = readable(source), DISCOVERIES.load(what), method_registry(what)
    method = method or methods.default
    entry = methods.resolve(method)
    result = discovery.find(phi, source, method, progress=progress, **options)
    scores = discovery.judge(result, source)
    by_method = {method: scores}
    if scores and baselines:
        given: Any = {name: value for name, value in options.items() if name not in ("cache", "banks")} | dict(discovery.fixed(result))
        if not entry.model_free:
            by_method["untrained"] = _untrained(phi, source, partial(discovery.baseline, source=source, method=method, **given), progress)
        shared: Any = {name: value for name, value in given.items() if name in SHARED_OPTIONS}
        by_method |= {name: discovery.baseline(phi, source, name, **shared) for name in methods.baselines() if name != method}
    return result, {name: {method: each[name] for method, each in by_method.items() if name in each} for name in scores}


def _untrained(phi: Representation, source: Source, score: Callable[[Representation], Judged], progress: ProgressCallback) -> Judged:
    """Scores of the untrained network: for each metric the best form, the mean over seeds with the lowest and highest bound."""
    if not phi.spec:
        progress(f"baseline: {phi.name} cannot be rebuilt without its weights")
        return {}
    forms: dict[str, list[Judged]] = {}
    for form, seed, network in untrained_networks(phi, source):
        progress(f"baseline: untrained, {form}, seed {seed}")
        forms.setdefault(form, []).append(score(network()))
    names = next(iter(forms.values()))[0]
    return {name: strongest_form({form: [each[name] for each in seeds] for form, seeds in forms.items()})[1] for name in names}
