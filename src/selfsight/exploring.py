"""What the explorer shows of a data set, worked out once: what networks say of it, clusters, a map, small pictures."""

import hashlib
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from scipy import ndimage

from selfsight.backbones.loading import untrained_twin
from selfsight.bank.extract import bank_of
from selfsight.bank.store import OUTPUT
from selfsight.core.clock import key
from selfsight.core.representation import Representation
from selfsight.core.say import Say, quiet
from selfsight.data.opening import open_source
from selfsight.data.source import Source, Truth
from selfsight.discover.clusters import find_clusters
from selfsight.engine.hardware import fast_bf16
from selfsight.explorer.opening import noted, placed, prepared
from selfsight.explorer.pack import Pack, PackWriter
from selfsight.measure.floors import estimate_statistics

__all__ = ["prepare", "ready", "untrained_of"]

SIDE = 128
"""Longest side of small pictures, in pixels."""
PART = 256
CLUSTERED = 50_000
"""Pictures up to which clusters, neighbours and duplicates are found."""


def prepare(
    networks: Mapping[str, tuple[Representation, Path]],
    source: Source,
    folder: Path,
    *,
    untrained: bool = True,
    again: bool = False,
    say: Say = quiet,
) -> Pack:
    """Make what the explorer shows of a data set, unless it is there.

    Args:
        networks: representations and the folders of their runs, by name; the map and the clusters are of the first.
        source: the data set.
        folder: where prepared data sets are kept.
        untrained: also what the first network says before learning, to see what training changed.
        again: make it even if it is there.
        say: called with what is being done.
    """
    banks = _banks(networks, source, untrained=untrained, say=say)
    mark = hashlib.sha256(repr([source.fingerprint, [str(path) for path in banks.values()]]).encode()).hexdigest()[:16]
    path = folder / mark
    if (path / "pack.json").is_file() and not again:
        return Pack(path)
    first, run = next(iter(networks.values()))
    say(f"small pictures of {len(source):,}")
    with PackWriter(path) as writer:
        qualities: list[dict[str, float]] = []
        writer.thumbs(_thumbs(source, qualities, say))
        columns = _known(source.truth(np.arange(len(source))), len(source))
        columns |= {name: np.array([one[name] for one in qualities]) for name in qualities[0]} if qualities else {}
        grouped, clusters = _clustered(first, source, run, say)
        say("map")
        places = _places(np.load(next(iter(banks.values())) / f"{OUTPUT}.npy", mmap_mode="r"))
        runs = {name: os.path.relpath(one, path) for name, (_, one) in networks.items()}
        told = [{"name": name, "bank": os.path.relpath(bank, path), "run": runs.get(name, "")} for name, bank in banks.items()]
        bad = [list(one) for one in source.bad][:1000]
        facts = {"data": source.spec, "size": first.size, "fingerprint": source.fingerprint, "map": "pca", "networks": told, "bad": bad}
        return writer.finish(list(source.names), columns | grouped, places, clusters, facts)


def ready(networks: Mapping[str, tuple[Representation, Path]], data: str, *, again: bool = False, say: Say = quiet, **more: Any) -> Path:
    """The folder that was prepared for these networks and a data set by its name; prepared where there is none.

    Args:
        networks: representations and the folders of their runs, by name.
        data: the data set.
        again: prepare even if there is one.
        say: called with what is being done.
        more: passed on to ``prepare``.
    """
    paths = [path for _, path in networks.values()]
    folder = None if again else prepared(paths, data)
    if folder is None:
        source = open_source(placed(data), size=next(iter(networks.values()))[0].size)
        pack = prepare(networks, source, paths[0] / "explorer", again=again, say=say, **more)
        noted(paths, data, pack)
        folder = pack.path
    return folder


