"""What the explorer's worker works out about pictures, units and clusters, each as one sheet."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch.nn.functional import interpolate, normalize

from selfsight.core.errors import UsageError
from selfsight.core.progress import ProgressCallback
from selfsight.core.representation import Representation
from selfsight.data.loader import load_images
from selfsight.data.source import Source, Subset, sample_rows
from selfsight.data.views.image.geometry import central_square
from selfsight.discover.dense.features import FeatureSpec, iter_feature_batches
from selfsight.discover.objects.object_regions import find_objects
from selfsight.explain.gallery import Gallery
from selfsight.measure.analysis.dissect import dissect
from selfsight.render.sheet import Tile, sheet
from selfsight.render.tiles import fitted, page
from selfsight.workflows.evaluate.analyses.dissection import concepts_of

__all__ = ["attention", "boxes", "crops", "dissection", "maximised", "prototypes", "segments"]

Picture = UInt8[np.ndarray, "height width 3"]
HALF = 0.5
"""Of a unit's peak: where it is as high, it is taken to be on."""
LEAST = 0.3
"""Of a picture's side that a crop has at least."""
DISSECTED = 300
"""Pictures by which units are dissected."""
FOUND = ("lost", "cut", "fiedler", "border")
"""Ways to find objects that are shown beside each other; the last needs no network."""


def _squares(source: Source, rows: np.ndarray, size: int) -> Float[torch.Tensor, "row channel size size2"]:
    """What a network sees of pictures: their middles."""
    return central_square(load_images(source, rows), size)


