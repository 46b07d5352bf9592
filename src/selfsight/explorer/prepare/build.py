"""Prepares a data set for the explorer: features, clusters, maps and thumbnails, computed once."""

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from scipy import ndimage

from selfsight.bank.extract import get_bank
from selfsight.bank.store import OUTPUT, Bank
from selfsight.core.cache import digest_of
from selfsight.core.names import unused_name
from selfsight.core.progress import ProgressCallback, no_progress
from selfsight.core.representation import Representation
from selfsight.core.results import results_folder
from selfsight.data.opening import open_source
from selfsight.data.source import Source, Truth
from selfsight.discover.images.clusters import describe_groups, find_clusters
from selfsight.discover.images.grouping import group
from selfsight.engine.hardware import fast_bf16
from selfsight.explorer.prepare.projection import available_projections, project, require_projection
from selfsight.explorer.server.edits import Edits
from selfsight.explorer.server.opening import DataSelection, find_prepared, record_prepared, select_data
from selfsight.explorer.server.pack import CLUSTER, Pack, PackWriter, edits_file, is_prepared, nearness_column, run_folder
from selfsight.measure.baselines import untrained_network
from selfsight.render.sheet import unique_names

__all__ = ["find_or_prepare", "open_selection", "prepare", "untrained_reference"]

SIDE = 128
"""Longest side of a thumbnail in pixels."""
PART = 256
OURS = (
    "name", "file", "row", "tag", "note", "label", "brightness", "contrast", "sharpness", "information", "width", "height", "oddness",
    CLUSTER, nearness_column(CLUSTER), f"{CLUSTER}_name", "distance_to_neighbours", "duplicates",
)  # fmt: skip
"""Computed columns; columns of the data with the same name get an underscore appended."""
CLUSTERED = 50_000
"""Maximum number of images for clusters, neighbours and duplicates."""


def prepare(
    networks: Mapping[str, tuple[Representation, Path]],
    source: Source,
    folder: Path,
    *,
    chosen: DataSelection | None = None,
    untrained: bool = True,
    maps: Sequence[str] | None = None,
    rebuild: bool = False,
    progress: ProgressCallback = no_progress,
) -> Pack:
    """Prepare a data set for the explorer, unless it is already prepared.

    Args:
        networks: representations and the folders of their runs, by name; clusters are those of the first.
        source: the data set.
        folder: folder of prepared data sets.
        chosen: how the data set is opened again; None: by its name.
        untrained: also use the first network with initial weights, for comparison.
        maps: projections of the first network's features (``explorer.prepare.projection.PROJECTIONS``), the first shown first, besides the PCA
            of every network; None: PaCMAP, if its package is installed and there are at most 50,000 images.
        rebuild: prepare again.
        progress: called with a line per step.

    Raises:
        UsageError: a projection does not exist.
        MissingExtra: the package of a projection is not installed.
    """
    for kind in maps or ():
        require_projection(kind)
    banks = _banks(networks, source, untrained=untrained, progress=progress)
    default = ["pacmap"] if "pacmap" in available_projections() and len(source) <= CLUSTERED else []
    projections = default if maps is None else list(maps)
    digest = digest_of([source.fingerprint, [str(path) for path in banks.values()]])
    path = folder / digest
    if not rebuild and is_prepared(path) and (maps is None or Pack(path).maps[: len(maps)] == tuple(maps)):
        return Pack(path)
    with PackWriter(path) as writer:
        return _write(writer, networks, banks, source, projections, asdict(chosen or DataSelection(source.spec)), progress)


def _write(
    writer: PackWriter,
    networks: Mapping[str, tuple[Representation, Path]],
    banks: Mapping[str, Path],
    source: Source,
    projections: Sequence[str],
    facts: Mapping[str, Any],
    progress: ProgressCallback,
) -> Pack:
    """Write thumbnails, columns, clusters, maps and their origin."""
    phi, run = next(iter(networks.values()))
    progress(f"thumbnails of {len(source):,} images")
    qualities: list[dict[str, float]] = []
    writer.thumbs(_thumbs(source, qualities, progress))
    truth = source.truth(np.arange(len(source)))
    columns = _annotations(truth, len(source))
    columns |= {name: np.array([quality[name] for quality in qualities]) for name in qualities[0]} if qualities else {}
    groups, clusters = _clustered(phi, source, next(iter(banks.values())), progress)
    described = [
        {
            "name": name,
            "bank": os.path.relpath(bank, writer.path),
            "run": os.path.relpath(networks[name][1], writer.path) if name in networks else "",
            "attends": networks.get(name, (phi, run))[0].has_attention,
        }
        for name, bank in banks.items()
    ]
    extra = {"size": phi.size, "fingerprint": source.fingerprint, "networks": described, "masks": truth.masks is not None}
    _undo_cluster_edits(writer.path, groups, progress)
    bad = [list(one) for one in source.bad][:1000]
    return writer.finish(
        list(source.names), columns | groups, _maps(banks, projections, progress), clusters, {**facts, **extra, "bad": bad}
    )