def _banks(networks: Mapping[str, tuple[Representation, Path]], source: Source, *, untrained: bool, say: Say) -> dict[str, Path]:
    """Banks of all networks, every layer kept, by name."""
    banks = dict[str, Path]()
    for name, (phi, run) in networks.items():
        say(f"what {name} says of {len(source):,} pictures")
        banks[name] = bank_of(phi, source, run / "banks", layers=phi.layers, bf16=fast_bf16(phi.device)).path
    first, run = next(iter(networks.values()))
    if untrained and first.spec:
        twin = untrained_of(first, source)
        say("what the same network said before learning")
        banks["untrained"] = bank_of(twin, source, run / "banks", layers=twin.layers, bf16=fast_bf16(twin.device)).path
    return banks


def _thumbs(source: Source, qualities: list[dict[str, float]], say: Say) -> Iterator[bytes]:
    """Small pictures as JPEG; what is measured of each is added to ``qualities``."""
    for start in range(0, len(source), PART):
        batch = source.read(np.arange(start, min(start + PART, len(source))))
        for place, pixels in enumerate(batch.images):
            height, width = batch.images.shape[2:] if batch.extent is None else batch.extent[place]
            levels = np.ascontiguousarray(pixels[:, :height, :width].transpose(1, 2, 0))
            own = (height, width) if batch.own is None else tuple(batch.own[place])
            picture = Image.fromarray(levels if levels.shape[2] == 3 else levels[..., 0]).convert("RGB")
            picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
            buffer = io.BytesIO()
            picture.save(buffer, "JPEG", quality=85)
            qualities.append(_quality(levels, own, buffer.tell() / (picture.width * picture.height)))
            yield buffer.getvalue()
        if start and start % (PART * 16) == 0:
            say(f"small pictures: {start:,} of {len(source):,}")


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
        if len(values) == count and name not in ("name", "cluster"):
            columns[name] = values if values.dtype == object else values.astype(np.float64)
    return columns


def _clustered(phi: Representation, source: Source, run: Path, say: Say) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
    """Clusters with their twins as columns, and what is known of each, where the data set is neither tiny nor huge."""
    if not 20 <= len(source) <= CLUSTERED:
        return {}, []
    count = int(np.clip(round((len(source) / 2) ** 0.5 / 2), 4, 40))
    found = find_clusters(phi, source, count=count, banks=run / "banks", say=say)
    groups = np.full(len(source), np.nan)
    for number, rows in enumerate(found.twins):
        groups[list(rows)] = number
    columns = {"cluster": found.labels.astype(np.float64), "nearness": found.nearness, "distance_to_neighbours": found.lonely}
    told = [{"number": number, "units": one.to_plain(found.names).get("units", [])} for number, one in enumerate(found.clusters)]
    return {**columns, "duplicates": groups}, told


def _places(rows: Float[np.ndarray, "item dim"], sample: int = 20_000) -> Float[np.ndarray, "item 2"]:
    """The two directions of largest variance, estimated on a sample, each within -1 and 1."""
    some = np.asarray(rows[np.linspace(0, len(rows) - 1, min(len(rows), sample)).astype(np.int64)], dtype=np.float64)
    mean = some.mean(0)
    _, _, directions = np.linalg.svd(some - mean, full_matrices=False)
    parts = [
        (np.asarray(rows[start : start + 65_536], dtype=np.float64) - mean) @ directions[:2].T for start in range(0, len(rows), 65_536)
    ]
    places = np.concatenate(parts)
    if places.shape[1] < 2:
        places = np.pad(places, ((0, 0), (0, 2 - places.shape[1])))
    far = np.quantile(np.abs(places), 0.999, axis=0).clip(min=1e-12)
    return (places / far).clip(-1.2, 1.2).astype(np.float32)


def untrained_of(phi: Representation, source: Source) -> Representation:
    """The same network before learning, its batch statistics those of the data set."""
    twin = untrained_twin(phi, key(0, 0xF1008))
    estimate_statistics(twin, source)
    return twin
