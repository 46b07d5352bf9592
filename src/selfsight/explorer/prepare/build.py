"""What the explorer shows of a data set, worked out once: what networks say of it, clusters, a map, small pictures."""

import hashlib
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

from selfsight.backbones.loading import untrained_twin
from selfsight.bank.extract import get_bank
from selfsight.bank.store import OUTPUT, Bank
from selfsight.core.clock import key
from selfsight.core.names import unused_name
from selfsight.core.progress import ProgressCallback, no_progress
from selfsight.core.representation import Representation
from selfsight.data.opening import open_source
from selfsight.data.source import Source, Subset, Truth
from selfsight.discover.images.clusters import describe_groups, find_clusters
from selfsight.discover.images.grouping import group
from selfsight.engine.hardware import fast_bf16
from selfsight.explorer.prepare.projection import available_projections, project, require_projection
from selfsight.explorer.server.edits import Edits
from selfsight.explorer.server.opening import DataSelection, find_prepared, record_prepared, select_data
from selfsight.explorer.server.pack import CLUSTER, Pack, PackWriter, is_prepared, nearness_column, run_folder
from selfsight.measure.baselines import estimate_statistics
from selfsight.render.sheet import unique_names

__all__ = ["find_or_prepare", "open_selection", "prepare", "untrained_reference"]

SIDE = 128
"""Longest side of small pictures, in pixels."""
PART = 256
OURS = (
    "name", "file", "row", "tag", "note", "label", "brightness", "contrast", "sharpness", "information", "width", "height", "oddness",
    CLUSTER, nearness_column(CLUSTER), f"{CLUSTER}_name", "distance_to_neighbours", "duplicates",
)  # fmt: skip
"""Columns that are made here; those of the data that are called so have an underscore behind their names."""
CLUSTERED = 50_000
"""Pictures up to which clusters, neighbours and duplicates are found."""


def prepare(
    networks: Mapping[str, tuple[Representation, Path]],
    source: Source,
    folder: Path,
    *,
    chosen: DataSelection | None = None,
    untrained: bool = True,
    maps: Sequence[str] | None = None,
    again: bool = False,
    progress: ProgressCallback = no_progress,
) -> Pack:
    """Make what the explorer shows of a data set, unless it is there.

    Args:
        networks: representations and the folders of their runs, by name; the clusters are of the first.
        source: the data set.
        folder: where prepared data sets are kept.
        chosen: how the data set is opened again; by default by its name.
        untrained: also what the first network says before learning, to see what training changed.
        maps: ways to draw a map of what the first network says (``explorer.places.PROJECTIONS``), the first shown first, beside PCA of what every
            network says; by default PaCMAP, where its package is installed and there are at most 50,000 pictures.
        again: make it even if it is there.
        progress: called with what is being done.

    Raises:
        UsageError: there is no such map.
        MissingExtra: a map's package is not installed.
    """
    for kind in maps or ():
        require_projection(kind)
    banks = _banks(networks, source, untrained=untrained, progress=progress)
    default = ["pacmap"] if "pacmap" in available_projections() and len(source) <= CLUSTERED else []
    drawn = default if maps is None else list(maps)
    mark = hashlib.sha256(repr([source.fingerprint, [str(path) for path in banks.values()]]).encode()).hexdigest()[:16]
    path = folder / mark
    if not again and is_prepared(path) and (maps is None or Pack(path).maps[: len(maps)] == tuple(maps)):
        return Pack(path)
    with PackWriter(path) as writer:
        return _written(writer, networks, banks, source, drawn, asdict(chosen or DataSelection(source.spec)), progress)


def _written(
    writer: PackWriter,
    networks: Mapping[str, tuple[Representation, Path]],
    banks: Mapping[str, Path],
    source: Source,
    drawn: Sequence[str],
    facts: Mapping[str, Any],
    progress: ProgressCallback,
) -> Pack:
    """Small pictures, columns, clusters and maps, and where they come from."""
    phi, run = next(iter(networks.values()))
    progress(f"small pictures of {len(source):,}")
    qualities: list[dict[str, float]] = []
    writer.thumbs(_thumbs(source, qualities, progress))
    truth = source.truth(np.arange(len(source)))
    columns = _known(truth, len(source))
    columns |= {name: np.array([one[name] for one in qualities]) for name in qualities[0]} if qualities else {}
    groups, clusters = _clustered(phi, source, next(iter(banks.values())), progress)
    told = [
        {
            "name": name,
            "bank": os.path.relpath(bank, writer.path),
            "run": os.path.relpath(networks[name][1], writer.path) if name in networks else "",
            "attends": networks.get(name, (phi, run))[0].has_attention,
        }
        for name, bank in banks.items()
    ]
    more = {"size": phi.size, "fingerprint": source.fingerprint, "networks": told, "masks": truth.masks is not None}
    _set_aside(writer.path, groups, progress)
    bad = [list(one) for one in source.bad][:1000]
    return writer.finish(list(source.names), columns | groups, _maps(banks, drawn, progress), clusters, {**facts, **more, "bad": bad})