def _undo_cluster_edits(path: Path, groups: Mapping[str, np.ndarray], progress: ProgressCallback) -> None:
    """Undo edits of clusters if the clusters have changed; they remain in the history."""
    if not is_prepared(path):
        return
    previous = Pack(path)
    same = set(previous.clusterings) <= set(groups) and all((previous.column(name) == groups[name]).all() for name in previous.clusterings)
    edits = Edits(edits_file(path))
    for kind in ("cluster_merge", "cluster_name"):
        if not same and (named := list(edits.values(kind))):
            edits.set(kind, named, "")
            progress(f"clusters have changed: {len(named)} edits were removed; undo restores them")
    edits.close()


def find_or_prepare(
    networks: Mapping[str, tuple[Representation, Path]],
    data: str | None = None,
    *,
    limit: int | None = None,
    rebuild: bool = False,
    untrained: bool = True,
    maps: Sequence[str] | None = None,
    progress: ProgressCallback = no_progress,
) -> Path:
    """The prepared folder of these networks and a data set; prepared if there is none.

    Args:
        networks: representations and the folders of their runs, by name.
        data: name of the data set; None: the training data of the first run.
        limit: use a random subset of this size (seed 0).
        rebuild: prepare again.
        untrained: prepare the untrained network too.
        maps: names of projections; None: the default.
        progress: called with a line per step.
    """
    paths = [path for _, path in networks.values()]
    chosen = select_data(paths[0], data, limit)
    folder = None if rebuild or maps is not None else find_prepared(paths, chosen)
    if folder is None:
        source = open_selection(chosen, next(iter(networks.values()))[0].size)
        pack = prepare(
            networks,
            source,
            results_folder(run_folder(paths[0]), "explorer"),
            chosen=chosen,
            untrained=untrained,
            maps=maps,
            rebuild=rebuild,
            progress=progress,
        )
        record_prepared(paths, chosen, pack)
        folder = pack.path
    return folder


def open_selection(chosen: DataSelection, size: int) -> Source:
    """The readable images of a data set.

    Args:
        chosen: the data set and the subset.
        size: side of the images in pixels.
    """
    return open_source(chosen.data, limit=chosen.limit, seed=chosen.seed, size=size)


def _banks(
    networks: Mapping[str, tuple[Representation, Path]], source: Source, *, untrained: bool, progress: ProgressCallback
) -> dict[str, Path]:
    """Banks of all networks with all layers, by name."""
    banks = dict[str, Path]()
    for name, (phi, run) in networks.items():
        progress(f"features of {len(source):,} images by {name}")
        banks[name] = get_bank(phi, source, results_folder(run_folder(run), "banks"), layers=phi.layers, bf16=fast_bf16(phi.device)).path
    first, run = next(iter(networks.values()))
    if untrained and first.spec:
        twin = untrained_reference(first, source)
        progress("features of the untrained network")
        banks[unique_names([*networks, "untrained"])[-1]] = get_bank(
            twin, source, results_folder(run_folder(run), "banks"), layers=twin.layers, bf16=fast_bf16(twin.device)
        ).path
    return banks


def _thumbs(source: Source, qualities: list[dict[str, float]], progress: ProgressCallback) -> Iterator[bytes]:
    """Thumbnails as JPEG; quality measures are appended to ``qualities``."""
    for start in range(0, len(source), PART):
        batch = source.read(np.arange(start, min(start + PART, len(source))))
        for number, pixels in enumerate(batch.images):
            height, width = batch.images.shape[2:] if batch.extent is None else batch.extent[number]
            levels = np.ascontiguousarray(pixels[:, :height, :width].transpose(1, 2, 0))
            file_size = (height, width) if batch.own is None else batch.own[number].tolist()
            image = Image.fromarray(levels if levels.shape[2] == 3 else levels[..., 0]).convert("RGB")
            image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", quality=85)
            qualities.append(_quality(levels, file_size, buffer.tell() / (image.width * image.height)))
            yield buffer.getvalue()
        if start and start % (PART * 16) == 0:
            progress(f"thumbnails: {start:,} of {len(source):,}")


