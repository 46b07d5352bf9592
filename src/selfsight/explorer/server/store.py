"""Read access to a prepared data set, its features, and the files of its runs. Torch-free."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from selfsight.bank.store import Bank
from selfsight.core.errors import DataError, UsageError
from selfsight.core.names import look_up
from selfsight.core.results import find_result
from selfsight.discover.images.label_selection import select_for_labelling
from selfsight.explorer.server.edits import Edits
from selfsight.explorer.server.mutual_knn import mutual_knn
from selfsight.explorer.server.pack import CLUSTER, Pack, edits_file, nearness_column, network_folders, run_folder
from selfsight.explorer.server.run_artifacts import read_json, read_run

__all__ = ["ExplorerStore", "Network"]

ROWS = 65_536
"""Rows of a bank that are processed at a time."""
MOST_CLASSES = 1000
TOP, BINS = 12, 24
SAMPLE, FEW = 20_000, 4
"""Sample size and number of the maximally activating images in the list of units."""
SUBJECTS_PER_CLUSTERING = 1_000_000
"""Range of edit subjects per clustering."""
QUALITY_CHECKS = {
    "dark": ("brightness", False, "the darkest"),
    "bright": ("brightness", True, "the brightest"),
    "flat": ("contrast", False, "the least contrast"),
    "blurred": ("sharpness", False, "the least sharp"),
    "plain": ("information", False, "the fewest bytes per pixel"),
    "outliers": ("distance_to_neighbours", True, "the farthest from all others"),
    "odd": ("oddness", True, "the most unusual shape"),
}
"""Quality checks: column, whether large values are suspicious, description."""


@dataclass(frozen=True)
class Network:
    """A network with a bank of the data set.

    Attributes:
        name: its name on the page.
        path: folder of its bank.
        run: folder of its run; ``None`` for the untrained network.
    """

    name: str
    path: Path
    run: Path | None = None

    @cached_property
    def bank(self) -> Bank:
        """Its features."""
        return Bank(self.path)

    def probe(self, request: Mapping[str, Any]) -> str:
        """Version of the linear probe, for jobs on a class; empty for all other jobs."""
        if "class" not in request:
            return ""
        file = find_result(self.run, "measures/linear.npz") if self.run else None
        return f"{file.stat().st_mtime_ns} {file.stat().st_size}" if file is not None and file.is_file() else ""

    @property
    def classes(self) -> list[str]:
        """Classes of the network's linear probe, if there is one."""
        known = read_json(find_result(self.run, "measures/linear.json")) if self.run else {}
        return [str(name) for name in known.get("classes", [])][:MOST_CLASSES]


