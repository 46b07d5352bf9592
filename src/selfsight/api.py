"""The Python face: learn, load, wrap, open, Run."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from selfsight.backbones.loading import load_representation
from selfsight.backbones.onnx import export_onnx
from selfsight.bank.extract import get_bank
from selfsight.bank.store import Bank
from selfsight.core.clock import Clock
from selfsight.core.progress import ProgressCallback, no_progress
from selfsight.core.representation import Representation
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
    learnt_from,
    maximise_targets,
    sample_images,
)
from selfsight.workflows.train.config import TrainConfig, build, frame_of
from selfsight.workflows.train.request import TrainRequest
from selfsight.workflows.train.run import RunPolicy, continue_run, run_training

__all__ = ["Run", "compare", "learn", "load", "open", "wrap"]


def open(spec: str | Path, **options: Any) -> Source:
    """Open a data set by its name; see ``selfsight.data.opening.open_source`` for names and options."""
    return open_source(spec, **options)


def learn(data: str | Path, *, out: str | Path | None = None, manner: RunPolicy | None = None, **wishes: Any) -> "Run":
    """Learn a representation of the pictures in ``data``.

    Args:
        data: a data set's name: a folder, an archive, ``world:shapes`` and others (see ``open``).
        out: the run's folder; ``runs/METHOD`` by default.
        manner: how the run is carried out (resume, overwrite, …).
        wishes: the fields of ``TrainRequest``: method, backbone, size, batch, epochs, steps, minutes, seed, limit, options, …

    Raises:
        SelfsightError: what went wrong and what to do about it.
    """
    asked = TrainRequest(data=str(data), **wishes)
    path = Path(out) if out is not None else Path("runs") / asked.method
    run_training(asked, path, manner)
    return Run(path)


def load(spec: str | Path, *, size: int | None = None, device: str = "auto") -> "Run":
    """A run by its folder, or a model as ``timm:NAME``, which can be measured as a run can; see ``Run``."""
    return Run(spec, size=size, device=device)


def compare(
    runs: Sequence["str | Path | Run"], *, train: Source | str | Path, test: Source | str | Path, out: str | Path | None = None, **more: Any
) -> Comparison:
    """Measure several runs or models beside each other: one table of scores, with their floors.

    Args:
        runs: runs, their folders, or names of models.
        train, test: what probes are fitted on, and what they are scored on.
        out: a folder for ``comparison.json`` and ``comparison.png``; without it nothing is written but each run's own ``measures/``.
        more: as for ``Run.measure``; ``size`` and ``device`` as for ``Run``.

    Raises:
        UsageError: there are fewer than two.
    """
    how = {name: more.pop(name) for name in ("size", "device") if name in more}
    opened = [run if isinstance(run, Run) else Run(run, **how) for run in runs]
    names = unique_names([run.path.name for run in opened])
    found = compare_representations(
        {name: (run.phi, run.path) for name, run in zip(names, opened, strict=True)}, train=train, test=test, **more
    )
    if out is not None:
        found.save(Path(out))
    return found


def wrap(module: nn.Module, *, mean: Sequence[float], std: Sequence[float], size: int, name: str = "wrapped") -> Representation:
    """Any torch module as a representation.

    Args:
        module: from normalised images to feature maps, tokens or vectors.
        mean, std: per-channel normalisation.
        size: side of its images in pixels.
        name: what to call it.
    """
    from selfsight.backbones.pretrained import wrap_backbone

    return Representation(wrap_backbone(module, size=size), mean=mean, std=std, size=size, name=name)


class Run:
    """What was learnt, and what can be done with it.

    Args:
        spec: a run's folder, ``timm:NAME`` or ``untrained:NAME``.
        size: side of the images in pixels, for models.
        device: where it is looked at: auto (CUDA where there is a device, else the processor), cpu, cuda or mps.

    Attributes:
        path: where results go: the run's folder, or ``runs/NAME`` for a model.
        phi: the representation.
    """

    def __init__(self, spec: str | Path, *, size: int | None = None, device: str = "auto") -> None:
        self.phi = load_representation(spec, size=size)
        self.phi.backbone.to(find_device(device))
        self.path = (
            Path("runs") / str(spec).replace(":", "-").replace("/", "-") if str(spec).startswith(("timm:", "untrained:")) else Path(spec)
        )

    @property
    def settings(self) -> TrainConfig | None:
        """The options that it was learnt with; ``None`` for a model that was not learnt here."""
        file = self.path / "config.json"
        return TrainConfig.from_json(json.loads(file.read_text())) if file.is_file() else None

    @property
    def status(self) -> Mapping[str, Any]:
        """How it stands."""
        file = self.path / "STATUS.json"
        return json.loads(file.read_text()) if file.is_file() else {}

    def source(self) -> Source:
        """The data that it was learnt from.

        Raises:
            UsageError: it was not learnt here.
        """
        return learnt_from(self.path, self.phi.name)

    def bank(self, data: Source | str | Path, *, layers: Sequence[str] = (), half: bool = False) -> Bank:
        """What the representation says of a data set, kept in the run's folder."""
        source = open_source(data, size=self.phi.size) if isinstance(data, str | Path) else data
        return get_bank(self.phi, source, self.path / "banks", layers=layers, half=half, bf16=fast_bf16(self.phi.device))

    def measure(
        self,
        *,
        train: Source | str | Path,
        test: Source | str | Path,
        probes: Sequence[str] | None = None,
        floors: bool = True,
        limit: int | None = None,
        **more: Any,
    ) -> EvaluationResult:
        """Scores beside their floors: probes fitted on ``train``, scored on ``test``; kept under ``measures/``.

        Args:
            train, test: sources, or names of data sets.
            probes: names of probes and of measures of networks; all probes that the data allow by default.
            floors: measure the untrained network and raw pixels too.
            limit: at most so many pictures of ``train``; of ``test`` all are used.
            more: passed on to ``selfsight.workflows.evaluate.run.evaluate_representation`` and ``examine``.
        """
        return evaluate_representation(self.phi, self.path, train=train, test=test, probes=probes, floors=floors, limit=limit, **more)

    def explain(
        self,
        images: Sequence[str | Path],
        *,
        target: str = "code",
        methods: Sequence[str] = ("gradient", "grad_cam", "integrated_gradients", "extremal"),
        whole: bool = False,
        progress: ProgressCallback = no_progress,
    ) -> Explanation:
        """Maps of several attribution methods for some images; ``selfsight.explain`` has the parts.

        Args:
            images: picture files, or rows of a data set such as ``world:shapes#0,3,8-11``.
            target: what is explained, such as ``class:dog``, ``cluster:7``, ``unit:stages.2/41``, ``like:other.jpg``, ``code``.
            methods: names of attribution methods; ``["all"]``: all that can explain this network.
            whole: the whole picture in place of its middle square.
            progress: called with what is being done.
        """
        images = [str(image) for image in images]
        return explain_images(self.phi, self.path, images, target=target, methods=methods, whole=whole, progress=progress)

    def diagnose(self, images: Sequence[str | Path], *, target: str = "class", **more: Any) -> Diagnosis:
        """For each image the smallest part that is enough, and whether it lies on the object, where that is known.

        Args:
            images: picture files, or rows of a data set such as ``world:shapes#0-31``.
            target: what is explained; see ``explain``.
            more: passed on to ``explain.diagnosis.diagnose``.
        """
        return diagnose_images(self.phi, self.path, [str(image) for image in images], target=target, **more)

    def invert(
        self,
        images: Sequence[str | Path],
        *,
        layers: Sequence[str] = (),
        by: str = "descent",
        like: str | None = None,
        progress: ProgressCallback = no_progress,
        **more: Any,
    ) -> Gallery:
        """What each layer has kept of some images: pictures that it cannot tell from them.

        Args:
            images: picture files, or rows of a data set.
            layers: names of layers; by default all that are worth looking at.
            by: ``descent`` from noise (``explain.inversion.invert``), ``form`` of a network as the prior (``invert_by_network``), or
                ``learned``: an inverter that is learnt once and kept in the run's folder (``explain.inverter``).
            like: the data set that an inverter learns from; by default what was learnt from.
            progress: called with what is being done.
            more: passed on to these functions.

        Raises:
            UsageError: there is no such way, image or layer.
        """
        images = [str(image) for image in images]
        return invert_images(self.phi, self.path, images, layers=layers, by=by, like=like, progress=progress, **more)

    def inverter(
        self,
        layer: str | None = None,
        *,
        like: str | None = None,
        progress: ProgressCallback = no_progress,
        **more: Any,
    ) -> Inverter:
        """The network that paints pictures for a layer's features; learnt the first time that these weights and this data set ask for it.

        Args:
            layer: the layer; None: the pooled output.
            like: the data set to learn from; by default what was learnt from.
            progress: called with how it stands.
            more: passed on to ``explain.inverter.learn_inverter``; it is then learnt again.
        """
        return get_inverter(self.phi, self.path, layer, like=like, progress=progress, **more)

    def _pictures(self, like: str | None, most: int) -> Tensor:
        """Squares of a data set, by default of what was learnt from, evenly drawn."""
        return sample_images(self.phi, self.path, like, most)

    def maximise(
        self,
        targets: Sequence[str],
        *,
        writing: str = "fourier",
        like: str | None = None,
        progress: ProgressCallback = no_progress,
        **more: Any,
    ) -> Gallery:
        """Pictures that make units, clusters or classes say most (``explain.activation.maximise``).

        Args:
            targets: such as ``unit:stages.2/41``, ``cluster:7``, ``class:dog``.
            writing: how pictures are written down: fourier, pixels, phase, or generated (the code of a learned inverter).
            like: the data set whose spectrum pictures have (phase), or that the inverter learns from; by default what was learnt from.
            progress: called with what is being done.
            more: passed on to ``explain.gallery.maximisers``.

        Raises:
            UsageError: there is no such target or writing.
        """
        return maximise_targets(self.phi, self.path, targets, writing=writing, like=like, progress=progress, **more)

    def compare(self, others: Sequence["str | Path | Run"], *, like: str | None = None, count: int = 4, **more: Any) -> Gallery:
        """What units of the same rank like most, here and in other networks (``explain.comparison.compare_units``).

        Args:
            others: runs, or names of models.
            like: the data set by whose pictures units are ranked; by default what was learnt from.
            count: how many units of each.
            more: passed on to ``compare_units``.
        """
        spec = like if like is not None else self.source().spec
        runs = [
            self,
            *(other if isinstance(other, Run) else Run(other, size=self.phi.size, device=str(self.phi.device)) for other in others),
        ]
        names = unique_names([run.path.name for run in runs])
        seen = {name: run._pictures(spec, 500) for name, run in zip(names, runs, strict=True)}
        phis = {name: run.phi for name, run in zip(names, runs, strict=True)}
        return compare_units(phis, seen, ranks=tuple(range(count)), **more)

    def discover(
        self,
        data: Source | str | Path,
        *,
        what: str = "boxes",
        method: str | None = None,
        limit: int | None = None,
        **more: Any,
    ) -> tuple[Any, dict[str, dict[str, Score]]]:
        """Objects, kinds of things, parts or clusters in a data set's pictures; where the truth is known, scores beside floors.

        Args:
            data: a source, or the name of a data set.
            what: boxes, segments, parts or clusters.
            method: how; each has a default (``discovering.DISCOVERIES``).
            limit: at most so many pictures.
            more: passed on to ``workflows.discover.run.discover``, such as ``feature_spec``.

        Returns:
            What was found, which can be saved and shown; scores by measure, then by who is judged.
        """
        look = more.get("feature_spec")
        source = open_source(data, limit=limit, size=(look and look.size) or self.phi.size) if isinstance(data, str | Path) else data
        kept: dict[str, Any] = (
            {"banks": self.path / "banks"} if what in DISCOVERIES.having("image_level") else {"cache": self.path / "spectra"}
        )
        return discover(self.phi, source, what, method, **(kept | more))

    def report(self, data: Source | str | Path | None = None) -> Path:
        """Write one page about the run, ``report/index.html``; pictures are taken from ``data``, by default what it was learnt from."""
        source = self.source() if data is None else open_source(data, size=self.phi.size) if isinstance(data, str | Path) else data
        return write_report(self.path, self.phi, source, self.bank(source), self._shown(source))

    def explore(
        self, data: str | Path | None = None, *, others: Sequence["Run"] = (), progress: ProgressCallback = no_progress, **more: Any
    ) -> RunningServer:
        """Serve a page of this machine; ``more`` is that of ``exploring.find_or_prepare`` (limit, maps, …) and ``explorer.opening.serve`` (port, …)."""
        how = {name: more.pop(name) for name in ("limit", "maps", "untrained", "again") if name in more}
        named = zip(unique_names([run.phi.name for run in (self, *others)]), ((run.phi, run.path) for run in (self, *others)), strict=True)
        return serve(find_or_prepare(dict(named), None if data is None else str(data), progress=progress, **how), **more)

    def _shown(self, source: Source, count: int = 6) -> ViewExamples | None:
        """Some pictures and the views that the method makes of them."""
        settings = self.settings
        if settings is None or len(source) < 2:
            return None
        method = build(replace(settings, steps=0))
        batch = load_images(source, np.linspace(0, len(source) - 1, min(count, len(source))).astype(np.int64))
        drawn = method.recipe.draw(len(batch), Clock(seed=settings.seed), frame_of(settings, method))
        return ViewExamples(batch, method.recipe.make(batch, drawn), self.phi.mean, self.phi.std)

    def export_onnx(self, path: str | Path | None = None) -> Path:
        """Write the network for ONNX runtimes, ``export/model.onnx``; see ``selfsight.backbones.onnx``."""
        return export_onnx(self.phi, Path(path) if path is not None else self.path / "export" / "model.onnx")

    def _repr_html_(self) -> str:
        status = self.status.get("status", "")
        return f"<b>{escape(str(self.path))}</b> · {escape(self.phi.spec)} · {self.phi.size} px · {escape(status)}"


def repeat(path: str | Path, *, out: str | Path | None = None, manner: RunPolicy | None = None, **more: Any) -> Run:
    """Repeat a run by its own configuration, or with ``RunPolicy(resume=True)`` go on with it."""
    continue_run(Path(path), Path(out) if out is not None else None, manner, **more)
    return Run(out if out is not None else path)
