"""Clusters of whole images, near-duplicates, and images that are worth a label."""

from pathlib import Path
from typing import Any

import numpy as np

from selfsight.core.errors import UsageError
from selfsight.core.representation import Representation
from selfsight.data.source import Source
from selfsight.discover.images.clusters import ClusteringResult, cluster_labels, find_clusters, image_vectors, thumbnails
from selfsight.discover.images.duplicates import Selection, find_duplicates
from selfsight.discover.images.label_selection import select_for_labelling
from selfsight.measure.metrics.agreement import contingency
from selfsight.measure.probes.cluster import AGREEMENTS
from selfsight.measure.results import spread_of_table
from selfsight.workflows.discover.discovery import Discovery, Judged

__all__ = ["CLUSTERS", "DUPLICATES", "SELECTION"]


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


def _unscored(found: object, source: Source) -> Judged:  # noqa: ARG001
    return {}


def _scores(found: ClusteringResult, source: Source) -> Judged:
    return _agreement(found.labels, source)


def _count(found: ClusteringResult) -> dict[str, int]:
    return {"count": len(found.clusters)}


def _labels_scored(phi: Representation, source: Source, method: str, **options: Any) -> Judged:
    return _agreement(cluster_labels(phi, source, method, **options), source)


CLUSTERS = Discovery(_named, _scores, _count, _labels_scored)
DUPLICATES = Discovery(find_duplicates, _unscored)
SELECTION = Discovery(_selection, _unscored)
