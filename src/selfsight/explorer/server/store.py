"""All that the explorer reads: a prepared data set, what networks say of it, and what their runs have written. Torch-free."""

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
from selfsight.discover.images.label_selection import select_for_labelling
from selfsight.explorer.server.edits import Edits
from selfsight.explorer.server.mutual_knn import mutual_knn
from selfsight.explorer.server.pack import CLUSTER, Pack, nearness_column, run_folder
from selfsight.explorer.server.run_artifacts import read_json, read_run

__all__ = ["ExplorerStore", "Network"]

ROWS = 65_536
"""Rows of a bank that are compared at a time."""
MOST_CLASSES = 1000
TOP, BINS = 12, 24
SAMPLE, FEW = 20_000, 4
"""Items of which units' favourites are told at a glance, and how many of these."""
SUBJECTS_PER_CLUSTERING = 1_000_000
"""Numbers that a clustering's clusters have in edits."""
QUALITY_CHECKS = {
    "dark": ("brightness", False, "the darkest"),
    "bright": ("brightness", True, "the brightest"),
    "flat": ("contrast", False, "the least contrast"),
    "blurred": ("sharpness", False, "the least sharp"),
    "plain": ("information", False, "the fewest bytes a pixel"),
    "outliers": ("distance_to_neighbours", True, "the farthest from all others"),
    "odd": ("oddness", True, "the most unusual shape"),
}
"""What may be wrong with a picture: by which column, whether its largest values, in words."""


@dataclass(frozen=True)
class Network:
    """A network whose bank of the data set is there.

    Attributes:
        name: what it is called on the page.
        path: of its bank.
        run: its run's folder; ``None`` where there is none (the same network untrained).
    """

    name: str
    path: Path
    run: Path | None = None

    @cached_property
    def bank(self) -> Bank:
        """What it says."""
        return Bank(self.path)

    def probe(self, given: Mapping[str, Any]) -> str:
        """Of work on a class: changes with the linear probe that was fitted last. Empty of all other work."""
        if "class" not in given:
            return ""
        file = self.run / "measures" / "linear.npz" if self.run else None
        return f"{file.stat().st_mtime_ns} {file.stat().st_size}" if file is not None and file.is_file() else ""

    @property
    def classes(self) -> list[str]:
        """Classes that a linear probe of the network tells, where one was fitted."""
        known = read_json(self.run / "measures" / "linear.json") if self.run else {}
        return [str(name) for name in known.get("classes", [])][:MOST_CLASSES]


