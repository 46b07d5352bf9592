"""Discoveries beside what finds as much without learning: the untrained network, colours and pixels alone, the middle of the picture."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from selfsight.core.errors import UsageError
from selfsight.core.names import look_up
from selfsight.core.progress import ProgressCallback, no_progress
from selfsight.core.representation import Representation
from selfsight.data.source import Source
from selfsight.discover.images.clusters import PIXELS, ClusteringResult, cluster_labels, find_clusters, image_vectors, thumbnails
from selfsight.discover.images.duplicates import Selection, find_duplicates
from selfsight.discover.images.label_selection import select_for_labelling
from selfsight.discover.objects.localise import ALIASES, BASELINES, LOCALISERS, MODEL_FREE
from selfsight.discover.objects.object_regions import ObjectRegions, find_objects
from selfsight.discover.parts.parts import PARTERS, find_parts
from selfsight.discover.segments.maps import SegmentationResult
from selfsight.discover.segments.segment import segment_images
from selfsight.discover.segments.segmenters import COLOURS_ALONE, SEGMENTERS
from selfsight.measure.baselines import untrained_networks
from selfsight.measure.metrics.agreement import contingency
from selfsight.measure.metrics.overlap import score_boxes, score_segments
from selfsight.measure.metrics.parts import score_parts
from selfsight.measure.probes.cluster import AGREEMENTS
from selfsight.measure.results import Score, spread_of_table

__all__ = ["DISCOVERIES", "IMAGE_LEVEL", "Discovery", "discover"]

IMAGE_LEVEL = ("clusters", "duplicates", "selection")
"""What is told of whole pictures, from features that are kept in ``banks``; all else from eigenvectors that are ``kept``."""
Judged = dict[str, Score]
"""By measure."""
Table = dict[str, dict[str, Score]]
"""By measure, then by who is judged: the method first, then its floors."""


@dataclass(frozen=True)
class Discovery:
    """Something to discover.

    Attributes:
        methods: names of ways to find it; the first is taken by default.
        blind: those of them that ask no representation.
        floors: those of the blind that every other has to beat.
        find: from representation, source and method to what was found.
        judge: scores of what was found; empty where the truth is not known.
        fixed: options that floors have from what was found, such as its number of clusters.
        short: as ``find`` and ``judge`` at once for a floor, where that is less work.
        lone: its files lie in a folder of its own name, not in one of the method's.
    """

    methods: tuple[str, ...]
    model_free: tuple[str, ...]
    floors: tuple[str, ...]
    find: Callable[..., Any]
    judge: Callable[[Any, Source], Judged]
    fixed: Callable[[Any], Mapping[str, Any]] = lambda _: {}
    score_only: Callable[..., Judged] | None = None
    own_folder: bool = False

    def floor(self, phi: Representation, source: Source, method: str, **options: Any) -> Judged:
        """Scores of another representation, or of a blind method."""
        if self.score_only is not None:
            return self.score_only(phi, source, method, **options)
        return self.judge(self.find(phi, source, method, **options), source)


def _boxes(found: ObjectRegions, source: Source) -> Judged:
    score = score_boxes(partial(found.boxes, read=True), source)
    return {"CorLoc": score} if score else {}


def _segments(found: SegmentationResult, source: Source) -> Judged:
    score = score_segments(found.at, source, found.classes, found.read)
    return {"mean IoU": score} if score else {}


def _segmented(phi: Representation, source: Source, method: str, *, classes: int | None = None, **options: Any) -> SegmentationResult:
    classes = classes or len(source.truth(np.arange(1)).classes) or 10
    return segment_images(phi, source, method, classes=classes, **options)


def _parts(found: SegmentationResult, source: Source) -> Judged:
    scores = score_parts(found.at, source, found.classes, found.read)
    return {name.upper(): score for name, score in scores.items()} if scores else {}


def _agreement(labels: np.ndarray, source: Source) -> Judged:
    """Of clusters with classes, over the pictures whose class is known."""
    truth = source.truth(np.arange(len(source))).labels
    known = None if truth is None else truth >= 0
    if truth is None or known is None or not known.any():
        return {}
    table = contingency(labels[known], truth[known])
    return {name.upper(): score for name, score in spread_of_table(table, AGREEMENTS).items()}


def _named(phi: Representation, source: Source, method: str, **options: Any) -> ClusteringResult:
    """Clusters, called by their commonest class where classes are known."""
    found, truth = find_clusters(phi, source, method, **options), source.truth(np.arange(len(source)))
    return found if truth.labels is None or not truth.classes else found.with_class_names(truth.labels, truth.classes)


def _selection(
    phi: Representation,
    source: Source,
    method: str,
    *,
    classes: int | None = None,
    count: int = 30,
    banks: Path | None = None,
    **options: Any,
) -> Selection:
    """Of so many clusters, so many pictures.

    Raises:
        UsageError: none are asked for, or there are too few pictures for clusters.
    """
    if count < 1:
        raise UsageError(f"A selection of {count} pictures holds none.", "Give 1 or more: --count 30")
    vectors = image_vectors(phi, source, method, banks)
    found = find_clusters(phi, source, method, count=classes, vectors=vectors, **options)
    chosen = tuple(select_for_labelling(vectors, found.labels, found.nearness, found.duplicates(), count))
    return Selection(found.names, chosen, found.labels, thumbnails(source, np.array([row for row, _ in chosen])), found.facts)


DISCOVERIES: dict[str, Discovery] = {
    "boxes": Discovery(("cut", *(name for name in LOCALISERS if name != "cut"), *ALIASES), MODEL_FREE, BASELINES, find_objects, _boxes),
    "segments": Discovery(
        ("spectral", *(name for name in SEGMENTERS if name != "spectral"), "iic"), (COLOURS_ALONE,), (COLOURS_ALONE,), _segmented, _segments
    ),
    "parts": Discovery(("shared", *(name for name in PARTERS if name != "shared")), (COLOURS_ALONE,), (COLOURS_ALONE,), find_parts, _parts),
    "clusters": Discovery(
        ("spherical", "balanced", "kmeans", "scan", PIXELS),
        (PIXELS,),
        (PIXELS,),
        _named,
        lambda found, source: _agreement(found.labels, source),
        lambda found: {"count": len(found.clusters)},
        lambda phi, source, method, **options: _agreement(cluster_labels(phi, source, method, **options), source),
    ),
    "duplicates": Discovery(("features", PIXELS), (PIXELS,), (), find_duplicates, lambda _, __: {}, own_folder=True),
    "selection": Discovery(
        ("spherical", "balanced", "kmeans", "scan", PIXELS), (PIXELS,), (), _selection, lambda _, __: {}, own_folder=True
    ),
}
"""What can be discovered, by the word that the command line has for it."""


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
    kind = DISCOVERIES[look_up("discovery", what, DISCOVERIES)]
    method = look_up(f"way to find {what}", method or kind.methods[0], kind.methods)
    found = kind.find(phi, source, method, progress=progress, **options)
    judged = kind.judge(found, source)
    every = {method: judged}
    if judged and floors:
        options = {name: value for name, value in options.items() if name not in ("cache", "banks")} | dict(kind.fixed(found))
        if ALIASES.get(method, method) not in kind.model_free:
            every["untrained"] = _untrained(phi, source, partial(kind.floor, source=source, method=method, **options), progress)
        look = {name: options[name] for name in ("feature_spec", "classes", "parts", "within", "count", "seed") if name in options}
        every |= {name: kind.floor(phi, source, name, **look) for name in kind.floors if name != method}
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
