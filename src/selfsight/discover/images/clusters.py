"""Clusters of whole images: typical images of each cluster, outliers, and near-duplicates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch.nn.functional import normalize

from selfsight.bank.extract import extract_features, get_bank, make_encoder
from selfsight.bank.nearest import nearest
from selfsight.bank.store import OUTPUT
from selfsight.core.finite import require_finite
from selfsight.core.json_text import json_text
from selfsight.core.progress import ProgressCallback, no_progress
from selfsight.core.representation import Representation
from selfsight.core.spreadsheets import write_csv
from selfsight.data.evaluation_view import evaluation_view
from selfsight.data.source import Source
from selfsight.discover.images.grouping import Choice, choose_count, group
from selfsight.discover.images.near_duplicates import near_duplicates, small_images
from selfsight.discover.images.sheets import cluster_sheet, draw_choice
from selfsight.discover.images.table import PIXELS
from selfsight.discover.options import GrouperOptions
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
    "numbered",
    "thumbnails",
]

TYPICAL, APART = 8, 3
"""Images shown per cluster: nearest to its centre, farthest from it."""
THUMB = 96
"""Side of a thumbnail in pixels."""
NEIGHBOURS = 10
"""Neighbours whose mean distance is the outlier score."""
PIXEL_SIDE = 32
"""Side in pixels at which pixels are clustered."""


@dataclass(frozen=True)
class Cluster:
    """Description of a cluster.

    Attributes:
        size: number of images.
        spread: mean distance ``1 - cos`` to the cluster centre; small: compact.
        typical: rows of the images nearest to the centre.
        apart: rows of the images farthest from the centre.
        units: the most active output units: (index, standard deviations above the mean of all images).
        name: the most frequent class, if classes are known.
        share: its fraction of the images with a known class.
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
        plain |= {key: [str(names[row]) for row in rows] for key, rows in (("typical", self.typical), ("apart", self.apart))}
        return plain | {"units": [{"unit": unit, "above": round(above, 3)} for unit, above in self.units]}