class ExplorerStore:
    """A data set with what is known of it.

    Args:
        pack: the prepared data set.
        networks: those whose banks there are, the first of which the map and the clusters are of.
    """

    def __init__(self, pack: Pack, networks: Sequence[Network]) -> None:
        self.pack, self.networks = pack, {network.name: network for network in networks}
        self.edits = Edits(pack.path.parent / f"{pack.path.name}.edits.sqlite")
        self._vectors = lru_cache(maxsize=8)(self._read_vectors)
        self._heights = lru_cache(maxsize=8)(self._read_heights)
        self._tops = lru_cache(maxsize=8)(self._read_tops)

    @classmethod
    def of(cls, folder: Path) -> "ExplorerStore":
        """The shelf of a prepared folder."""
        pack = Pack(folder)
        networks = [
            Network(one["name"], folder / one["bank"], folder / one["run"] if one["run"] else None) for one in pack.about["networks"]
        ]
        return cls(pack, networks)

    @cached_property
    def columns(self) -> list[dict[str, Any]]:
        """Each column with its values and how often they are, or its bounds; texts of more than 50 values with the most frequent."""
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
        """What there is, for the page's first look."""
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
            "clusterings": [{"name": name, "count": len(told)} for name, told in self.pack.clusterings.items()],
            "maps": list(self.pack.maps),
            "masks": bool(self.pack.about.get("masks")),
        }

    def item(self, row: int) -> dict[str, Any]:
        """All that is known of an item.

        Raises:
            DataError: there is no such row.
        """
        self._check(row)
        known = {name: _plain(self.column(name)[row]) for name in self.pack.columns}
        said = {kind: self.edits.values(kind).get(row, "") for kind in ("tag", "note")}
        return {"row": row, "name": str(self.pack.names[row]), "columns": known, **said}

    def column(self, name: str) -> np.ndarray:
        """One value an item; of a clustering with what was merged."""
        return self.clusters_of(name).astype(np.float64) if name in self.pack.clusterings else self.pack.column(name)

    def edited_columns(self) -> dict[str, np.ndarray]:
        """Tags, names of clusters, and clusters with what was merged, as columns, for conditions and colours."""
        found: dict[str, np.ndarray] = {of: self.column(of) for of in self.pack.clusterings}
        tags = np.full(len(self.pack), "", dtype=object)
        for row, value in self.edits.values("tag").items():
            if row < len(tags):
                tags[row] = value
        found["tag"] = tags
        for of in self.pack.clusterings:
            found[f"{of}_name"] = self.named(of)
        return found

    def named(self, of: str = CLUSTER) -> np.ndarray:
        """The name of each item's cluster; empty where none was given."""
        numbers, names = self.clusters_of(of), self._edits_of("cluster_name", of)
        table = np.array([names.get(number, "") for number in range(int(numbers.max(initial=0)) + 1)], dtype=object)
        return table[numbers]

    def labelled(self) -> np.ndarray:
        """The label of each item by names of clusters: of the first clustering in which its cluster has a name; else empty."""
        found = np.full(len(self.pack), "", dtype=object)
        for of in self.pack.clusterings:
            found = np.where(found == "", self.named(of), found)
        return found

    def _edits_of(self, kind: str, of: str) -> dict[int, str]:
        """What was said of a clustering's clusters, by their numbers; subjects of the k-th clustering begin at k times ``SUBJECTS_PER_CLUSTERING``."""
        first = list(self.pack.clusterings).index(look_up("clustering", of, self.pack.clusterings)) * SUBJECTS_PER_CLUSTERING
        return {
            subject - first: value
            for subject, value in self.edits.values(kind).items()
            if first <= subject < first + SUBJECTS_PER_CLUSTERING
        }

    def clusters_of(self, of: str = CLUSTER) -> Int[np.ndarray, " item"]:
        """The cluster of each item, with what was merged."""
        numbers = self.pack.column(of).astype(np.int64)
        said = self._edits_of("cluster_merge", of).items()
        into = {one: int(other) for one, other in said if other.isdecimal() and int(other) <= numbers.max(initial=0)}
        table = np.arange(int(numbers.max(initial=0)) + 1)
        for one in range(len(table)):
            target, seen = one, {one}
            while target in into and into[target] not in seen:
                target = into[target]
                seen.add(target)
            table[one] = target
        return table[numbers]

    def check_edit(self, kind: str, subjects: Sequence[Any], value: str) -> None:
        """Refuse what is said of items or clusters that are not there.

        Raises:
            UsageError: a subject, or the cluster into which others are merged, is not there.
        """
        if not all(isinstance(one, int) and not isinstance(one, bool) for one in subjects):
            raise UsageError("It is not told of what this is said.", "Give rows of items, or numbers of clusters.")
        sizes = [len(self.pack)] if kind in ("tag", "note") else [len(told) for told in self.pack.clusterings.values()]
        wanted = list(subjects)
        if kind == "cluster_merge" and value and subjects:
            if not value.isdecimal():
                raise UsageError(f"{value[:40]!r} is no cluster.", "Give the number of one.")
            wanted.append(subjects[0] // SUBJECTS_PER_CLUSTERING * SUBJECTS_PER_CLUSTERING + int(value))
        each = len(self.pack) if kind in ("tag", "note") else SUBJECTS_PER_CLUSTERING
        if not all(one >= 0 and one // each < len(sizes) and one % each < sizes[one // each] for one in wanted):
            raise UsageError("This is said of something that is not there.", "Give rows of items, or numbers of clusters.")

    def _check(self, row: int) -> None:
        if not 0 <= row < len(self.pack):
            raise DataError(f"There is no picture {row}.", f"Rows go from 0 to {len(self.pack) - 1}.")

    def _network(self, name: str) -> Network:
        return self.networks[look_up("network", name or next(iter(self.networks)), self.networks)]

    def _read_vectors(self, network: str, layer: str) -> tuple[np.ndarray, Float[np.ndarray, " item"]]:
        """Vectors of a layer and their lengths."""
        rows = self._network(network).bank.pooled(layer or None)
        lengths = [np.linalg.norm(rows[start : start + ROWS].astype(np.float32), axis=1) for start in range(0, len(rows), ROWS)]
        return rows, np.concatenate(lengths).clip(min=1e-12)

    def neighbours(
        self, asked: int | Float[np.ndarray, " dim"], network: str = "", layer: str = "", count: int = 24
    ) -> list[dict[str, Any]]:
        """The items most like one (by its row) or a vector: cosine of what a network says, the most alike first, without itself."""
        rows, lengths = self._vectors(network, layer)
        if isinstance(asked, int):
            self._check(asked)
        query = np.asarray(rows[asked] if isinstance(asked, int) else asked, dtype=np.float32)
        if query.shape != rows.shape[1:]:
            raise UsageError(f"A vector of {query.size} numbers is not one of this layer ({rows.shape[1]}).", "Ask the same layer.")
        query = query / max(float(np.linalg.norm(query)), 1e-12)
        alike = np.concatenate([rows[start : start + ROWS].astype(np.float32) @ query for start in range(0, len(rows), ROWS)]) / lengths
        if isinstance(asked, int):
            alike[asked] = -np.inf
        some = np.argpartition(-alike, min(count, len(alike) - 1))[:count]
        some = some[np.argsort(-alike[some], kind="stable")]
        return [{"row": int(row), "alike": round(float(alike[row]), 4)} for row in some if np.isfinite(alike[row])]

    def clusters(self, of: str = "") -> list[dict[str, Any]]:
        """Every cluster of a clustering with its members' extremes, name and, where labels are known, how pure it is; merged ones are one."""
        if not self.pack.clusterings:
            return []
        of = of or CLUSTER
        numbers, names = self.clusters_of(of), self._edits_of("cluster_name", of)
        labels = self.pack.column("label") if "label" in self.pack.columns else None
        near = self.pack.column(nearness_column(of)) if nearness_column(of) in self.pack.columns else np.zeros(len(self.pack))
        told = {int(one["number"]): one for one in self.pack.clusterings[of]}
        found, own = [], self.pack.column(of).astype(np.int64)
        for number in np.unique(numbers).tolist():
            members = np.flatnonzero(numbers == number)
            order = members[np.argsort(-near[members], kind="stable")]
            entry: dict[str, Any] = {
                "number": number,
                "subject": number + list(self.pack.clusterings).index(of) * SUBJECTS_PER_CLUSTERING,
                "name": names.get(number, ""),
                "size": len(members),
                "parts": np.unique(own[members]).tolist(),
                "central": order[:24].tolist(),
                "distant": order[::-1][:12].tolist(),
                "compact": round(float(near[members].mean()), 4),
                "units": told.get(number, {}).get("units", []),
            }
            if labels is not None:
                kinds, counts = np.unique(labels[members].astype(str), return_counts=True)
                entry |= {"label": str(kinds[counts.argmax()]), "purity": round(float(counts.max() / len(members)), 4)}
            found.append(entry)
        return found

    def label_selection(self, count: int = 30) -> list[dict[str, Any]]:
        """Pictures that are most worth a label, and why; none where there are no clusters."""
        if not {"cluster", "nearness", "duplicates"} <= set(self.pack.columns):
            return []
        columns = (self.pack.column(name) for name in ("nearness", "duplicates"))
        rows = self._network("").bank.pooled()
        return [{"row": row, "why": why} for row, why in select_for_labelling(rows, self.clusters_of(), *columns, count=count)]

    def mutual_knn(self, left: str = "", right: str = "", layers: tuple[str, str] = ("", "")) -> dict[str, Any]:
        """About which pictures two networks agree who is like whom; by default the first network and the last."""
        names = (left or next(iter(self.networks)), right or list(self.networks)[-1])
        vectors = [self._vectors(name, layer)[0] for name, layer in zip(names, layers, strict=True)]
        return {"networks": names, "layers": layers, **mutual_knn(*vectors)}

    def _read_heights(self, network: str, layer: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of each unit of a layer: mean, deviation and highest value."""
        rows = self._network(network).bank.pooled(layer or None)
        total, square, high = np.zeros(rows.shape[1]), np.zeros(rows.shape[1]), np.full(rows.shape[1], -np.inf)
        for start in range(0, len(rows), ROWS):
            part = rows[start : start + ROWS].astype(np.float64)
            total, square, high = total + part.sum(0), square + (part**2).sum(0), np.maximum(high, part.max(0))
        mean = total / len(rows)
        return mean, np.sqrt((square / len(rows) - mean**2).clip(min=0)), high

    def units(self, network: str = "", layer: str = "") -> list[dict[str, Any]]:
        """Every unit of a layer: how high it goes above its mean, in deviations, and the items it likes most of at most 20,000."""
        mean, deviation, high = self._heights(network, layer)
        peaks = np.divide(high - mean, deviation, out=np.zeros_like(mean), where=deviation > 0)
        top = self._tops(network, layer)
        return [
            {"unit": place, "mean": round(float(mean[place]), 4), "peak": round(float(peaks[place]), 3), "top": top[place].tolist()}
            for place in range(len(mean))
        ]

    def _read_tops(self, network: str, layer: str) -> Int[np.ndarray, "unit top"]:
        """The items that each unit likes most, the most first, of a sample drawn evenly."""
        rows, _ = self._vectors(network, layer)
        some = np.linspace(0, len(rows) - 1, min(len(rows), SAMPLE)).astype(np.int64)
        values = np.asarray(rows[some], dtype=np.float32)
        first = np.argpartition(-values, min(FEW, len(some)) - 1, axis=0)[:FEW]
        order = np.argsort(-np.take_along_axis(values, first, 0), axis=0, kind="stable")
        return some[np.take_along_axis(first, order, 0)].T

    def unit(self, number: int, network: str = "", layer: str = "") -> dict[str, Any]:
        """One unit: the items that it likes most and least, its histogram, and units that say the same.

        Raises:
            DataError: there is no such unit.
        """
        rows, _ = self._vectors(network, layer)
        if not 0 <= number < rows.shape[1]:
            raise DataError(f"There is no unit {number}.", f"Units of this layer go from 0 to {rows.shape[1] - 1}.")
        values = np.asarray(rows[:, number], dtype=np.float64)
        order = np.argsort(-values, kind="stable")
        counts, edges = np.histogram(values, BINS)
        some = np.linspace(0, len(rows) - 1, min(len(rows), 5000)).astype(np.int64)
        part = np.asarray(rows[some], dtype=np.float64)
        part = part - part.mean(0)
        like = part.T @ part[:, number] / (np.linalg.norm(part, axis=0) * np.linalg.norm(part[:, number])).clip(min=1e-12)
        like[number] = -np.inf
        twins = np.argsort(-like)[:8]
        return {
            "unit": number,
            "top": [{"row": int(row), "value": round(float(values[row]), 4)} for row in order[:TOP]],
            "bottom": [{"row": int(row), "value": round(float(values[row]), 4)} for row in order[::-1][:TOP]],
            "histogram": {"counts": counts.tolist(), "low": float(edges[0]), "high": float(edges[-1])},
            "alike": [{"unit": int(one), "correlation": round(float(like[one]), 3)} for one in twins if np.isfinite(like[one])],
        }

    def runs(self) -> list[dict[str, Any]]:
        """Each run's state, curves and scores, as they stand on disk now."""
        return [read_run(path) for path in dict.fromkeys(run_folder(one.run.resolve()) for one in self.networks.values() if one.run)]

    def health(self, count: int = 60) -> list[dict[str, Any]]:
        """What may be wrong with the data: the most extreme items by each measure, and pictures that are there twice."""
        found = []
        for name, (column, largest, words) in QUALITY_CHECKS.items():
            if column in self.pack.columns:
                values = self.pack.column(column)
                order = np.argsort(-values if largest else values, kind="stable")
                rows = [int(row) for row in order[:count] if np.isfinite(values[row])]
                found.append(
                    {"name": name, "column": column, "words": words, "rows": rows, "values": [_plain(values[row]) for row in rows]}
                )
        if "duplicates" in self.pack.columns:
            groups = self.pack.column("duplicates")
            twins = [np.flatnonzero(groups == group).tolist() for group in np.unique(groups[np.isfinite(groups)])[:count]]
            found.append({"name": "duplicates", "column": "duplicates", "words": "pictures that are there twice", "groups": twins})
        found.append({"name": "unreadable", "column": "", "words": "files that cannot be read", "files": self.pack.about.get("bad", [])})
        return found

    def table(self, rows: Int[np.ndarray, " row"]) -> dict[str, np.ndarray]:
        """Items with all columns and what was said of them, to be written down."""
        names = self.pack.names.to_numpy()[rows]
        return {
            "file": names,
            **{name: self.pack.column(name)[rows] for name in self.pack.columns},
            **{name: values[rows] for name, values in self.edited_columns().items()},
        }


def _plain(value: object) -> object:
    """A value of a column as JSON; ``None`` where it is not known."""
    if isinstance(value, float | np.floating):
        return float(f"{value:.6g}") if np.isfinite(value) else None
    return value if isinstance(value, str) else str(value)