class ExplorerStore:
    """A prepared data set with edits and features.

    Args:
        pack: the prepared data set.
        networks: networks with a bank; the map and the clusters are those of the first.
    """

    def __init__(self, pack: Pack, networks: Sequence[Network]) -> None:
        self.pack, self.networks = pack, {network.name: network for network in networks}
        self.edits = Edits(edits_file(pack.path))
        self._vectors = lru_cache(maxsize=8)(self._read_vectors)
        self._heights = lru_cache(maxsize=8)(self._read_heights)
        self._tops = lru_cache(maxsize=8)(self._read_tops)

    @classmethod
    def of(cls, folder: Path) -> "ExplorerStore":
        """The store of a prepared folder.

        Raises:
            UsageError: the folder is not prepared.
            DataError: a file is damaged, or is read from outside of the run's folder.
        """
        pack = Pack(folder)
        return cls(pack, [Network(one["name"], *network_folders(folder, one)) for one in pack.about["networks"]])

    @cached_property
    def columns(self) -> list[dict[str, Any]]:
        """Each column with its values and their counts, or its range; of more than 50 text values the most frequent."""
        columns = []
        for name in self.pack.columns:
            values = self.pack.column(name)
            if values.dtype == object:
                often = sorted(Counter(values).items(), key=lambda one: (-one[1], one[0]))[:50]
                columns.append({"name": name, "kind": "text", "values": [one for one, _ in often], "counts": [count for _, count in often]})
            else:
                known = values[np.isfinite(values)]
                low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)
                columns.append({"name": name, "kind": "number", "low": low, "high": high})
        return columns

    def about(self) -> dict[str, Any]:
        """Summary for the start of the page."""
        attends = {one["name"]: bool(one.get("attends")) for one in self.pack.about["networks"]}
        networks = [
            {"name": name, "layers": list(one.bank.layers), "attends": attends.get(name, False), "classes": one.classes}
            for name, one in self.networks.items()
        ]
        return {
            "count": len(self.pack),
            "data": self.pack.about["data"],
            "columns": self.columns,
            "networks": networks,
            "clusterings": [{"name": name, "count": len(clusters)} for name, clusters in self.pack.clusterings.items()],
            "maps": list(self.pack.maps),
            "masks": bool(self.pack.about.get("masks")),
        }

    def item(self, row: int) -> dict[str, Any]:
        """Columns and edits of an item.

        Raises:
            DataError: the row does not exist.
        """
        self._check(row)
        known = {name: _plain(self.column(name)[row]) for name in self.pack.columns}
        edits = {kind: self.edits.values(kind).get(row, "") for kind in ("tag", "note")}
        return {"row": row, "name": str(self.pack.names[row]), "columns": known, **edits}

    def column(self, name: str) -> np.ndarray:
        """One value per item; clusterings with merged clusters."""
        return self.clusters_of(name).astype(np.float64) if name in self.pack.clusterings else self.pack.column(name)

    def edited_columns(self) -> dict[str, np.ndarray]:
        """Tags, names of clusters and merged clusters as columns, for conditions and colours."""
        columns: dict[str, np.ndarray] = {of: self.column(of) for of in self.pack.clusterings}
        tags = np.full(len(self.pack), "", dtype=object)
        for row, value in self.edits.values("tag").items():
            if row < len(tags):
                tags[row] = value
        columns["tag"] = tags
        for of in self.pack.clusterings:
            columns[f"{of}_name"] = self.named(of)
        return columns

    def named(self, of: str = CLUSTER) -> np.ndarray:
        """Name of each item's cluster; empty if it has none."""
        numbers, names = self.clusters_of(of), self.edits_of("cluster_name", of)
        table = np.array([names.get(number, "") for number in range(int(numbers.max(initial=0)) + 1)], dtype=object)
        return table[numbers]

    def labelled(self) -> np.ndarray:
        """Label of each item by cluster names: of the first clustering in which its cluster has a name; otherwise empty."""
        labels = np.full(len(self.pack), "", dtype=object)
        for of in self.pack.clusterings:
            labels = np.where(labels == "", self.named(of), labels)
        return labels

    def edits_of(self, kind: str, of: str) -> dict[int, str]:
        """Edits of a clustering's clusters, by index; subjects of the k-th clustering start at k times ``SUBJECTS_PER_CLUSTERING``."""
        first = list(self.pack.clusterings).index(look_up("clustering", of, self.pack.clusterings)) * SUBJECTS_PER_CLUSTERING
        return {
            subject - first: value
            for subject, value in self.edits.values(kind).items()
            if first <= subject < first + SUBJECTS_PER_CLUSTERING
        }

    def clusters_of(self, of: str = CLUSTER) -> Int[np.ndarray, " item"]:
        """Cluster of each item, after merging."""
        numbers = self.pack.column(of).astype(np.int64)
        merges = self.edits_of("cluster_merge", of).items()
        into = {number: int(value) for number, value in merges if value.isdecimal() and int(value) <= numbers.max(initial=0)}
        table = np.arange(int(numbers.max(initial=0)) + 1)
        for number in range(len(table)):
            target, seen = number, {number}
            while target in into and into[target] not in seen:
                target = into[target]
                seen.add(target)
            table[number] = target
        return table[numbers]

    def _check(self, row: int) -> None:
        if not 0 <= row < len(self.pack):
            raise DataError(f"There is no image {row}.", f"Rows go from 0 to {len(self.pack) - 1}.")

    def _network(self, name: str) -> Network:
        return self.networks[look_up("network", name or next(iter(self.networks)), self.networks)]

    def _read_vectors(self, network: str, layer: str) -> tuple[np.ndarray, Float[np.ndarray, " item"]]:
        """Features of a layer and their norms."""
        rows = self._network(network).bank.pooled(layer or None)
        lengths = [np.linalg.norm(rows[start : start + ROWS].astype(np.float32), axis=1) for start in range(0, len(rows), ROWS)]
        return rows, np.concatenate(lengths).clip(min=1e-12)

    def neighbours(
        self, item: int | Float[np.ndarray, " dim"], network: str = "", layer: str = "", count: int = 24
    ) -> list[dict[str, Any]]:
        """Nearest neighbours of an item (by row) or a vector by cosine similarity, nearest first, without the item itself.

        Raises:
            UsageError: the vector has another length than the layer's features.
            DataError: the row does not exist.
        """
        rows, lengths = self._vectors(network, layer)
        if isinstance(item, int):
            self._check(item)
        query = np.asarray(rows[item] if isinstance(item, int) else item, dtype=np.float32)
        if query.shape != rows.shape[1:]:
            raise UsageError(f"The vector has {query.size} numbers, features of this layer {rows.shape[1]}.", "Use the same layer.")
        query = query / max(float(np.linalg.norm(query)), 1e-12)
        similarity = (
            np.concatenate([rows[start : start + ROWS].astype(np.float32) @ query for start in range(0, len(rows), ROWS)]) / lengths
        )
        if isinstance(item, int):
            similarity[item] = -np.inf
        nearest = np.argpartition(-similarity, min(count, len(similarity) - 1))[:count]
        nearest = nearest[np.argsort(-similarity[nearest], kind="stable")]
        return [{"row": int(row), "alike": round(float(similarity[row]), 4)} for row in nearest if np.isfinite(similarity[row])]

    def clusters(self, of: str = "") -> list[dict[str, Any]]:
        """Clusters of a clustering with extreme members, names and, if labels are known, purity; merged clusters are one."""
        if not self.pack.clusterings:
            return []
        of = of or CLUSTER
        numbers, names = self.clusters_of(of), self.edits_of("cluster_name", of)
        labels = self.pack.column("label") if "label" in self.pack.columns else None
        near = self.pack.column(nearness_column(of)) if nearness_column(of) in self.pack.columns else np.zeros(len(self.pack))
        descriptions = {int(one["number"]): one for one in self.pack.clusterings[of]}
        clusters, unmerged = [], self.pack.column(of).astype(np.int64)
        for number in np.unique(numbers).tolist():
            members = np.flatnonzero(numbers == number)
            order = members[np.argsort(-near[members], kind="stable")]
            entry: dict[str, Any] = {
                "number": number,
                "subject": number + list(self.pack.clusterings).index(of) * SUBJECTS_PER_CLUSTERING,
                "name": names.get(number, ""),
                "size": len(members),
                "parts": np.unique(unmerged[members]).tolist(),
                "central": order[:24].tolist(),
                "distant": order[::-1][:12].tolist(),
                "compact": round(float(near[members].mean()), 4),
                "units": descriptions.get(number, {}).get("units", []),
            }
            if labels is not None:
                labels_found, counts = np.unique(labels[members].astype(str), return_counts=True)
                entry |= {"label": str(labels_found[counts.argmax()]), "purity": round(float(counts.max() / len(members)), 4)}
            clusters.append(entry)
        return clusters

    def label_selection(self, count: int = 30) -> list[dict[str, Any]]:
        """Images selected for labelling with the reason; empty without clusters."""
        if not {"cluster", "nearness", "duplicates"} <= set(self.pack.columns):
            return []
        columns = (self.pack.column(name) for name in ("nearness", "duplicates"))
        rows = self._network("").bank.pooled()
        return [{"row": row, "why": why} for row, why in select_for_labelling(rows, self.clusters_of(), *columns, count=count)]

    def mutual_knn(self, left: str = "", right: str = "", layers: tuple[str, str] = ("", "")) -> dict[str, Any]:
        """Agreement of two networks on nearest neighbours; by default of the outputs of the first and the last network."""
        names = (left or next(iter(self.networks)), right or list(self.networks)[-1])
        vectors = [self._vectors(name, layer)[0] for name, layer in zip(names, layers, strict=True)]
        return {"networks": names, "layers": layers, **mutual_knn(*vectors)}

    def _read_heights(self, network: str, layer: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean, standard deviation and maximum of each unit of a layer."""
        rows = self._network(network).bank.pooled(layer or None)
        total, square, high = np.zeros(rows.shape[1]), np.zeros(rows.shape[1]), np.full(rows.shape[1], -np.inf)
        for start in range(0, len(rows), ROWS):
            part = rows[start : start + ROWS].astype(np.float64)
            total, square, high = total + part.sum(0), square + (part**2).sum(0), np.maximum(high, part.max(0))
        mean = total / len(rows)
        return mean, np.sqrt((square / len(rows) - mean**2).clip(min=0)), high

    def units(self, network: str = "", layer: str = "") -> list[dict[str, Any]]:
        """Units of a layer (by default the first network's output): peak in standard deviations above the mean, maximally activating images."""
        mean, deviation, high = self._heights(network, layer)
        peaks = np.divide(high - mean, deviation, out=np.zeros_like(mean), where=deviation > 0)
        top = self._tops(network, layer)
        return [
            {"unit": number, "mean": round(float(mean[number]), 4), "peak": round(float(peaks[number]), 3), "top": top[number].tolist()}
            for number in range(len(mean))
        ]

    def _read_tops(self, network: str, layer: str) -> Int[np.ndarray, "unit top"]:
        """Maximally activating images of each unit, in an evenly spaced sample."""
        rows, _ = self._vectors(network, layer)
        sampled = np.linspace(0, len(rows) - 1, min(len(rows), SAMPLE)).astype(np.int64)
        values = np.asarray(rows[sampled], dtype=np.float32)
        first = np.argpartition(-values, min(FEW, len(sampled)) - 1, axis=0)[:FEW]
        order = np.argsort(-np.take_along_axis(values, first, 0), axis=0, kind="stable")
        return sampled[np.take_along_axis(first, order, 0)].T

    def unit(self, number: int, network: str = "", layer: str = "") -> dict[str, Any]:
        """One unit: images with the highest and the lowest activation, histogram, and correlated units.

        Raises:
            DataError: the unit does not exist.
        """
        rows, _ = self._vectors(network, layer)
        if not 0 <= number < rows.shape[1]:
            raise DataError(f"There is no unit {number}.", f"Units of this layer go from 0 to {rows.shape[1] - 1}.")
        values = np.asarray(rows[:, number], dtype=np.float64)
        order = np.argsort(-values, kind="stable")
        counts, edges = np.histogram(values, BINS)
        sampled = np.linspace(0, len(rows) - 1, min(len(rows), 5000)).astype(np.int64)
        part = np.asarray(rows[sampled], dtype=np.float64)
        part = part - part.mean(0)
        alike = part.T @ part[:, number] / (np.linalg.norm(part, axis=0) * np.linalg.norm(part[:, number])).clip(min=1e-12)
        alike[number] = -np.inf
        similar = np.argsort(-alike)[:8]
        return {
            "unit": number,
            "top": [{"row": int(row), "value": round(float(values[row]), 4)} for row in order[:TOP]],
            "bottom": [{"row": int(row), "value": round(float(values[row]), 4)} for row in order[::-1][:TOP]],
            "histogram": {"counts": counts.tolist(), "low": float(edges[0]), "high": float(edges[-1])},
            "alike": [{"unit": int(other), "correlation": round(float(alike[other]), 3)} for other in similar if np.isfinite(alike[other])],
        }

    def runs(self) -> list[dict[str, Any]]:
        """Status, curves and scores of each run, as currently on disk."""
        return [read_run(path) for path in dict.fromkeys(run_folder(one.run.resolve()) for one in self.networks.values() if one.run)]

    def health(self, count: int = 60) -> list[dict[str, Any]]:
        """Quality checks: extreme items of each measure, near-duplicates, and unreadable files."""
        checks = []
        for name, (column, largest, words) in QUALITY_CHECKS.items():
            if column in self.pack.columns:
                values = self.pack.column(column)
                order = np.argsort(-values if largest else values, kind="stable")
                rows = [int(row) for row in order[:count] if np.isfinite(values[row])]
                checks.append(
                    {"name": name, "column": column, "words": words, "rows": rows, "values": [_plain(values[row]) for row in rows]}
                )
        if "duplicates" in self.pack.columns:
            groups = self.pack.column("duplicates")
            duplicates = [np.flatnonzero(groups == group).tolist() for group in np.unique(groups[np.isfinite(groups)])[:count]]
            checks.append({"name": "duplicates", "column": "duplicates", "words": "groups of near-duplicates", "groups": duplicates})
        checks.append({"name": "unreadable", "column": "", "words": "files that cannot be read", "files": self.pack.about.get("bad", [])})
        return checks

    def table(self, rows: Int[np.ndarray, " row"]) -> dict[str, np.ndarray]:
        """Items with all columns and edits, for export."""
        names = self.pack.names.to_numpy()[rows]
        return {
            "file": names,
            **{name: self.pack.column(name)[rows] for name in self.pack.columns},
            **{name: values[rows] for name, values in self.edited_columns().items()},
        }


def _plain(value: object) -> object:
    """A value of a column for JSON; ``None`` if unknown."""
    if isinstance(value, float | np.floating):
        return float(f"{value:.6g}") if np.isfinite(value) else None
    return value if isinstance(value, str) else str(value)
