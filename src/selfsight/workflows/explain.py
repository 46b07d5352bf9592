"""Explanations from text arguments: images by path or data set row, targets such as ``class:dog`` or ``unit:stages.2/41``."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from selfsight.bank.extract import fingerprint
from selfsight.core.bounds import check_numbers
from selfsight.core.cache import write_atomically
from selfsight.core.errors import DataError, UsageError
from selfsight.core.files import inside
from selfsight.core.progress import ProgressCallback, no_progress
from selfsight.core.readout import Readout
from selfsight.core.representation import Representation
from selfsight.core.results import find_result, results_folder
from selfsight.data.evaluation_view import evaluation_view
from selfsight.data.opening import open_source
from selfsight.data.source import Source
from selfsight.explain.attribution.explanation import Explanation, explain
from selfsight.explain.checks.diagnosis import Diagnosis, diagnose
from selfsight.explain.gallery import Gallery, inversions, maximisers
from selfsight.explain.inversion.descent import Inversion, invert, invert_with_deep_prior
from selfsight.explain.inversion.inverter import Inverter, invert_learned, learn_inverter
from selfsight.explain.synthesis.activation import Fourier, Generated, Parameterisation, Phase, Pixels
from selfsight.explain.synthesis.priors import estimate_spectrum
from selfsight.explain.targets import Place, Target, argmax_target, cluster, code, probe_class, similarity_to, unit
from selfsight.workflows.explain_inputs import read_images
from selfsight.workflows.options import DiagnoseOptions, InverterOptions, InvertOptions, MaximiseOptions
from selfsight.workflows.train.config import TrainConfig

__all__ = [
    "FORMS",
    "diagnose_images",
    "explain_images",
    "fixed_target",
    "get_inverter",
    "invert_images",
    "maximise_targets",
    "sample_images",
    "target_of",
    "training_data",
]

FORMS = "class, class:NAME, cluster, cluster:NUMBER, unit:LAYER, unit:LAYER/CHANNEL, unit:LAYER/CHANNEL@ROW,COLUMN, like:IMAGE, code"
"""Targets; a class, cluster or unit without a name or index is the highest-scoring one of each image."""


def target_of(text: str, phi: Representation, images: Float[Tensor, "batch 3 height width"], run: Path) -> Target:
    """Parse a target.

    Args:
        text: one of ``FORMS``.
        phi: the representation.
        images: the images to explain ``(B, 3, H, W)``.
        run: the run's folder, which has the readouts.

    Raises:
        UsageError: the text is not a target, or the readout, layer or index does not exist.
    """
    kind, _, rest = text.partition(":")
    if kind == "class":
        probe = Readout.load(_readout(run, "linear"))
        return probe_class(probe, rest) if rest else _of_each(probe_class(probe, 0), "most probable class", phi, images)
    if kind == "cluster":
        clusters = Readout.load(_readout(run, "cluster"))
        return cluster(clusters, _number(rest, text)) if rest else _of_each(cluster(clusters, 0), "own cluster", phi, images)
    if kind == "unit" and rest:
        return _unit(rest, text, phi, images)
    if kind == "like" and rest:
        other = read_images([rest], phi)
        return similarity_to(phi, other.images[0], name=other.names[0])
    if kind == "code":
        return code(phi, images, rest or None)
    raise UsageError(f"{text!r} is not a target.", f"Targets are: {FORMS}.")


def fixed_target(text: str, phi: Representation, run: Path) -> Target:
    """Parse a target that does not depend on an image: a class, a cluster or a unit by its name or index.

    Args:
        text: such as ``class:NAME``, ``cluster:NUMBER`` or ``unit:LAYER/CHANNEL``.
        phi: the representation.
        run: the run's folder, which has the readouts.

    Raises:
        UsageError: the text is not such a target, or the readout, layer or index does not exist.
    """
    kind, _, rest = text.partition(":")
    if kind not in ("class", "cluster", "unit") or not rest or (kind == "unit" and "/" not in rest):
        raise UsageError(f"{text!r} depends on an image.", "Give class:NAME, cluster:NUMBER or unit:LAYER/CHANNEL.")
    blank = torch.zeros(1, phi.backbone.channels, phi.size, phi.size, device=phi.device)
    target = target_of(text, phi, blank, run)
    with torch.no_grad():
        target.score(phi, phi.normalise(blank))  # raises if the index does not exist
    return target


def _readout(run: Path, name: str) -> Path:
    return find_result(run, f"measures/{name}.json").with_suffix("")


def _of_each(target: Target, name: str, phi: Representation, images: Tensor) -> Target:
    target = argmax_target(target, phi, images)
    return Target(name, target.read, target.which, target.layer)


def _number(text: str, target: str) -> int:
    if not text.isdigit():
        raise UsageError(f"{target!r}: {text!r} is not a number.", f"Targets are: {FORMS}.")
    return int(text)


def _unit(text: str, spec: str, phi: Representation, images: Tensor) -> Target:
    layer, _, rest = text.partition("/")
    channel, _, position = rest.partition("@")
    place: Place = "mean"
    if position == "max":
        place = "max"
    elif position:
        row, _, column = position.partition(",")
        place = (_number(row, spec), _number(column, spec))
    target = unit(layer, _number(channel, spec) if channel else 0, place)
    return target if channel else _of_each(target, f"strongest unit of {layer}", phi, images)


def training_data(path: Path, name: str) -> Source:
    """The data set that a run was trained on.

    Args:
        path: the run's folder.
        name: name of the representation, for the error message.

    Raises:
        UsageError: the folder does not contain a run.
        DataError: the data are not where they were, or cannot be read.
    """
    file = inside(path, "config.json")
    if not file.is_file():
        raise UsageError(f"The training data of {name} are not known.", "Name a data set (--data, or the DATA of report).")
    config = TrainConfig.read(file)
    try:
        return open_source(config.data, limit=config.limit, seed=config.seed, size=config.size)
    except DataError as error:
        if Path(config.data).is_absolute() or Path(config.data).exists() or ":" in config.data:
            raise
        raise DataError(
            f"The training data of {path} are named {config.data}, as seen from the folder in which it was trained. {error.cause}",
            "Repeat the command in that folder, or name the data (--data, or the DATA of report).",
        ) from error


def sample_images(phi: Representation, path: Path, data: str | None, most: int) -> Float[Tensor, "batch channel size size"]:
    """Evenly spaced images of a data set in the evaluation view.

    Args:
        phi: the representation.
        path: the run's folder.
        data: name of the data set; None: the training data of the run.
        most: maximum number of images.
    """
    source = training_data(path, phi.name) if data is None else open_source(data, size=phi.size)
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
    """Attribution maps of several methods.

    Args:
        phi: the representation.
        path: the run's folder.
        images: image files, or rows of a data set such as ``world:shapes#0,3,8-11``.
        target: one of ``FORMS``.
        methods: names of attribution methods; ``["all"]``: every method that supports this network.
        whole: the whole image instead of its central square.
        progress: called with a line per step.

    Raises:
        UsageError: an image, target or method does not exist.
    """
    inputs = read_images(images, phi, whole=whole)
    return explain(
        phi,
        inputs.images,
        target_of(target, phi, inputs.images, path),
        methods,
        names=inputs.names,
        progress=progress,
    )


def diagnose_images(
    phi: Representation, path: Path, images: Sequence[str], *, target: str = "class", **options: Unpack[DiagnoseOptions]
) -> Diagnosis:
    """For each image the smallest region that keeps the score, and whether it lies on the object, if masks are known.

    Args:
        phi: the representation.
        path: the run's folder.
        images: image files, or rows of a data set.
        target: one of ``FORMS``.
        options: options of ``explain.checks.diagnosis.diagnose``.
    """
    check_numbers(options)
    inputs = read_images(images, phi)
    return diagnose(
        phi,
        inputs.images,
        target_of(target, phi, inputs.images, path),
        objects=inputs.objects,
        names=inputs.names,
        **options,
    )


def invert_images(
    phi: Representation, path: Path, images: Sequence[str], *, layers: Sequence[str] = (), method: str = "descent", data: str | None = None,
    progress: ProgressCallback = no_progress, **options: Unpack[InvertOptions],
) -> Gallery:  # fmt: skip
    """Images reconstructed from the features of each layer.

    Args:
        phi: the representation.
        path: the run's folder.
        images: image files, or rows of a data set.
        layers: names of layers; empty: ``phi.layers``.
        method: ``descent`` from noise, ``form`` (deep image prior), or ``learned`` (an inverter that is trained once and cached).
        data: training data of an inverter; None: the training data of the run.
        progress: called with a line per step.
        options: options of the inversion function.

    Raises:
        UsageError: the inversion method, an image or a layer does not exist.
    """
    check_numbers(options)
    inputs = read_images(images, phi)
    settings: Any = options  # the method's own
    methods: dict[str, Callable[[str], Inversion]] = {
        "descent": lambda layer: invert(phi, inputs.images, layer, **settings),
        "form": lambda layer: invert_with_deep_prior(phi, inputs.images, layer, **settings),
        "learned": lambda layer: invert_learned(
            phi, inputs.images, get_inverter(phi, path, layer, data=data, progress=progress, **settings)
        ),
    }
    if method not in methods:
        raise UsageError(f"Images cannot be inverted by {method!r}.", f"Choose one of: {', '.join(methods)}.")
    found: dict[str, Inversion] = {}
    for layer in list(layers) or phi.layers:
        progress(f"{layer} of {len(inputs.images)} images")
        found[layer] = methods[method](layer)
    return inversions(inputs.images, found, names=inputs.names, settings={"representation": phi.name, "by": method, **options})


def get_inverter(
    phi: Representation,
    path: Path,
    layer: str | None = None,
    *,
    data: str | None = None,
    progress: ProgressCallback = no_progress,
    **options: Unpack[InverterOptions],
) -> Inverter:
    """The decoder that reconstructs images from a layer's features; trained once for these weights and this data set, then cached.

    Args:
        phi: the representation.
        path: the run's folder.
        layer: the layer; None: the pooled output.
        data: training data; None: the training data of the run.
        progress: called with a line per step.
        options: options of ``explain.inversion.inverter.learn_inverter``; with options it is trained again.
    """
    check_numbers(options)
    folder = results_folder(path, f"explanations/inverters/{layer or 'output'}")
    key, key_file = f"{fingerprint(phi)} {data or ''}", folder / "learnt_from.txt"
    if key_file.is_file() and key_file.read_bytes() == key.encode() and not options:
        return Inverter.load(folder).to(phi.device)
    progress(f"training an inverter for {layer or 'the output'}")
    inverter = learn_inverter(phi, sample_images(phi, path, data, 4000), layer, progress=progress, **options)
    inverter.save(folder)
    write_atomically(key_file, key)
    return inverter


def maximise_targets(
    phi: Representation,
    path: Path,
    targets: Sequence[str],
    *,
    parameterisation: str = "fourier",
    data: str | None = None,
    progress: ProgressCallback = no_progress,
    **options: Unpack[MaximiseOptions],
) -> Gallery:
    """Synthetic images that maximise units, clusters or classes.

    Args:
        phi: the representation.
        path: the run's folder.
        targets: such as ``unit:stages.2/41``, ``cluster:7``, ``class:dog``.
        parameterisation: parameterisation of the images: fourier, pixels, phase, or generated (the code of a trained inverter).
        data: data set of the spectrum (phase) or of the inverter (generated); None: the training data of the run.
        progress: called with a line per step.
        options: options of ``explain.gallery.maximisers``.

    Raises:
        UsageError: a target or the parameterisation does not exist.
    """
    check_numbers(options)
    if not targets:
        raise UsageError("There is no target.", "Name one or several: unit:stages.2/41 cluster:7 class:dog.")
    parsed = [fixed_target(text, phi, path) for text in targets]
    parameterisations: dict[str, Callable[[], Parameterisation]] = {
        "fourier": Fourier,
        "pixels": Pixels,
        "phase": lambda: Phase(estimate_spectrum(sample_images(phi, path, data, 500))),
        "generated": lambda: Generated(get_inverter(phi, path, data=data, progress=progress)),
    }
    if parameterisation not in parameterisations:
        raise UsageError(f"There is no parameterisation {parameterisation!r} of images.", f"Choose one of: {', '.join(parameterisations)}.")
    return maximisers(phi, parsed, parameterisation=parameterisations[parameterisation](), **options)
