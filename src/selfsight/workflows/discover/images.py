"""Clusters of whole images, near-duplicates, and images for labelling."""

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
from selfsight.measure.results import bootstrap_table
from selfsight.workflows.discover.discovery import Discovery, Judged

__all__ = ["CLUSTERS", "DUPLICATES", "SELECTION"]


def _agreement(labels: np.ndarray, source: Source) -> Judged:
    """Agreement of clusters with classes, over the images with a known class."""
    truth = source.truth(np.arange(len(source))).labels
    known = None if truth is None else truth >= 0
    if truth is None or known is None or not known.any():
        return {}
    table = contingency(labels[known], truth[known])
    return {name.upper(): score for name, score in bootstrap_table(table, AGREEMENTS).items()}


def _named(phi: Representation, source: Source, method: str, **options: Any) -> ClusteringResult:
    """Clusters, named by their most frequent class if classes are known."""
    result, truth = find_clusters(phi, source, method, **options), source.truth(np.arange(len(source)))
    return result if truth.labels is None or not truth.classes else result.with_class_names(truth.labels, truth.classes)


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
    """Select ``count`` images for labelling from ``classes`` clusters.

    Raises:
        UsageError: ``count`` is below 1, or there are too few images for clusters.
    """
    if count < 1:
        raise UsageError(f"A selection of {count} images is empty.", "Use 1 or more: --count 30")
    vectors = image_vectors(phi, source, method, banks)
    result = find_clusters(phi, source, method, count=classes, vectors=vectors, **options)
    chosen = tuple(select_for_labelling(vectors, result.labels, result.nearness, result.duplicates(), count))
    return Selection(result.names, chosen, result.labels, thumbnails(source, np.array([row for row, _ in chosen])), result.facts)


def _unscored(result: object, source: Source) -> Judged:  # noqa: ARG001
    return {}


def _scores(result: ClusteringResult, source: Source) -> Judged:
    return _agreement(result.labels, source)


def _count(result: ClusteringResult) -> dict[str, int]:
    return {"count": len(result.clusters)}


def _labels_scored(phi: Representation, source: Source, method: str, **options: Any) -> Judged:
    return _agreement(cluster_labels(phi, source, method, **options), source)


CLUSTERS = Discovery(_named, _scores, _count, _labels_scored)
DUPLICATES = Discovery(find_duplicates, _unscored)
SELECTION = Discovery(_selection, _unscored)