def _levels(pixels: Float[torch.Tensor, "channel height width"]) -> Picture:
    levels = (pixels.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    return levels if levels.shape[2] == 3 else levels[..., :1].repeat(3, 2)


@torch.no_grad()
def crops(phi: Representation, source: Source, layer: str | None, unit: int, rows: np.ndarray, out: Path) -> dict[str, Any]:
    """Where a unit is high in some pictures, as heat over them, and what lies there.

    Heat is the unit's own map, bilinearly enlarged, from 0 to its highest value in all of these pictures. A crop holds the part around
    the peak that is at least half as high as it.

    Raises:
        UsageError: the layer has no places.
    """
    pixels = _squares(source, rows, phi.size)
    grids = phi.grid(pixels, layer)
    if unit >= grids.shape[1]:
        raise UsageError(f"Unit {unit} of the output has no places.", "Look at a unit of an inner layer.")
    large = interpolate(grids[:, unit : unit + 1].float(), pixels.shape[2:], mode="bilinear", align_corners=False)[:, 0].cpu().clamp(min=0)
    peak = large.max().clamp(min=1e-12)
    heights = [round(float(one.max()), 4) for one in large]
    return _places(rows, pixels, large / peak, heights, out, "where the unit is high, and what lies there")


def _places(
    rows: Sequence[int] | np.ndarray,
    pixels: Float[torch.Tensor, "row channel height width"],
    heats: Float[torch.Tensor, "row height width"],
    numbers: Sequence[float],
    out: Path,
    words: str,
) -> dict[str, Any]:
    """For each picture two files: heat over it, and a crop around the peak."""
    out.mkdir(parents=True, exist_ok=True)
    told: list[dict[str, Any]] = []
    for row, one, heat, number in zip(rows, pixels, heats, numbers, strict=True):
        picture = _levels(one)
        for name, shown in (("where", _heated(picture, heat.numpy())), ("what", _crop(picture, heat.numpy()))):
            Image.fromarray(shown).save(out / f"{name}-{int(row)}.png")
        told.append({"row": int(row), "number": number})
    files = [f"{name}-{one['row']}.png" for one in told for name in ("where", "what")]
    return {"files": files, "places": told, "words": words}


def _heated(picture: Picture, heat: Float[np.ndarray, "height width"]) -> Picture:
    """A picture in grey where there is no heat, in its own colours and warmed where there is."""
    part = heat.clip(0, 1)[..., None]
    grey = 0.5 * picture.mean(2, keepdims=True) + 40
    warm = 0.75 * picture + 0.25 * np.array([255, 120, 0])
    return ((1 - part) * grey + part * warm).round().clip(0, 255).astype(np.uint8)


def _crop(picture: Picture, heat: Float[np.ndarray, "height width"]) -> UInt8[np.ndarray, "side side 3"]:
    """The square around the peak that holds its piece of at least half its height."""
    from scipy import ndimage

    top, left = divmod(int(heat.argmax()), heat.shape[1])
    found: Any = ndimage.label(heat >= HALF * heat.max())
    labels = found[0]
    down, across = np.nonzero(labels == labels[top, left])
    size = min(picture.shape[:2])
    side = int(np.clip(max(np.ptp(down), np.ptp(across)) + 1, LEAST * size, size))
    first = [
        int(np.clip((one.min() + one.max() + 1 - side) // 2, 0, whole - side))
        for one, whole in zip((down, across), picture.shape, strict=False)
    ]
    return picture[first[0] : first[0] + side, first[1] : first[1] + side]


@torch.no_grad()
def attention(phi: Representation, source: Source, row: int, out: Path) -> dict[str, Any]:
    """What each head of the last block looks at from the class token (or, where there is none, on average), and their mean.

    Raises:
        UsageError: the network has no attention.
    """
    pixels = _squares(source, np.array([row]), phi.size)
    feature_batch = phi.attention(pixels)[0].float().cpu()
    prefix = int(getattr(phi.backbone, "prefix", 0))
    rows = feature_batch[:, 0, prefix:] if prefix else feature_batch.mean(1)
    side = round(rows.shape[1] ** 0.5)
    maps = interpolate(rows.unflatten(1, (side, side))[None], pixels.shape[2:], mode="bilinear", align_corners=False)[0]
    picture = _levels(pixels[0])
    heads = [Tile(_heated(picture, (one / one.max()).numpy()), f"head {number}") for number, one in enumerate(maps)]
    mean = maps.mean(0)
    shown = [Tile(picture, "picture"), Tile(_heated(picture, (mean / mean.max()).numpy()), "mean of heads"), *heads]
    lines = {f"{'attention' if not start else ''}{' ' * start}": shown[start : start + 6] for start in range(0, len(shown), 6)}
    return _kept(
        sheet(lines), out, "what the last block's heads look at from the class token" if prefix else "where the heads look, on average"
    )


def boxes(phi: Representation, source: Source, row: int, out: Path) -> dict[str, Any]:
    """Objects as several ways find them, with masks and boxes."""
    ways: Sequence[str] = (*(("attention",) if phi.has_attention and getattr(phi.backbone, "prefix", 0) else ()), *FOUND)
    look = FeatureSpec(max(phi.size, 64))
    found = {way: find_objects(phi, source, way, feature_spec=look, least=0.0, rows=np.array([row])) for way in ways}
    shown = [Tile(np.asarray(one.tile(0)), _words(way, one.regions[0])) for way, one in found.items()]
    return _kept(sheet({"objects": shown}), out, "objects, found without labels; border asks no network")


def _words(way: str, regions: Sequence[Any]) -> str:
    return f"{way} {regions[0].score:.2f}" if regions else f"{way}: none"


@torch.no_grad()
def prototypes(
    phi: Representation, source: Source, rows: np.ndarray, labels: np.ndarray, vectors: np.ndarray, cluster: int, out: Path
) -> dict[str, Any]:
    """The patches by which a cluster's most central pictures belong to it, and those by which they would belong to the next.

    With ``c_k`` the mean of the unit-length vectors of cluster k: places are scored by ``<x, c_k> - max_j≠k <x, c_j>``, x a place's own
    unit-length vector.

    Args:
        phi, source: what looks, and at what.
        rows: pictures whose places are scored.
        labels, vectors: the cluster of each picture, and what the network says of it.
        cluster: which.
        out: where the sheet is written.

    Raises:
        UsageError: places and pictures are not described by the same numbers.
    """
    pixels = _squares(source, rows, phi.size)
    scores = _set_apart(phi.grid(pixels).float().cpu(), labels, vectors, cluster)
    large = interpolate(scores[:, None], pixels.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    highest = large.flatten(1).max(1).values
    best = highest.argsort(descending=True)
    low = large.flatten(1).min(1).values
    heats = (large - low[:, None, None]) / (highest - low).clamp(min=1e-9)[:, None, None]
    numbers = [round(float(one), 4) for one in highest[best]]
    words = "the places that make them this cluster's and no other's"
    return _places(rows[best.numpy()], pixels[best], heats[best], numbers, out, words)


def _set_apart(
    grids: Float[torch.Tensor, "row dim rows columns"], labels: np.ndarray, vectors: np.ndarray, cluster: int
) -> Float[torch.Tensor, "row rows columns"]:
    """How much more each place is like a cluster's middle than like any other's."""
    if grids.shape[1] != vectors.shape[1]:
        raise UsageError("Places and pictures are described by different numbers.", "Ask a network whose output is a mean over places.")
    unit = normalize(torch.from_numpy(np.array(vectors, dtype=np.float32)) - torch.from_numpy(vectors.mean(0, dtype=np.float32)))
    known = np.unique(labels)
    middles = normalize(torch.stack([unit[torch.from_numpy(labels == one)].mean(0) for one in known]))
    place = int(np.flatnonzero(known == cluster)[0])
    own = normalize(grids.flatten(2) - torch.from_numpy(vectors.mean(0, dtype=np.float32))[:, None], dim=1)
    likeness = torch.einsum("kd,bdp->bkp", middles, own)
    others = likeness.clone()
    others[:, place] = -torch.inf
    return (likeness[:, place] - others.max(1).values).unflatten(1, grids.shape[2:])


def maximised(found: Gallery, out: Path) -> dict[str, Any]:
    """Pictures that a unit or a class likes, each a file."""
    out.mkdir(parents=True, exist_ok=True)
    (pictures,) = found.rows.values()
    for number, one in enumerate(pictures):
        Image.fromarray(one.picture).save(out / f"made-{number}.png")
    said = ", ".join(one.words.split("\n")[0] for one in pictures)
    return {"files": [f"made-{number}.png" for number in range(len(pictures))], "words": f"its activation: {said}"}


def dissection(phi: Representation, source: Source, layer: str | None, progress: ProgressCallback) -> dict[str, Any]:
    """The concept of the data's masks that each unit of a layer overlaps most (network dissection).

    Raises:
        DataError: the data have no masks.
        UsageError: the layer has no places.
    """
    rows = sample_rows(len(source), DISSECTED, 0) if len(source) > DISSECTED else np.arange(len(source))
    concepts = concepts_of(source.truth(rows))
    progress(f"units of {layer or 'the output'} against {len(concepts.names)} concepts")
    found = dissect(phi, Subset(source, rows), concepts, layer=layer)
    best = found.best
    units = [[found.names[one], found.categories[one], round(float(found.ious[unit, one]), 4)] for unit, one in enumerate(best)]
    return {"units": units, "words": found.protocol, "files": []}


def segments(phi: Representation, source: Source, row: int, out: Path) -> dict[str, Any]:
    """A picture's places by three principal components, and its smoothest eigenvectors."""
    (feature_batch,) = iter_feature_batches(phi, source, FeatureSpec(max(phi.size, 96), vectors=5), rows=np.array([row]))
    vectors = [_signed(one.unflatten(0, feature_batch.shape)) for one in feature_batch.spectrum.vectors[0, 1:5]]
    shown = [feature_batch.small(1)[0], _components(feature_batch.features[0]), *vectors]
    words = "the picture, its places by three principal components, and its smoothest eigenvectors"
    return _kept(page([fitted(one) for one in shown], across=6), out, words)


def _components(features: Float[torch.Tensor, "dim rows columns"]) -> UInt8[np.ndarray, "rows columns 3"]:
    """Places by their first three principal components, as colours."""
    rows = features.flatten(1).T.double()
    rows = rows - rows.mean(0)
    _, _, directions = torch.linalg.svd(rows, full_matrices=False)
    found = rows @ directions[:3].T
    low, high = found.quantile(0.02, 0), found.quantile(0.98, 0)
    shown = ((found - low) / (high - low).clamp(min=1e-9)).clamp(0, 1)
    return (shown * 255).round().to(torch.uint8).unflatten(0, features.shape[1:]).cpu().numpy()


def _signed(vector: Float[torch.Tensor, "rows columns"]) -> UInt8[np.ndarray, "rows columns 3"]:
    """An eigenvector: orange above 0, blue below."""
    part = (vector / vector.abs().max().clamp(min=1e-12)).double().cpu().numpy()[..., None]
    orange, blue = np.array([230, 97, 1.0]), np.array([33, 102, 172.0])
    return (255 + np.abs(part) * (np.where(part > 0, orange, blue) - 255)).round().astype(np.uint8)


def _kept(png: bytes, out: Path, words: str) -> dict[str, Any]:
    out.mkdir(parents=True, exist_ok=True)
    (out / "sheet.png").write_bytes(png)
    return {"files": ["sheet.png"], "words": words}