def _set_aside(path: Path, groups: Mapping[str, np.ndarray], progress: ProgressCallback) -> None:
    """Where clusters are others than those that were named before, take the names back; they stand in the history of edits."""
    if not is_prepared(path):
        return
    before = Pack(path)
    same = set(before.clusterings) <= set(groups) and all((before.column(name) == groups[name]).all() for name in before.clusterings)
    edits = Edits(path.parent / f"{path.name}.edits.sqlite")
    for kind in ("cluster_merge", "cluster_name"):
        if not same and (named := list(edits.values(kind))):
            edits.set(kind, named, "")
            progress(f"clusters have changed: {len(named)} edits of them were taken back; undo brings them again")
    edits.close()


def find_or_prepare(
    networks: Mapping[str, tuple[Representation, Path]],
    data: str | None = None,
    *,
    limit: int | None = None,
    again: bool = False,
    progress: ProgressCallback = no_progress,
    **more: Any,
) -> Path:
    """The folder that was prepared for these networks and a data set by its name; prepared where there is none.

    Args:
        networks: representations and the folders of their runs, by name.
        data: the data set; by default the pictures that the first run learnt from.
        limit: at most so many of its pictures, drawn by seed 0.
        again: prepare even if there is one.
        progress: called with what is being done.
        more: passed on to ``prepare``.
    """
    paths = [path for _, path in networks.values()]
    chosen = select_data(paths[0], data, limit)
    folder = None if again or more.get("maps") is not None else find_prepared(paths, chosen)
    if folder is None:
        source = open_selection(chosen, next(iter(networks.values()))[0].size)
        pack = prepare(networks, source, run_folder(paths[0]) / "explorer", chosen=chosen, again=again, progress=progress, **more)
        record_prepared(paths, chosen, pack)
        folder = pack.path
    return folder


class _Readable(Subset):
    """The rows of a source that can be read; which cannot is still told."""

    @property
    def bad(self) -> Sequence[tuple[str, str]]:
        return self.source.bad


def open_selection(chosen: DataSelection, size: int) -> Source:
    """The pictures that can be read, at a network's size in pixels."""
    source = open_source(chosen.data, limit=chosen.limit, seed=chosen.seed, size=size)
    broken = {name for name, _ in source.bad}
    if not broken:
        return source
    return _Readable(source, np.array([row for row, name in enumerate(source.names) if name not in broken], dtype=np.int64))


def _banks(
    networks: Mapping[str, tuple[Representation, Path]], source: Source, *, untrained: bool, progress: ProgressCallback
) -> dict[str, Path]:
    """Banks of all networks, every layer kept, by name."""
    banks = dict[str, Path]()
    for name, (phi, run) in networks.items():
        progress(f"what {name} says of {len(source):,} pictures")
        banks[name] = get_bank(phi, source, run_folder(run) / "banks", layers=phi.layers, bf16=fast_bf16(phi.device)).path
    first, run = next(iter(networks.values()))
    if untrained and first.spec:
        twin = untrained_reference(first, source)
        progress("what the same network said before learning")
        banks[unique_names([*networks, "untrained"])[-1]] = get_bank(
            twin, source, run_folder(run) / "banks", layers=twin.layers, bf16=fast_bf16(twin.device)
        ).path
    return banks


def _thumbs(source: Source, qualities: list[dict[str, float]], progress: ProgressCallback) -> Iterator[bytes]:
    """Small pictures as JPEG; what is measured of each is added to ``qualities``."""
    for start in range(0, len(source), PART):
        batch = source.read(np.arange(start, min(start + PART, len(source))))
        for number, pixels in enumerate(batch.images):
            height, width = batch.images.shape[2:] if batch.extent is None else batch.extent[number]
            levels = np.ascontiguousarray(pixels[:, :height, :width].transpose(1, 2, 0))
            own = (height, width) if batch.own is None else batch.own[number].tolist()
            picture = Image.fromarray(levels if levels.shape[2] == 3 else levels[..., 0]).convert("RGB")
            picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
            buffer = io.BytesIO()
            picture.save(buffer, "JPEG", quality=85)
            qualities.append(_quality(levels, own, buffer.tell() / (picture.width * picture.height)))
            yield buffer.getvalue()
        if start and start % (PART * 16) == 0:
            progress(f"small pictures: {start:,} of {len(source):,}")


