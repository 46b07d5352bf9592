"""Clusters of whole pictures: which there are, what is typical of each, what stands apart, and what is there twice."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch.nn.functional import normalize

from selfsight.bank.extract import extract_features, get_bank, make_encoder
from selfsight.bank.nearest import nearest
from selfsight.bank.store import OUTPUT
from selfsight.core.progress import ProgressCallback, no_progress
from selfsight.core.representation import Representation
from selfsight.data.evaluation_view import evaluation_view
from selfsight.data.source import Source
from selfsight.discover.images.grouping import Choice, choose_count, group
from selfsight.discover.images.sheets import cluster_sheet, draw_choice
from selfsight.discover.images.table import PIXELS
from selfsight.render.panels import facts, inlined, panel, table

__all__ = [
    "NEIGHBOURS",
    "THUMB",
    "Cluster",
    "ClusteringResult",
    "cluster_labels",
    "describe_groups",
    "find_clusters",
    "image_vectors",
    "near_duplicates",
    "numbered",
    "thumbnails",
]

TYPICAL, APART = 8, 3
"""Pictures of each cluster that are shown: nearest to its middle, farthest from it."""
THUMB = 96
"""Side of these in pixels."""
NEIGHBOURS = 10
"""Neighbours by whose distance a picture is an outlier."""
TINY, PIXEL_SIDE = 24, 32
"""Sides at which near-duplicates are compared in pixels, and at which pixels are clustered."""


@dataclass(frozen=True)
class Cluster:
    """What is known of a cluster.

    Attributes:
        size: pictures.
        spread: their mean distance ``1 - cos`` to its middle; small: compact.
        typical, apart: rows of pictures nearest to its middle, and farthest from it.
        units: the strongest of the representation's output here: (number, how many standard deviations above all pictures' mean).
        name: the commonest class, where classes are known.
        share: of the pictures whose class is known, how many have it.
    """

    size: int
    spread: float
    typical: tuple[int, ...]
    apart: tuple[int, ...]
    units: tuple[tuple[int, float], ...]
    name: str | None = None
    share: float | None = None

    def to_json(self, names: Sequence[str]) -> dict[str, Any]:
        """For JSON, with file names for rows."""
        plain: dict[str, Any] = {"size": self.size, "spread": round(self.spread, 5)}
        plain |= {"name": self.name, "share": self.share} if self.name is not None else {}
        plain |= {word: [str(names[row]) for row in rows] for word, rows in (("typical", self.typical), ("apart", self.apart))}
        return plain | {"units": [{"unit": unit, "above": round(above, 3)} for unit, above in self.units]}


@dataclass(frozen=True)
class ClusteringResult:
    """The pictures of a data set in clusters, the largest first.

    Attributes:
        names: of the pictures.
        labels: the cluster of each, from 0.
        nearness: the cosine of each with the middle of its cluster.
        lonely: how far each is from its ten nearest: the mean of ``1 - cos``; large: an outlier.
        twins: groups of rows of pictures that are nearly the same.
        clusters: what is known of each.
        choice: how their number was chosen, where it was.
        pictures: small copies, by row.
        facts: how it was done.
    """

    names: tuple[str, ...]
    labels: Int[np.ndarray, " picture"]
    nearness: Float[np.ndarray, " picture"]
    neighbour_distance: Float[np.ndarray, " picture"]
    duplicate_groups: tuple[tuple[int, ...], ...]
    clusters: tuple[Cluster, ...]
    choice: Choice | None = None
    pictures: Mapping[int, UInt8[np.ndarray, "_ _ 3"]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def with_class_names(self, labels: Int[np.ndarray, " picture"], classes: Sequence[str]) -> "ClusteringResult":
        """With the commonest class of each cluster as its name; a label of -1 is not known."""
        named = []
        for number, cluster in enumerate(self.clusters):
            known = labels[(self.labels == number) & (labels >= 0)]
            counts = np.bincount(known, minlength=len(classes)) if len(known) else None
            name, share = (None, None) if counts is None else (str(classes[int(counts.argmax())]), float(counts.max() / counts.sum()))
            named.append(replace(cluster, name=name, share=share))
        return replace(self, clusters=tuple(named))

    def to_json(self) -> dict[str, Any]:
        """Everything but pictures and single pictures' numbers."""
        plain: dict[str, Any] = {"info": dict(self.facts), "clusters": [one.to_json(self.names) for one in self.clusters]}
        plain["duplicates"] = [[self.names[row] for row in group] for group in self.duplicate_groups]
        plain["outliers"] = [
            {"file": self.names[row], "distance": round(float(self.neighbour_distance[row]), 5)} for row in self.outliers()
        ]
        if self.choice:
            tried = zip(self.choice.counts, self.choice.silhouettes, self.choice.spread, strict=True)
            plain["choice"] = [{"clusters": count, "silhouette": silhouette, "spread": spread} for count, silhouette, spread in tried]
        return plain

    def duplicates(self) -> Float[np.ndarray, " picture"]:
        """The number of each picture's group of near-duplicates; NaN where it is in none."""
        found = np.full(len(self.names), np.nan)
        for row, number in numbered(self.duplicate_groups).items():
            found[row] = number
        return found

    def outliers(self, most: int = 24) -> list[int]:
        """Rows of the pictures that are farthest from their neighbours, the farthest first."""
        return np.argsort(-self.neighbour_distance, kind="stable")[:most].tolist()

    def save(self, folder: Path) -> list[Path]:
        """Write ``clusters.csv`` (a line a picture), ``clusters.json``, ``clusters.png`` and, where a number was chosen, ``choice.png``."""
        folder.mkdir(parents=True, exist_ok=True)
        group = numbered(self.duplicate_groups)
        with (folder / "clusters.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["file", "cluster", "nearness", "distance_to_neighbours", "duplicates"])
            numbers = zip(self.labels.tolist(), self.nearness.round(5).tolist(), self.neighbour_distance.round(5).tolist(), strict=True)
            table.writerows([name, *some, group.get(row, "")] for row, (name, some) in enumerate(zip(self.names, numbers, strict=True)))
        (folder / "clusters.json").write_text(json.dumps(self.to_json()) + "\n")
        (folder / "clusters.png").write_bytes(self._repr_png_())
        files = ["clusters.png", "clusters.json", "clusters.csv"]
        if self.choice:
            (folder / "choice.png").write_bytes(draw_choice(self.choice))
            files.append("choice.png")
        return [folder / name for name in files]

    def _repr_png_(self) -> bytes:
        """A row a cluster: pictures near its middle, and far from it."""
        rows = []
        for number, cluster in enumerate(self.clusters):
            words = [f"{number}" if cluster.name is None else f"{number} {cluster.name}", f"{cluster.size:,} pictures"]
            words += [f"{cluster.share:.0%} of it"] if cluster.share is not None else []
            words += [f"spread {cluster.spread:.2f}"]
            shown = [[self.pictures[row] for row in rows if row in self.pictures] for rows in (cluster.typical, cluster.apart)]
            rows.append((words, shown[0], shown[1]))
        return cluster_sheet(rows, (TYPICAL, APART))

    def _repr_html_(self) -> str:
        head = ("cluster", "commonest class", "of it", "pictures", "spread", "most typical")
        rows = [
            (number, one.name, one.share, one.size, one.spread, self.names[one.typical[0]] if one.typical else None)
            for number, one in enumerate(self.clusters)
        ]
        about = facts({**self.facts, "pictures": f"{len(self.names):,}", "groups of near-duplicates": len(self.duplicate_groups)})
        return panel(f"{len(self.clusters)} clusters", about, table(head, rows), inlined(self._repr_png_(), "pictures of each cluster"))


def find_clusters(
    phi: Representation,
    source: Source,
    method: str = "spherical",
    *,
    count: int | None = None,
    banks: Path | None = None,
    alike: float = 0.99,
    seed: int = 0,
    progress: ProgressCallback = no_progress,
    vectors: Float[np.ndarray, "picture dim"] | None = None,
    **options: Any,
) -> ClusteringResult:
    """Clusters of a data set's pictures, by what the representation says of each, less the mean of all, at unit length.

    Args:
        phi, source: what looks, and at what.
        method: ``spherical`` or plain ``kmeans``, ``balanced`` (of one size), ``scan`` (neighbours belong together); or ``pixels``.
        count: clusters; None: as many as have the largest silhouette (``grouping.choose_count``).
        banks: a folder in which features are kept.
        alike: the correlation of pixels at which neighbours are the same picture.
        seed: of all chance.
        progress: called with what is being done.
        vectors: ``image_vectors`` the pictures, where they are known already.
        options: of the method.

    Raises:
        UsageError: there is no such method, or there are too few pictures.
    """
    rows = image_vectors(phi, source, method, banks) if vectors is None else vectors
    progress(f"clusters: {len(rows):,} pictures")
    choice = choose_count(rows, method=method, seed=seed, progress=progress, **options) if count is None else None
    labels = group(rows, choice.best if choice else count or 0, method, seed=seed, **options).numpy()
    facts = {"method": method, "chosen": choice is not None, "representation": phi.name, "data": source.spec, **options}
    found = _described(source, rows, labels, alike, progress)
    return replace(found, choice=choice, facts={"clusters": len(found.clusters), **facts})


def _described(
    source: Source, rows: Float[np.ndarray, "picture dim"], labels: Int[np.ndarray, " picture"], alike: float, progress: ProgressCallback
) -> ClusteringResult:
    """What is known of each cluster and picture."""
    unit = normalize(torch.from_numpy(rows)).numpy()
    near, around = nearest(unit, unit, NEIGHBOURS, exclude_self=True)
    nearness, above = describe_groups(rows, labels)
    clusters = tuple(_known(np.flatnonzero(labels == number), nearness, above[number]) for number in range(len(above)))
    progress("near-duplicates")
    twins = near_duplicates(source, around, alike)
    progress(f"clusters: {len(clusters)}, {len(twins)} groups of near-duplicates")
    shown = np.unique([row for one in clusters for row in (*one.typical, *one.apart)]).astype(np.int64)
    return ClusteringResult(
        tuple(str(name) for name in source.names), labels, nearness, 1 - near.mean(1), twins, clusters, None, thumbnails(source, shown)
    )


def describe_groups(
    rows: Float[np.ndarray, "picture dim"], labels: Int[np.ndarray, " picture"]
) -> tuple[Float[np.ndarray, " picture"], Float[np.ndarray, "group dim"]]:
    """How near each picture is to its group's middle, and how far each unit's mean in a group lies above that of all.

    With ``m_k`` the mean of the unit-length vectors of group k: nearness ``<x/|x|, m_k/|m_k|>``; above ``(mean_k - mean) / deviation``, 0
    where a unit never changes.
    """
    unit = normalize(torch.from_numpy(rows)).numpy()
    groups = [labels == number for number in range(labels.max() + 1)]
    middles = np.stack([unit[group].mean(0) for group in groups])
    middles /= np.linalg.norm(middles, axis=1, keepdims=True).clip(min=1e-12)
    scale = rows.std(0)
    above = np.stack([(rows[group].mean(0) - rows.mean(0)) / scale.clip(min=1e-6) * (scale > 1e-6) for group in groups])
    return (unit * middles[labels]).sum(1), above


def cluster_labels(
    phi: Representation, source: Source, method: str = "spherical", *, count: int, seed: int = 0, **options: Any
) -> Int[np.ndarray, " picture"]:
    """The cluster of each picture and no more; see ``find_clusters``."""
    return group(image_vectors(phi, source, method), count, method, seed=seed, **options).numpy()


def image_vectors(phi: Representation, source: Source, method: str = "", banks: Path | None = None) -> Float[np.ndarray, "picture dim"]:
    """One vector a picture, less the mean of all, without which the cosines of most representations are all near 1.

    Args:
        phi, source: what looks, and at what.
        method: ``pixels``: the values of a small picture in place of what the representation says.
        banks: a folder in which features are kept.
    """
    if method == PIXELS:
        found = _small(source, PIXEL_SIDE)
        found = found - found.mean(1, keepdims=True)
    elif banks is not None:
        found = get_bank(phi, source, banks).pooled()
    else:
        found = extract_features(source, make_encoder(phi), size=phi.size, device=phi.device)[OUTPUT]
    rows = np.asarray(found, dtype=np.float32)
    return rows - rows.mean(0)


def _small(source: Source, side: int) -> Float[np.ndarray, "picture value"]:
    """All pictures' central squares, so many pixels wide, as vectors."""
    rows = np.arange(len(source))
    return torch.cat([evaluation_view(source, side)(part).flatten(1) for part in np.array_split(rows, max(len(rows) // 256, 1))]).numpy()


def _known(rows: Int[np.ndarray, " member"], nearness: Float[np.ndarray, " picture"], above: Float[np.ndarray, " dim"]) -> Cluster:
    order = rows[np.argsort(-nearness[rows], kind="stable")]
    units = tuple((int(unit), float(above[unit])) for unit in np.argsort(-above, kind="stable")[:3])
    apart = tuple(order[TYPICAL:][::-1][:APART].tolist())
    return Cluster(len(rows), float(1 - nearness[rows].mean()), tuple(order[:TYPICAL].tolist()), apart, units)


def thumbnails(source: Source, rows: Int[np.ndarray, " row"], side: int = THUMB) -> dict[int, UInt8[np.ndarray, "_ _ 3"]]:
    """Small pictures by row: their central squares, so many pixels wide."""
    found: dict[int, np.ndarray] = {}
    for part in np.array_split(rows, max(len(rows) // 64, 1)) if len(rows) else []:
        squares = (evaluation_view(source, side)(part) * 255).round().byte().permute(0, 2, 3, 1).numpy()
        found |= dict(zip(part.tolist(), squares, strict=True))
    return found


def numbered(groups: Sequence[Sequence[int]]) -> dict[int, int]:
    """The number of its group, by row."""
    return {row: number for number, rows in enumerate(groups) for row in rows}


def near_duplicates(source: Source, around: Int[np.ndarray, "picture neighbour"], alike: float) -> tuple[tuple[int, ...], ...]:
    """Groups of pictures that are each other's neighbours in features and correlate in pixels; the first picture first.

    Features alone do not tell: what is alike to a representation may be two pictures of the same thing.

    Args:
        source: the pictures.
        around: rows of each picture's neighbours in features.
        alike: the correlation of pixels from which two neighbours are the same picture.
    """
    every, pixels = np.arange(len(around)), _small(source, TINY)
    pixels -= pixels.mean(1, keepdims=True)
    pixels /= np.linalg.norm(pixels, axis=1, keepdims=True).clip(min=1e-6)
    leader = every.copy()

    def first(row: int) -> int:
        while leader[row] != row:
            row = int(leader[row])
        return row

    for column in around.T:
        for row in np.flatnonzero((pixels * pixels[column]).sum(1) >= alike).tolist():
            one, other = sorted((first(row), first(int(column[row]))))
            leader[other] = one
    roots = np.array([first(row) for row in every.tolist()])
    together = [tuple(np.flatnonzero(roots == root).tolist()) for root in np.unique(roots[leader != every])]
    return tuple(together)
