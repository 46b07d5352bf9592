"""What is asked, as it is typed: images by path or by row of a data set, and targets such as ``class:dog`` or ``unit:stages.2/41``."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from selfsight.bank.extract import fingerprint
from selfsight.core.errors import DataError, UsageError
from selfsight.core.progress import ProgressCallback, no_progress
from selfsight.core.readout import Readout
from selfsight.core.representation import Representation
from selfsight.core.views import Images
from selfsight.data.decode import Unreadable, decode
from selfsight.data.evaluation_view import central_view, evaluation_view
from selfsight.data.loader import load_images
from selfsight.data.opening import open_source
from selfsight.data.source import Source
from selfsight.data.views.image.geometry import resize_whole
from selfsight.explain.attribution.explanation import Explanation, explain
from selfsight.explain.checks.diagnosis import Diagnosis, diagnose
from selfsight.explain.gallery import Gallery, inversions, maximisers
from selfsight.explain.inversion.descent import Inversion, invert, invert_by_network
from selfsight.explain.inversion.inverter import Inverter, invert_learned, learn_inverter
from selfsight.explain.synthesis.activation import Fourier, Generated, Parameterisation, Phase, Pixels
from selfsight.explain.synthesis.priors import estimate_spectrum
from selfsight.explain.targets import Place, Target, cluster, code, like, probe_class, strongest, unit
from selfsight.workflows.train.config import TrainConfig

__all__ = [
    "FORMS",
    "ExplainInput",
    "diagnose_images",
    "explain_images",
    "fixed_target",
    "get_inverter",
    "invert_images",
    "learnt_from",
    "maximise_targets",
    "read_images",
    "sample_images",
    "target_of",
]

FORMS = "class, class:NAME, cluster, cluster:NUMBER, unit:LAYER, unit:LAYER/CHANNEL, unit:LAYER/CHANNEL@ROW,COLUMN, like:IMAGE, code"
"""Targets; a class, cluster or unit without a number is the strongest of each image."""


@dataclass(frozen=True)
class ExplainInput:
    """Images, all of one size, in [0, 1], with what to call them; ``objects``: where objects are, if it is known of all of them."""

    images: Float[Tensor, "batch 3 height width"]
    names: tuple[str, ...]
    objects: Bool[Tensor, "batch height width"] | None = None


def read_images(asked: Sequence[str], phi: Representation, *, whole: bool = False) -> ExplainInput:
    """Images as the representation is used to seeing them: the middle square, scaled to its size.

    Args:
        asked: paths, or data sets with rows: ``world:shapes#0,3,8-11``.
        phi: the representation.
        whole: the whole picture, its shorter side scaled to the size; all must then have one shape.

    Raises:
        DataError: a picture cannot be read, or the shapes differ.
        UsageError: no image is named, or a row does not exist.
    """
    found: list[_Found] = []
    for text in asked:
        rows = "#" in text and not Path(text).is_file()
        found += _rows(text, phi) if rows else [(Path(text).name, torch.from_numpy(_file(Path(text))), None)]
    if not found:
        raise UsageError("No image is named.", "Give paths of pictures, or a data set with rows such as world:shapes#0,1,2.")
    shown = [_fitted(pixels, phi, whole=whole) for _, pixels, _ in found]
    there = [_fitted(255 * inside[None].to(torch.uint8), phi, whole=whole)[0] > 0.5 for _, _, inside in found if inside is not None]
    if len({tuple(one.shape) for one in shown}) > 1:
        raise DataError(
            "The pictures have several shapes.", "Leave --whole away, so that each is cut to a square, or give those of one shape."
        )
    return ExplainInput(torch.stack(shown), tuple(name for name, _, _ in found), torch.stack(there) if len(there) == len(found) else None)


def _file(path: Path) -> UInt8[np.ndarray, "3 height width"]:
    try:
        return decode(path)[0]
    except Unreadable as problem:
        raise DataError(f"{path} cannot be read: {problem}.", "Give a picture file such as PNG or JPEG.") from problem


_Found = tuple[str, Tensor, Tensor | None]
"""A name, pixels, and where the objects are."""


def _rows(text: str, phi: Representation) -> list[_Found]:
    spec, _, numbers = text.rpartition("#")
    source = open_source(spec, size=phi.size)
    rows: list[int] = []
    for part in numbers.split(","):
        ends = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip())
        if not ends:
            raise UsageError(f"{part!r} in {text!r} is no row.", "Rows are numbers and ranges: #0,3,8-11.")
        rows += range(int(ends[1]), int(ends[2] or ends[1]) + 1)
    if max(rows) >= len(source):
        raise UsageError(f"{spec} has {len(source)} pictures, and row {max(rows)} was asked for.", "Rows are counted from 0.")
    batch = load_images(source, np.array(rows))
    extent = batch.extent if batch.extent is not None else [batch.pixels.shape[-2:]] * len(rows)
    cut = [pixels[:, : int(size[0]), : int(size[1])] for pixels, size in zip(batch.pixels, extent, strict=True)]
    masks = source.truth(np.array(rows)).masks
    inside = [None if masks is None else torch.from_numpy(np.asarray(masks[place]) > 0) for place in range(len(rows))]
    known = [mask if mask is not None and mask.shape == pixels.shape[1:] else None for mask, pixels in zip(inside, cut, strict=True)]
    return [(f"{spec.partition('?')[0]}#{row}", pixels, mask) for row, pixels, mask in zip(rows, cut, known, strict=True)]


def _fitted(pixels: Tensor, phi: Representation, *, whole: bool) -> Tensor:
    if not whole:
        return central_view(Images(pixels[None], torch.zeros(1, dtype=torch.int64)), phi.size)[0]
    return resize_whole(pixels, phi.size, phi.backbone.stride)


def target_of(text: str, phi: Representation, shown: Float[Tensor, "batch 3 height width"], measures: Path) -> Target:
    """The target that a text names.

    Args:
        text: one of ``FORMS``.
        phi: the representation.
        shown: the images that will be explained.
        measures: the folder of the run's readouts.

    Raises:
        UsageError: the text means nothing, or the run has no such readout, layer or number.
    """
    kind, _, rest = text.partition(":")
    if kind == "class":
        probe = Readout.load(measures / "linear")
        return probe_class(probe, rest) if rest else _of_each(probe_class(probe, 0), "likeliest class", phi, shown)
    if kind == "cluster":
        clusters = Readout.load(measures / "cluster")
        return cluster(clusters, _number(rest, text)) if rest else _of_each(cluster(clusters, 0), "own cluster", phi, shown)
    if kind == "unit" and rest:
        return _unit(rest, text, phi, shown)
    if kind == "like" and rest:
        other = read_images([rest], phi)
        return like(phi, other.images[0], name=other.names[0])
    if kind == "code":
        return code(phi, shown, rest or None)
    raise UsageError(f"{text!r} is no target.", f"Targets are: {FORMS}.")


def fixed_target(text: str, phi: Representation, measures: Path) -> Target:
    """A target that needs no image: a class, a cluster or a unit by its number.

    Raises:
        UsageError: the text means something else, or the run has no such readout, layer or number.
    """
    kind, _, rest = text.partition(":")
    if kind not in ("class", "cluster", "unit") or not rest or (kind == "unit" and "/" not in rest):
        raise UsageError(f"{text!r} says nothing without an image.", "Give class:NAME, cluster:NUMBER or unit:LAYER/CHANNEL.")
    blank = torch.zeros(1, phi.backbone.channels, phi.size, phi.size, device=phi.device)
    target = target_of(text, phi, blank, measures)
    with torch.no_grad():
        target.score(phi, blank)  # whose number exists
    return target


def _of_each(target: Target, name: str, phi: Representation, shown: Tensor) -> Target:
    found = strongest(target, phi, shown)
    return Target(name, found.read, found.which, found.layer)


def _number(text: str, whole: str) -> int:
    if not text.isdigit():
        raise UsageError(f"{whole!r}: {text!r} is no number.", f"Targets are: {FORMS}.")
    return int(text)


def _unit(text: str, whole: str, phi: Representation, shown: Tensor) -> Target:
    layer, _, rest = text.partition("/")
    channel, _, where = rest.partition("@")
    place: Place = "mean"
    if where == "max":
        place = "max"
    elif where:
        row, _, column = where.partition(",")
        place = (_number(row, whole), _number(column, whole))
    target = unit(layer, _number(channel, whole) if channel else 0, place)
    return target if channel else _of_each(target, f"strongest unit of {layer}", phi, shown)


def learnt_from(path: Path, name: str) -> Source:
    """The data set that a run was trained on.

    Args:
        path, name: the run's folder, and the representation's name.

    Raises:
        UsageError: the folder holds no run.
    """
    file = path / "config.json"
    if not file.is_file():
        raise UsageError(f"What {name} was trained on is not known.", "Name a data set (--like, or the DATA of report).")
    config = TrainConfig.from_json(json.loads(file.read_text()))
    return open_source(config.data, limit=config.limit, seed=config.seed, size=config.size)


def sample_images(phi: Representation, path: Path, like: str | None, most: int) -> Float[Tensor, "batch channel size size"]:
    """Central squares of at most ``most`` evenly spaced images of ``like``, by default of what the run was trained on."""
    source = learnt_from(path, phi.name) if like is None else open_source(like, size=phi.size)
    rows = np.linspace(0, len(source) - 1, min(most, len(source))).astype(np.int64)
    return torch.cat([evaluation_view(source, phi.size)(part) for part in np.array_split(rows, -(-len(rows) // 500))])


def explain_images(
    phi: Representation,
    path: Path,
    images: Sequence[str],
    *,
    target: str = "code",
    methods: Sequence[str] = ("gradient", "grad_cam", "integrated_gradients", "extremal"),
    whole: bool = False,
    progress: ProgressCallback = no_progress,
) -> Explanation:
    """Attribution maps of several methods for some images.

    Args:
        phi, path: the representation, and the folder of its run.
        images: image files, or rows of a data set such as ``world:shapes#0,3,8-11``.
        target: one of ``FORMS``.
        methods: names of attribution methods; ``["all"]``: all that can explain this network.
        whole: the whole image in place of its central square.
        progress: called with one line for each step.

    Raises:
        UsageError: an image, target or method does not exist.
    """
    given = read_images(images, phi, whole=whole)
    return explain(
        phi, given.images, target_of(target, phi, given.images, path / "measures"), methods, names=given.names, progress=progress
    )


def diagnose_images(phi: Representation, path: Path, images: Sequence[str], *, target: str = "class", **options: Any) -> Diagnosis:
    """For each image the smallest region that keeps the score, and whether it lies on the object, where masks are known.

    Args:
        phi, path: the representation, and the folder of its run.
        images: image files, or rows of a data set.
        target: one of ``FORMS``.
        options: of ``explain.checks.diagnosis.diagnose``.
    """
    given = read_images(images, phi)
    return diagnose(
        phi, given.images, target_of(target, phi, given.images, path / "measures"), objects=given.objects, names=given.names, **options
    )


def invert_images(
    phi: Representation,
    path: Path,
    images: Sequence[str],
    *,
    layers: Sequence[str] = (),
    by: str = "descent",
    like: str | None = None,
    progress: ProgressCallback = no_progress,
    **options: Any,
) -> Gallery:
    """Images reconstructed from the features of each layer.

    Args:
        phi, path: the representation, and the folder of its run.
        images: image files, or rows of a data set.
        layers: names of layers; by default ``phi.layers``.
        by: ``descent`` from noise, ``form`` (a network as the prior), or ``learned`` (an inverter trained once and cached).
        like: the data set that an inverter is trained on; by default what the run was trained on.
        progress: called with one line for each step.
        options: of these functions.

    Raises:
        UsageError: there is no such way, image or layer.
    """
    given = read_images(images, phi)
    ways: dict[str, Callable[[str], Inversion]] = {
        "descent": lambda layer: invert(phi, given.images, layer, **options),
        "form": lambda layer: invert_by_network(phi, given.images, layer, **options),
        "learned": lambda layer: invert_learned(phi, given.images, get_inverter(phi, path, layer, like=like, progress=progress, **options)),
    }
    if by not in ways:
        raise UsageError(f"Images cannot be inverted by {by!r}.", f"Choose one of: {', '.join(ways)}.")
    found: dict[str, Inversion] = {}
    for layer in list(layers) or phi.layers:
        progress(f"{layer} of {len(given.images)} images")
        found[layer] = ways[by](layer)
    return inversions(given.images, found, names=given.names, representation=phi.name, by=by, **options)


def get_inverter(
    phi: Representation,
    path: Path,
    layer: str | None = None,
    *,
    like: str | None = None,
    progress: ProgressCallback = no_progress,
    **options: Any,
) -> Inverter:
    """The network that reconstructs images from a layer's features; trained once for these weights and this data set, then cached.

    Args:
        phi, path: the representation, and the folder of its run.
        layer: the layer; None: the pooled output.
        like: the data set to train on; by default what the run was trained on.
        progress: called with one line for each step.
        options: of ``explain.inversion.inverter.learn_inverter``; it is then trained again.
    """
    folder = path / "explanations" / "inverters" / (layer or "output")
    mark, of = f"{fingerprint(phi)} {like or ''}", folder / "learnt_from.txt"
    if of.is_file() and of.read_text() == mark and not options:
        return Inverter.load(folder).to(phi.device)
    progress(f"training an inverter for {layer or 'the output'}")
    found = learn_inverter(phi, sample_images(phi, path, like, 4000), layer, progress=progress, **options)
    found.save(folder)
    of.write_text(mark)
    return found


def maximise_targets(
    phi: Representation,
    path: Path,
    targets: Sequence[str],
    *,
    writing: str = "fourier",
    like: str | None = None,
    progress: ProgressCallback = no_progress,
    **options: Any,
) -> Gallery:
    """Images that maximise units, clusters or classes.

    Args:
        phi, path: the representation, and the folder of its run.
        targets: such as ``unit:stages.2/41``, ``cluster:7``, ``class:dog``.
        writing: parameterisation of the image: fourier, pixels, phase, or generated (the code of a trained inverter).
        like: the data set whose spectrum images have (phase), or that the inverter is trained on; by default what the run was trained on.
        progress: called with one line for each step.
        options: of ``explain.gallery.maximisers``.

    Raises:
        UsageError: there is no such target or parameterisation.
    """
    chosen = [fixed_target(text, phi, path / "measures") for text in targets]
    ways: dict[str, Callable[[], Parameterisation]] = {
        "fourier": Fourier,
        "pixels": Pixels,
        "phase": lambda: Phase(estimate_spectrum(sample_images(phi, path, like, 500))),
        "generated": lambda: Generated(get_inverter(phi, path, like=like, progress=progress)),
    }
    if writing not in ways:
        raise UsageError(f"There is no parameterisation {writing!r} of images.", f"Choose one of: {', '.join(ways)}.")
    return maximisers(phi, chosen, writing=ways[writing](), **options)