@dataclass(frozen=True)
class ClusteringResult:
    """The images of a data set in clusters, the largest first.

    Attributes:
        names: names of the images.
        labels: cluster of each image, from 0.
        nearness: cosine of each image with its cluster centre.
        neighbour_distance: mean ``1 - cos`` to the ten nearest neighbours; large: an outlier.
        duplicate_groups: groups of rows of near-duplicates.
        clusters: description of each cluster.
        choice: how the number of clusters was chosen; None: it was given.
        thumbnails: thumbnails by row.
        facts: the settings.
    """

    names: tuple[str, ...]
    labels: Int[np.ndarray, " image"]
    nearness: Float[np.ndarray, " image"]
    neighbour_distance: Float[np.ndarray, " image"]
    duplicate_groups: tuple[tuple[int, ...], ...]
    clusters: tuple[Cluster, ...]
    choice: Choice | None = None
    thumbnails: Mapping[int, UInt8[np.ndarray, "_ _ 3"]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def with_class_names(self, labels: Int[np.ndarray, " image"], classes: Sequence[str]) -> "ClusteringResult":
        """Name each cluster by its most frequent class.

        Args:
            labels: class of each image; -1 is unknown.
            classes: names of the classes.
        """
        named = []
        for number, cluster in enumerate(self.clusters):
            known = labels[(self.labels == number) & (labels >= 0)]
            counts = np.bincount(known, minlength=len(classes)) if len(known) else None
            name, share = (None, None) if counts is None else (str(classes[int(counts.argmax())]), float(counts.max() / counts.sum()))
            named.append(replace(cluster, name=name, share=share))
        return replace(self, clusters=tuple(named))

    def to_json(self) -> dict[str, Any]:
        """Everything except thumbnails and values of single images."""
        plain: dict[str, Any] = {"info": dict(self.facts), "clusters": [cluster.to_json(self.names) for cluster in self.clusters]}
        plain["duplicates"] = [[self.names[row] for row in group] for group in self.duplicate_groups]
        plain["outliers"] = [
            {"file": self.names[row], "distance": round(float(self.neighbour_distance[row]), 5)} for row in self.outliers()
        ]
        if self.choice:
            tried = zip(self.choice.counts, self.choice.silhouettes, self.choice.spread, strict=True)
            plain["choice"] = [{"clusters": count, "silhouette": silhouette, "spread": spread} for count, silhouette, spread in tried]
        return plain

    def duplicates(self) -> Float[np.ndarray, " image"]:
        """Index of each image's group of near-duplicates; NaN where it has none."""
        indices = np.full(len(self.names), np.nan)
        for row, number in numbered(self.duplicate_groups).items():
            indices[row] = number
        return indices

    def outliers(self, most: int = 24) -> list[int]:
        """Rows of the images with the largest distance to their neighbours, in descending order."""
        return np.argsort(-self.neighbour_distance, kind="stable")[:most].tolist()

    def save(self, folder: Path) -> list[Path]:
        """Write ``clusters.csv`` (a line per image), ``clusters.json``, ``clusters.png`` and, if the number was chosen, ``choice.png``."""
        folder.mkdir(parents=True, exist_ok=True)
        group = numbered(self.duplicate_groups)
        with (folder / "clusters.csv").open("w", newline="", encoding="utf-8") as file:
            columns = zip(self.labels.tolist(), self.nearness.round(5).tolist(), self.neighbour_distance.round(5).tolist(), strict=True)
            rows = ([name, *values, group.get(row, "")] for row, (name, values) in enumerate(zip(self.names, columns, strict=True)))
            write_csv(file, ["file", "cluster", "nearness", "distance_to_neighbours", "duplicates"], rows)
        (folder / "clusters.json").write_text(json_text(self.to_json()) + "\n")
        (folder / "clusters.png").write_bytes(self._repr_png_())
        files = ["clusters.png", "clusters.json", "clusters.csv"]
        if self.choice:
            (folder / "choice.png").write_bytes(draw_choice(self.choice))
            files.append("choice.png")
        return [folder / name for name in files]

    def _repr_png_(self) -> bytes:
        """A row per cluster: images near its centre, and images far from it."""
        rows = []
        for number, cluster in enumerate(self.clusters):
            caption = [f"{number}" if cluster.name is None else f"{number} {cluster.name}", f"{cluster.size:,} images"]
            caption += [f"{cluster.share:.0%} of it"] if cluster.share is not None else []
            caption += [f"spread {cluster.spread:.2f}"]
            thumbnails = [[self.thumbnails[row] for row in rows if row in self.thumbnails] for rows in (cluster.typical, cluster.apart)]
            rows.append((caption, thumbnails[0], thumbnails[1]))
        return cluster_sheet(rows, (TYPICAL, APART))

    def _repr_html_(self) -> str:
        head = ("cluster", "most frequent class", "fraction", "images", "spread", "most typical")
        rows = [
            (number, cluster.name, cluster.share, cluster.size, cluster.spread, self.names[cluster.typical[0]] if cluster.typical else None)
            for number, cluster in enumerate(self.clusters)
        ]
        about = facts({**self.facts, "images": f"{len(self.names):,}", "groups of near-duplicates": len(self.duplicate_groups)})
        return panel(f"{len(self.clusters)} clusters", about, table(head, rows), inlined(self._repr_png_(), "images of each cluster"))


def find_clusters(
    phi: Representation,
    source: Source,
    method: str = "spherical",
    *,
    count: int | None = None,
    banks: Path | None = None,
    duplicate_threshold: float = 0.99,
    seed: int = 0,
    progress: ProgressCallback = no_progress,
    vectors: Float[np.ndarray, "image dim"] | None = None,
    **options: Unpack[GrouperOptions],
) -> ClusteringResult:
    """Cluster the images of a data set by their features, centred and at unit length.

    Args:
        phi: the representation.
        source: the data set.
        method: ``spherical`` or plain ``kmeans``, ``balanced`` (equal sizes), ``scan`` (neighbours share a cluster), or ``pixels``.
        count: number of clusters; None: the one with the largest silhouette (``grouping.choose_count``).
        banks: folder of cached features; None: no cache.
        duplicate_threshold: pixel correlation from which neighbours are near-duplicates.
        seed: seed of all random choices.
        progress: called with a line per step.
        vectors: result of ``image_vectors``, if already computed.
        options: options of the method.

    Raises:
        UsageError: the method does not exist, or there are too few images.
    """
    rows = image_vectors(phi, source, method, banks) if vectors is None else vectors
    progress(f"clusters: {len(rows):,} images")
    choice = choose_count(rows, method=method, seed=seed, progress=progress, **options) if count is None else None
    labels = group(rows, choice.best if choice else count or 0, method, seed=seed, **options).numpy()
    facts = {"method": method, "chosen": choice is not None, "representation": phi.name, "data": source.spec, **options}
    result = _described(source, rows, labels, duplicate_threshold, progress)
    return replace(result, choice=choice, facts={"clusters": len(result.clusters), **facts})


def _described(
    source: Source,
    rows: Float[np.ndarray, "image dim"],
    labels: Int[np.ndarray, " image"],
    duplicate_threshold: float,
    progress: ProgressCallback,
) -> ClusteringResult:
    """Describe clusters and images."""
    unit = normalize(torch.from_numpy(rows)).numpy()
    similarities, neighbours = nearest(unit, unit, NEIGHBOURS, exclude_self=True)
    nearness, above = describe_groups(rows, labels)
    clusters = tuple(_cluster(np.flatnonzero(labels == number), nearness, above[number]) for number in range(len(above)))
    progress("near-duplicates")
    duplicates = near_duplicates(source, neighbours, duplicate_threshold)
    progress(f"clusters: {len(clusters)}, {len(duplicates)} groups of near-duplicates")
    shown_rows = np.unique([row for cluster in clusters for row in (*cluster.typical, *cluster.apart)]).astype(np.int64)
    return ClusteringResult(
        tuple(str(name) for name in source.names),
        labels,
        nearness,
        1 - similarities.mean(1),
        duplicates,
        clusters,
        None,
        thumbnails(source, shown_rows),
    )


def describe_groups(
    rows: Float[np.ndarray, "image dim"], labels: Int[np.ndarray, " image"]
) -> tuple[Float[np.ndarray, " image"], Float[np.ndarray, "group dim"]]:
    """Cosine of each image with its group's centre, and deviation of each group's mean from the mean of all images.

    Args:
        rows: features ``(N, D)``.
        labels: ``(N,)`` group of each image, from 0.

    Returns:
        ``(N,)`` cosines ``<x/|x|, m_k/|m_k|>``, m_k the mean of the unit-length vectors of group k; and ``(group, D)`` deviations
        ``(mean_k - mean) / std``, 0 where a dimension is constant.
    """
    unit = normalize(torch.from_numpy(rows)).numpy()
    groups = [labels == number for number in range(labels.max() + 1)]
    centres = np.stack([unit[group].mean(0) for group in groups])
    centres /= np.linalg.norm(centres, axis=1, keepdims=True).clip(min=1e-12)
    scale = rows.std(0)
    deviations = np.stack([(rows[group].mean(0) - rows.mean(0)) / scale.clip(min=1e-6) * (scale > 1e-6) for group in groups])
    return (unit * centres[labels]).sum(1), deviations


def cluster_labels(
    phi: Representation, source: Source, method: str = "spherical", *, count: int, seed: int = 0, **options: Unpack[GrouperOptions]
) -> Int[np.ndarray, " image"]:
    """Cluster of each image; see ``find_clusters``.

    Args:
        phi: the representation.
        source: the data set.
        method: clustering method.
        count: number of clusters.
        seed: seed of all random choices.
        options: options of the method.
    """
    return group(image_vectors(phi, source, method), count, method, seed=seed, **options).numpy()


def image_vectors(phi: Representation, source: Source, method: str = "", banks: Path | None = None) -> Float[np.ndarray, "image dim"]:
    """One centred vector per image; without centring the cosines of most representations are all near 1.

    Args:
        phi: the representation.
        source: the data set.
        method: ``pixels``: pixel values of a small image instead of features.
        banks: folder of cached features; None: no cache.

    Raises:
        DataError: some features are NaN or infinite.
    """
    if method == PIXELS:
        vectors = small_images(source, PIXEL_SIDE)
        vectors = vectors - vectors.mean(1, keepdims=True)
    elif banks is not None:
        vectors = get_bank(phi, source, banks).pooled()
    else:
        vectors = extract_features(source, make_encoder(phi), size=phi.size, device=phi.device)[OUTPUT]
    rows = np.asarray(vectors, dtype=np.float32)
    require_finite(rows, source.spec, source.names)
    return rows - rows.mean(0)


def _cluster(rows: Int[np.ndarray, " member"], nearness: Float[np.ndarray, " image"], deviations: Float[np.ndarray, " dim"]) -> Cluster:
    order = rows[np.argsort(-nearness[rows], kind="stable")]
    units = tuple((int(unit), float(deviations[unit])) for unit in np.argsort(-deviations, kind="stable")[:3])
    farthest = tuple(order[TYPICAL:][::-1][:APART].tolist())
    return Cluster(len(rows), float(1 - nearness[rows].mean()), tuple(order[:TYPICAL].tolist()), farthest, units)


def thumbnails(source: Source, rows: Int[np.ndarray, " row"], side: int = THUMB) -> dict[int, UInt8[np.ndarray, "_ _ 3"]]:
    """Thumbnails by row: central squares.

    Args:
        source: the data set.
        rows: rows to read.
        side: side in pixels.
    """
    images: dict[int, np.ndarray] = {}
    for part in np.array_split(rows, max(len(rows) // 64, 1)) if len(rows) else []:
        squares = (evaluation_view(source, side)(part) * 255).round().byte().permute(0, 2, 3, 1).numpy()
        images |= dict(zip(part.tolist(), squares, strict=True))
    return images


def numbered(groups: Sequence[Sequence[int]]) -> dict[int, int]:
    """Index of the group of each row."""
    return {row: number for number, rows in enumerate(groups) for row in rows}
