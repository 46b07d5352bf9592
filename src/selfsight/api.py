"""The Python API: learn, load, wrap, open, compare, Run."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any, Unpack, cast

import numpy as np
from torch import Tensor, nn

from selfsight.backbones.loading import load_representation
from selfsight.backbones.onnx import export_onnx
from selfsight.bank.extract import get_bank
from selfsight.bank.store import Bank
from selfsight.core.clock import Clock
from selfsight.core.files import inside, read_json
from selfsight.core.names import look_up
from selfsight.core.progress import ProgressCallback, no_progress
from selfsight.core.representation import Representation
from selfsight.core.results import results_folder
from selfsight.data.loader import load_images
from selfsight.data.opening import open_source
from selfsight.data.source import Source
from selfsight.engine.hardware import fast_bf16, find_device
from selfsight.explain.attribution.explanation import Explanation
from selfsight.explain.checks.diagnosis import Diagnosis
from selfsight.explain.gallery import Gallery
from selfsight.explain.inversion.inverter import Inverter
from selfsight.explain.synthesis.comparison import compare_units
from selfsight.explorer.prepare.build import find_or_prepare
from selfsight.explorer.server.opening import RunningServer, serve
from selfsight.measure.results import Score
from selfsight.render.sheet import unique_names
from selfsight.report.page import ViewExamples, write_report
from selfsight.workflows import options as keywords
from selfsight.workflows.discover.run import discover
from selfsight.workflows.discover.table import DISCOVERIES
from selfsight.workflows.evaluate.comparison import Comparison
from selfsight.workflows.evaluate.probes import EvaluationResult
from selfsight.workflows.evaluate.run import compare_representations, evaluate_representation
from selfsight.workflows.explain import (
    diagnose_images,
    explain_images,
    get_inverter,
    invert_images,
    maximise_targets,
    sample_images,
    training_data,
)
from selfsight.workflows.train.config import TrainConfig, build, frame_of
from selfsight.workflows.train.request import TrainRequest
from selfsight.workflows.train.run import RunPolicy, continue_run, run_training

__all__ = ["Run", "compare", "learn", "load", "open", "wrap"]


def open(spec: str | Path, **options: Unpack[keywords.OpenOptions]) -> Source:
    """Open a data set by name; see ``selfsight.data.opening.open_source`` for names and options.

    Args:
        spec: name of the data set, such as a folder or ``world:shapes``.
        options: options of ``open_source``.
    """
    return open_source(spec, **options)


def learn(
    data: str | Path, *, out: str | Path | None = None, policy: RunPolicy | None = None, **requested: Unpack[keywords.LearnOptions]
) -> "Run":
    """Train a method on the images in ``data``.

    Args:
        data: name of a data set: a folder, an archive, ``world:shapes`` and others (see ``open``).
        out: the run's folder; None: ``runs/METHOD``.
        policy: how the run is carried out (resume, overwrite, …); None: the defaults.
        requested: fields of ``TrainRequest``: method, backbone, size, batch, epochs, steps, minutes, seed, limit, options, …

    Raises:
        SelfsightError: the cause and a remedy.
    """
    for name in requested:
        look_up("option", name, keywords.LearnOptions.__annotations__)
    request = TrainRequest(data=str(data), **requested)
    path = Path(out) if out is not None else Path("runs") / request.method
    run_training(request, path, policy)
    return Run(path)


def load(spec: str | Path, *, size: int | None = None, device: str = "auto") -> "Run":
    """Load a run by its folder, or a model as ``timm:NAME``; see ``Run``.

    Args:
        spec: a run's folder, ``timm:NAME`` or ``untrained:NAME``.
        size: side of the images in pixels, for models; by default that of the published weights, for untrained ones 96.
        device: auto, cpu, cuda or mps.
    """
    return Run(spec, size=size, device=device)


def compare(
    runs: Sequence["str | Path | Run"],
    *,
    train: Source | str | Path,
    test: Source | str | Path,
    out: str | Path | None = None,
    **more: Unpack[keywords.CompareOptions],
) -> Comparison:  # fmt: skip
    """Evaluate several runs or models in the same way: one table of scores, with baselines.

    Args:
        runs: runs, their folders, or names of models.
        train: data on which probes are fitted.
        test: data on which they are scored.
        out: folder for ``comparison.json`` and ``comparison.png``; None: only each run's own ``measures/`` are written.
        more: further arguments of ``Run.measure``; ``size`` and ``device`` as for ``Run``.

    Raises:
        UsageError: there are fewer than two runs.
    """
    run_options: dict[str, Any] = {name: value for name, value in more.items() if name in ("size", "device")}
    measure_options: dict[str, Any] = {name: value for name, value in more.items() if name not in run_options}
    opened = [run if isinstance(run, Run) else Run(run, **run_options) for run in runs]
    names = unique_names([run.path.name for run in opened])
    networks = {name: (run.phi, run.path) for name, run in zip(names, opened, strict=True)}
    comparison = compare_representations(networks, train=train, test=test, **measure_options)
    if out is not None:
        comparison.save(Path(out))
    return comparison


def wrap(module: nn.Module, *, mean: Sequence[float], std: Sequence[float], size: int, name: str = "wrapped") -> Representation:
    """Wrap any torch module as a representation.

    Args:
        module: network from normalised images to feature maps, tokens or vectors.
        mean: mean per channel, for normalisation.
        std: standard deviation per channel, for normalisation.
        size: side of the images in pixels.
        name: name of the representation.
    """
    from selfsight.backbones.pretrained import wrap_backbone

    return Representation(wrap_backbone(module, size=size), mean=mean, std=std, size=size, name=name)


class Run:
    """A run or a model, and what can be done with it.

    Args:
        spec: a run's folder, ``timm:NAME`` or ``untrained:NAME``.
        size: side of the images in pixels, for models; by default that of the published weights, for untrained ones 96.
        device: auto (CUDA if available, otherwise the CPU), cpu, cuda or mps.

    Attributes:
        path: folder of the results: the run's folder, or ``runs/NAME`` for a model.
        phi: the representation.
    """

    def __init__(self, spec: str | Path, *, size: int | None = None, device: str = "auto") -> None:
        self.phi = load_representation(spec, size=size)
        self.phi.backbone.to(find_device(device))
        model = str(spec).startswith(("timm:", "untrained:"))
        self.path = Path("runs") / str(spec).replace(":", "-").replace("/", "-") if model else Path(spec)

    @property
    def config(self) -> TrainConfig | None:
        """The configuration of the run; ``None`` for a model."""
        file = inside(self.path, "config.json")
        return TrainConfig.read(file) if file.is_file() else None

    @property
    def status(self) -> Mapping[str, Any]:
        """Contents of ``STATUS.json``; empty for a model."""
        file = inside(self.path, "STATUS.json")
        return read_json(file) if file.is_file() else {}

    def source(self) -> Source:
        """The training data of the run.

        Raises:
            UsageError: the representation was not trained in this run folder.
        """
        return training_data(self.path, self.phi.name)

    def bank(self, data: Source | str | Path, *, layers: Sequence[str] = (), half: bool = False) -> Bank:
        """Features of a data set, cached in the run's folder.

        Args:
            data: a source, or the name of a data set.
            layers: layers besides the pooled output.
            half: store features in half precision.
        """
        source = open_source(data, size=self.phi.size) if isinstance(data, str | Path) else data
        return get_bank(self.phi, source, results_folder(self.path, "banks"), layers=layers, half=half, bf16=fast_bf16(self.phi.device))

    def measure(
        self, *, train: Source | str | Path, test: Source | str | Path, probes: Sequence[str] | None = None, baselines: bool = True,
        limit: int | None = None, **more: Unpack[keywords.MeasureOptions],
    ) -> EvaluationResult:  # fmt: skip
        """Scores with baselines: probes fitted on ``train`` and scored on ``test``; saved under ``measures/``.

        Args:
            train: source or name of the data set on which probes are fitted.
            test: source or name of the data set on which they are scored.
            probes: names of probes and analyses; None: all probes that the data allow.
            baselines: also score the baselines: the untrained network and raw pixels.
            limit: use a random subset of ``train`` of this size; ``test`` is used completely.
            more: further arguments of ``workflows.evaluate.run.evaluate_representation`` and ``workflows.evaluate.probes.evaluate``.
        """
        return evaluate_representation(self.phi, self.path, train=train, test=test, probes=probes, baselines=baselines, limit=limit, **more)

    def explain(
        self, images: Sequence[str | Path], *, target: str = "code",
        methods: Sequence[str] = ("gradient", "grad_cam", "integrated_gradients", "extremal"), whole: bool = False,
        progress: ProgressCallback = no_progress,
    ) -> Explanation:  # fmt: skip
        """Attribution maps of several methods; ``selfsight.explain`` has the single functions.

        Args:
            images: image files, or rows of a data set such as ``world:shapes#0,3,8-11``.
            target: score that is explained, such as ``class:dog``, ``cluster:7``, ``unit:stages.2/41``, ``like:other.jpg``, ``code``.
            methods: names of attribution methods; ``["all"]``: every method that supports this network.
            whole: the whole image instead of its central square.
            progress: called with a line per step.
        """
        images = [str(image) for image in images]
        return explain_images(self.phi, self.path, images, target=target, methods=methods, whole=whole, progress=progress)

    def diagnose(self, images: Sequence[str | Path], *, target: str = "class", **more: Unpack[keywords.DiagnoseOptions]) -> Diagnosis:
        """For each image the smallest region that keeps the score, and whether it lies on the object, if masks are known.

        Args:
            images: image files, or rows of a data set such as ``world:shapes#0-31``.
            target: score that is explained; see ``explain``.
            more: further arguments of ``explain.checks.diagnosis.diagnose``.
        """
        return diagnose_images(self.phi, self.path, [str(image) for image in images], target=target, **more)

    def invert(
        self, images: Sequence[str | Path], *, layers: Sequence[str] = (), method: str = "descent", data: str | None = None,
        progress: ProgressCallback = no_progress, **more: Unpack[keywords.InvertOptions],
    ) -> Gallery:  # fmt: skip
        """Images reconstructed from the features of each layer, which show what the layer keeps.

        Args:
            images: image files, or rows of a data set.
            layers: names of layers; empty: ``phi.layers``.
            method: ``descent`` from noise (``explain.inversion.descent.invert``), ``form``: deep image prior (``invert_with_deep_prior``), or
                ``learned``: an inverter that is trained once and cached in the run's folder (``explain.inversion.inverter``).
            data: training data of an inverter; None: the training data of the run.
            progress: called with a line per step.
            more: further arguments of these functions.

        Raises:
            UsageError: the inversion method, an image or a layer does not exist.
        """
        images = [str(image) for image in images]
        return invert_images(self.phi, self.path, images, layers=layers, method=method, data=data, progress=progress, **more)

    def inverter(
        self, layer: str | None = None, *, data: str | None = None, progress: ProgressCallback = no_progress,
        **more: Unpack[keywords.InverterOptions],
    ) -> Inverter:  # fmt: skip
        """The decoder that reconstructs images from a layer's features; trained once for these weights and this data set.

        Args:
            layer: the layer; None: the pooled output.
            data: training data; None: the training data of the run.
            progress: called with a line per step.
            more: further arguments of ``explain.inversion.inverter.learn_inverter``; with them it is trained again.
        """
        return get_inverter(self.phi, self.path, layer, data=data, progress=progress, **more)

    def _sample(self, data: str | None, most: int) -> Tensor:
        """Evenly spaced images of a data set; None: the training data of the run."""
        return sample_images(self.phi, self.path, data, most)

    def maximise(
        self, targets: Sequence[str], *, parameterisation: str = "fourier", data: str | None = None, progress: ProgressCallback = no_progress,
        **more: Unpack[keywords.MaximiseOptions],
    ) -> Gallery:  # fmt: skip
        """Synthetic images that maximise units, clusters or classes (``explain.synthesis.activation.maximise``).

        Args:
            targets: such as ``unit:stages.2/41``, ``cluster:7``, ``class:dog``.
            parameterisation: parameterisation of the images: fourier, pixels, phase, or generated (the code of a trained inverter).
            data: data set of the spectrum (phase) or of the inverter (generated); None: the training data of the run.
            progress: called with a line per step.
            more: further arguments of ``explain.gallery.maximisers``.
        """
        return maximise_targets(self.phi, self.path, targets, parameterisation=parameterisation, data=data, progress=progress, **more)

    def compare(
        self, others: Sequence["str | Path | Run"], *, data: str | None = None, count: int = 4, **more: Unpack[keywords.CompareUnitsOptions]
    ) -> Gallery:
        """Maximally activating images of units of the same rank, here and in other networks (``explain.synthesis.comparison.compare_units``).

        Args:
            others: runs, or names of models.
            data: data set whose images rank the units; None: the training data of the run.
            count: number of units per network.
            more: further arguments of ``compare_units``.
        """
        spec = data if data is not None else self.source().spec
        size, device = self.phi.size, str(self.phi.device)
        runs = [self, *(other if isinstance(other, Run) else Run(other, size=size, device=device) for other in others)]
        names = unique_names([run.path.name for run in runs])
        images = {name: run._sample(spec, 500) for name, run in zip(names, runs, strict=True)}
        phis = {name: run.phi for name, run in zip(names, runs, strict=True)}
        return compare_units(phis, images, ranks=tuple(range(count)), **more)

    def discover(
        self, data: Source | str | Path, *, what: str = "boxes", method: str | None = None, limit: int | None = None,
        **more: Unpack[keywords.DiscoverOptions],
    ) -> tuple[Any, dict[str, dict[str, Score]]]:  # fmt: skip
        """Objects, segments, parts or clusters in the images of a data set; with scores and baselines if annotations exist.

        Args:
            data: a source, or the name of a data set.
            what: boxes, segments, parts, clusters, duplicates or selection.
            method: name of the method; None: the default (``workflows.discover.table.DISCOVERIES``).
            limit: use a random subset of this size.
            more: further arguments of ``workflows.discover.run.discover``, such as ``feature_spec``.

        Returns:
            The result, which can be saved and displayed; and scores by metric, then by method.
        """
        feature_spec = more.get("feature_spec")
        source = (
            open_source(data, limit=limit, size=(feature_spec and feature_spec.size) or self.phi.size)
            if isinstance(data, str | Path)
            else data
        )
        image_level = what in DISCOVERIES.having("image_level")
        caches: dict[str, Any] = (
            {"banks": results_folder(self.path, "banks")} if image_level else {"cache": results_folder(self.path, "spectra")}
        )
        return discover(self.phi, source, what, method, **cast("dict[str, Any]", {**caches, **more}))

    def report(self, data: Source | str | Path | None = None) -> Path:
        """Write a page about the run, ``report/index.html``, with images from ``data``; None: the training data of the run."""
        source = self.source() if data is None else open_source(data, size=self.phi.size) if isinstance(data, str | Path) else data
        return write_report(self.path, self.phi, source, self.bank(source), self._view_examples(source))

    def explore(
        self, data: str | Path | None = None, *, others: Sequence["Run"] = (), progress: ProgressCallback = no_progress,
        **more: Unpack[keywords.ExploreOptions],
    ) -> RunningServer:  # fmt: skip
        """Start a local web server with the explorer.

        Args:
            data: name of a data set; None: the training data of the run.
            others: further runs to compare with.
            progress: called with a line per step.
            more: further arguments of ``explorer.prepare.build.find_or_prepare`` (limit, maps, …) and ``explorer.server.opening.serve`` (port, …).
        """
        prepare_options: dict[str, Any] = {name: value for name, value in more.items() if name in ("limit", "maps", "untrained", "rebuild")}
        serve_options: dict[str, Any] = {name: value for name, value in more.items() if name not in prepare_options}
        named = zip(unique_names([run.phi.name for run in (self, *others)]), ((run.phi, run.path) for run in (self, *others)), strict=True)
        return serve(
            find_or_prepare(dict(named), None if data is None else str(data), progress=progress, **prepare_options), **serve_options
        )

    def _view_examples(self, source: Source, count: int = 6) -> ViewExamples | None:
        """Some images and the method's views of them."""
        config = self.config
        if config is None or len(source) < 2:
            return None
        method = build(replace(config, steps=0))
        batch = load_images(source, np.linspace(0, len(source) - 1, min(count, len(source))).astype(np.int64))
        drawn = method.recipe.draw(len(batch), Clock(seed=config.seed), frame_of(config, method))
        return ViewExamples(batch, method.recipe.make(batch, drawn), self.phi.mean, self.phi.std)

    def export_onnx(self, path: str | Path | None = None) -> Path:
        """Export the network to ONNX, by default to ``export/model.onnx``; see ``selfsight.backbones.onnx``."""
        return export_onnx(self.phi, Path(path) if path is not None else self.path / "export" / "model.onnx")

    def _repr_html_(self) -> str:
        status = self.status.get("status", "")
        return f"<b>{escape(str(self.path))}</b> · {escape(self.phi.spec)} · {self.phi.size} px · {escape(status)}"


def repeat(
    path: str | Path, *, out: str | Path | None = None, policy: RunPolicy | None = None, **more: Unpack[keywords.RepeatOptions]
) -> Run:
    """Repeat a run with its own configuration, or continue it with ``RunPolicy(resume=True)``.

    Args:
        path: the run's folder.
        out: folder of the new run; None: the same folder.
        policy: how the run is carried out; None: the defaults.
        more: fields of ``TrainRequest`` that replace those of the configuration.
    """
    continue_run(Path(path), Path(out) if out is not None else None, policy, **more)
    return Run(out if out is not None else path)