def _quality(levels: UInt8[np.ndarray, "height width channel"], size: Sequence[int], density: float) -> dict[str, float]:
    """Quality measures: mean and standard deviation of the lightness, variance of the Laplacian, bytes per pixel, size, aspect ratio."""
    light = levels.astype(np.float32).mean(2) / 255
    height, width = (int(side) for side in size)
    return {
        "brightness": float(light.mean()),
        "contrast": float(light.std()),
        "sharpness": float(np.log10(1e-6 + ndimage.laplace(light).var())),
        "information": density,
        "width": float(width),
        "height": float(height),
        "oddness": float(abs(np.log2(width / height))),
    }


def _annotations(truth: Truth, count: int) -> dict[str, np.ndarray]:
    """Labels and attributes as columns."""
    columns: dict[str, np.ndarray] = {}
    if truth.labels is not None:
        names = truth.classes or tuple(str(number) for number in range(int(truth.labels.max(initial=0)) + 1))
        columns["label"] = np.array([names[label] if 0 <= label < len(names) else "" for label in truth.labels], dtype=object)
    for name, values in truth.attributes.items():
        if len(values) == count:
            columns[unused_name(name, {*OURS, *columns})] = values if values.dtype == object else values.astype(np.float64)
    return columns


def _clustered(
    phi: Representation, source: Source, bank: Path, progress: ProgressCallback
) -> tuple[dict[str, np.ndarray], dict[str, list[dict[str, Any]]]]:
    """Clusterings with one, half and two times the default number of clusters, and duplicates, as columns; and descriptions of clusters.

    Empty for very small or very large data sets.
    """
    if not 20 <= len(source) <= CLUSTERED:
        return {}, {}
    count = int(np.clip(round((len(source) / 2) ** 0.5 / 2), 4, 40))
    vectors = np.asarray(Bank(bank).pooled(), dtype=np.float32)
    vectors = vectors - vectors.mean(0)
    found = find_clusters(phi, source, count=count, vectors=vectors, progress=progress)
    columns = {CLUSTER: found.labels.astype(np.float64), nearness_column(CLUSTER): found.nearness}
    descriptions = {CLUSTER: [cluster.to_json(found.names).get("units", []) for cluster in found.clusters]}
    for other in sorted({max(count // 2, 2), min(2 * count, len(source) // 2)} - {count}):
        progress(f"{other} clusters")
        labels = group(vectors, other).numpy()
        nearness, deviations = describe_groups(vectors, labels)
        columns |= {f"{CLUSTER}_{other}": labels.astype(np.float64), nearness_column(f"{CLUSTER}_{other}"): nearness}
        most = np.argsort(-deviations, axis=1, kind="stable")[:, :3]
        descriptions[f"{CLUSTER}_{other}"] = [
            [{"unit": int(unit), "above": round(float(row[unit]), 3)} for unit in some] for row, some in zip(deviations, most, strict=True)
        ]
    columns |= {"distance_to_neighbours": found.neighbour_distance, "duplicates": found.duplicates()}
    clusters = {name: [{"number": number, "units": units} for number, units in enumerate(some)] for name, some in descriptions.items()}
    return columns, clusters


def _maps(banks: Mapping[str, Path], projections: Sequence[str], progress: ProgressCallback) -> dict[str, Float[np.ndarray, "item 2"]]:
    """Maps of the first network's features, and the PCA of every network's."""
    vectors = {name: np.load(bank / f"{OUTPUT}.npy", mmap_mode="r") for name, bank in banks.items()}
    first = next(iter(vectors.values()))
    maps = dict[str, np.ndarray]()
    for kind in (*projections, "pca"):
        progress(f"map: {kind}")
        maps[kind] = project(first, kind)
    return maps | {f"pca of {name}": project(rows, "pca") for name, rows in list(vectors.items())[1:]}


def untrained_reference(phi: Representation, source: Source) -> Representation:
    """The same network with initial weights, and batch statistics of the data set.

    Args:
        phi: the representation.
        source: the data set.
    """
    return untrained_network(phi, source)