def _quality(levels: UInt8[np.ndarray, "height width channel"], own: Sequence[int], density: float) -> dict[str, float]:
    """Measures of a picture: mean and deviation of its light, variance of its Laplacian, bytes a pixel, size, how far from a square."""
    light = levels.astype(np.float32).mean(2) / 255
    height, width = (int(side) for side in own)
    return {
        "brightness": float(light.mean()),
        "contrast": float(light.std()),
        "sharpness": float(np.log10(1e-6 + ndimage.laplace(light).var())),
        "information": density,
        "width": float(width),
        "height": float(height),
        "oddness": float(abs(np.log2(width / height))),
    }


def _known(truth: Truth, count: int) -> dict[str, np.ndarray]:
    """Labels and attributes as columns."""
    columns: dict[str, np.ndarray] = {}
    if truth.labels is not None:
        named = truth.classes or tuple(str(number) for number in range(int(truth.labels.max(initial=0)) + 1))
        columns["label"] = np.array([named[label] if 0 <= label < len(named) else "" for label in truth.labels], dtype=object)
    for name, values in truth.attributes.items():
        if len(values) == count:
            columns[unused_name(name, {*OURS, *columns})] = values if values.dtype == object else values.astype(np.float64)
    return columns


def _clustered(
    phi: Representation, source: Source, bank: Path, progress: ProgressCallback
) -> tuple[dict[str, np.ndarray], dict[str, list[dict[str, Any]]]]:
    """Clusters, and half and twice as many, as columns, with twins; what is known of each; where the data are neither tiny nor huge."""
    if not 20 <= len(source) <= CLUSTERED:
        return {}, {}
    count = int(np.clip(round((len(source) / 2) ** 0.5 / 2), 4, 40))
    vectors = np.asarray(Bank(bank).pooled(), dtype=np.float32)
    vectors = vectors - vectors.mean(0)
    found = find_clusters(phi, source, count=count, vectors=vectors, progress=progress)
    columns = {CLUSTER: found.labels.astype(np.float64), nearness_column(CLUSTER): found.nearness}
    told = {CLUSTER: [one.to_json(found.names).get("units", []) for one in found.clusters]}
    for other in sorted({max(count // 2, 2), min(2 * count, len(source) // 2)} - {count}):
        progress(f"{other} clusters")
        labels = group(vectors, other).numpy()
        nearness, above = describe_groups(vectors, labels)
        columns |= {f"{CLUSTER}_{other}": labels.astype(np.float64), nearness_column(f"{CLUSTER}_{other}"): nearness}
        most = np.argsort(-above, axis=1, kind="stable")[:, :3]
        told[f"{CLUSTER}_{other}"] = [
            [{"unit": int(unit), "above": round(float(row[unit]), 3)} for unit in some] for row, some in zip(above, most, strict=True)
        ]
    columns |= {"distance_to_neighbours": found.neighbour_distance, "duplicates": found.duplicates()}
    clusters = {name: [{"number": number, "units": units} for number, units in enumerate(some)] for name, some in told.items()}
    return columns, clusters


def _maps(banks: Mapping[str, Path], drawn: Sequence[str], progress: ProgressCallback) -> dict[str, Float[np.ndarray, "item 2"]]:
    """Maps of what the first network says, and PCA of what every network does."""
    vectors = {name: np.load(bank / f"{OUTPUT}.npy", mmap_mode="r") for name, bank in banks.items()}
    first = next(iter(vectors.values()))
    found = dict[str, np.ndarray]()
    for kind in (*drawn, "pca"):
        progress(f"map: {kind}")
        found[kind] = project(first, kind)
    return found | {f"pca of {name}": project(rows, "pca") for name, rows in list(vectors.items())[1:]}


def untrained_reference(phi: Representation, source: Source) -> Representation:
    """The same network before learning, its batch statistics those of the data set."""
    twin = untrained_twin(phi, key(0, 0xF1008))
    estimate_statistics(twin, source)
    return twin
