"""Checks of edits before they are stored. Torch-free."""

from collections.abc import Sequence
from typing import Any

from selfsight.core.errors import UsageError
from selfsight.explorer.server.store import SUBJECTS_PER_CLUSTERING, ExplorerStore

__all__ = ["check_edit"]

DIGITS = 9
"""Maximum length of the number of a cluster."""


def check_edit(store: ExplorerStore, kind: str, subjects: Sequence[Any], value: str) -> None:
    """Check that the subjects of an edit, and the cluster into which others are merged, exist, and that no merge is circular.

    Args:
        store: the data set.
        kind: kind of edit.
        subjects: rows of items, or numbers of clusters.
        value: the value; of a merge the number of a cluster.

    Raises:
        UsageError: one of them does not exist, or a cluster would be merged into itself.
    """
    if not all(isinstance(one, int) and not isinstance(one, bool) for one in subjects):
        raise UsageError("The subjects of the edit are missing.", "Give rows of items, or numbers of clusters.")
    sizes = [len(store.pack)] if kind in ("tag", "note") else [len(clusters) for clusters in store.pack.clusterings.values()]
    checked = list(subjects)
    if kind == "cluster_merge" and value and subjects:
        if not value.isdecimal() or len(value) > DIGITS:
            raise UsageError(f"{value[:40]!r} is not a cluster.", "Use the number of a cluster.")
        target = subjects[0] // SUBJECTS_PER_CLUSTERING * SUBJECTS_PER_CLUSTERING + int(value)
        checked.append(target)
    range_size = len(store.pack) if kind in ("tag", "note") else SUBJECTS_PER_CLUSTERING
    if not all(one >= 0 and one // range_size < len(sizes) and one % range_size < sizes[one // range_size] for one in checked):
        raise UsageError("The edit refers to a row or a cluster that does not exist.", "Give rows of items, or numbers of clusters.")
    if kind == "cluster_merge" and value and subjects:
        _check_merge(store, subjects, int(value))


def _check_merge(store: ExplorerStore, subjects: Sequence[int], into: int) -> None:
    """Check that clusters are of one clustering, and that the one into which they are merged is not merged into one of them.

    Raises:
        UsageError: they are not, or it is.
    """
    if len({one // SUBJECTS_PER_CLUSTERING for one in subjects}) > 1:
        raise UsageError("Clusters of several clusterings cannot be merged.", "Merge those of each clustering.")
    of = list(store.pack.clusterings)[subjects[0] // SUBJECTS_PER_CLUSTERING]
    merges, merged = store.edits_of("cluster_merge", of), {one % SUBJECTS_PER_CLUSTERING for one in subjects}
    target, seen = into, set[int]()
    while target not in merged and target not in seen and merges.get(target, "").isdecimal():
        seen.add(target)
        target = int(merges[target])
    if target in merged:
        raise UsageError(
            f"Cluster {into} is cluster {target} itself, or is merged into it already.",
            "Merge into another cluster, or undo the earlier merge.",
        )
