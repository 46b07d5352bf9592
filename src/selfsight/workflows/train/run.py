"""Learning from a data set: a run directory is kept, and the loop runs in it."""

import csv
import io
import json
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer

from selfsight.backbones.loading import load_representation
from selfsight.core.clock import Clock
from selfsight.core.distribute import rank, world_size
from selfsight.core.errors import Collapsed, DataError, Diverged, Interrupted, Preempted, SelfsightError, UsageError
from selfsight.core.method import Method
from selfsight.core.origin import origin
from selfsight.core.progress import ProgressCallback, no_progress
from selfsight.core.views import Images
from selfsight.data.loader import Loader
from selfsight.data.opening import open_source, scan_once
from selfsight.data.source import Source
from selfsight.engine.checkpoint import load_checkpoint, write_atomically, write_weights
from selfsight.engine.fit import fit
from selfsight.engine.hardware import Hardware, choose_hardware, processes
from selfsight.engine.health import Health
from selfsight.engine.observe import Observer, Progress, Recorder
from selfsight.engine.run import RunFolder, Saver, Signals
from selfsight.engine.track import TensorBoard
from selfsight.workflows.train.config import TrainConfig, build, frame_of, plan_of
from selfsight.workflows.train.request import TrainRequest
from selfsight.workflows.train.resolve import resolve_config, resolve_size

__all__ = ["RunPolicy", "continue_run", "log", "run_training"]


def log(words: str) -> None:
    """Say it on standard error, once whatever the number of processes."""
    if rank() == 0:
        sys.stderr.write(f"{words}\n")
        sys.stderr.flush()


@dataclass(frozen=True)
class RunPolicy:
    """How a run is carried out, whatever it learns.

    Attributes:
        resume: go on with the run that is there; begin where there is none.
        overwrite: replace the run that is there.
        fail_on_collapse: end with an error when the representation collapses.
        tensorboard: write for TensorBoard too, under ``tensorboard/`` (extra ``track``).
        progress: called with what is worth saying.
        observers: more observers, made from the source and the settings.
    """

    resume: bool = False
    overwrite: bool = False
    fail_on_collapse: bool = False
    tensorboard: bool = False
    progress: ProgressCallback = log
    observers: Callable[[Source, TrainConfig], list[Observer]] | None = None


@dataclass
class _Job:
    """A run that is about to be carried out."""

    settings: TrainConfig
    source: Source
    folder: RunFolder
    hardware: Hardware
    workers: int
    manner: RunPolicy

    def carry_out(self) -> dict[str, Any]:
        """Learn, export, and say how it ended; return what ``--json`` prints."""
        settings, folder, manner = self.settings, self.folder, self.manner
        method = build(settings)
        if settings.init:
            _initialise(method, settings.init)
        checkpoint = folder.begin(
            settings.to_json(), self._origin(), resume=manner.resume, overwrite=manner.overwrite, progress=manner.progress
        )
        started = time.perf_counter()
        try:
            done, state = load_checkpoint(checkpoint, method) if checkpoint else (0, None)
            health = self._health(folder.cut(done))
            if done:
                manner.progress(f"going on after step {done} of {settings.steps}")
            folder.status("running", step=done, steps=settings.steps)
            _list_bad(folder, self.source, manner.progress)
            _card(folder.path, settings, method, self.source)
            if done < settings.steps:
                self._fit(method, health, done, state)
            status = "collapsed" if health.verdict else "finished"
            _export(folder.path, method)
            folder.status(status, health.verdict, step=settings.steps, steps=settings.steps)
            seconds = time.perf_counter() - started
            return _summary(folder.path, settings, method, status, seconds, settings.steps - done)
        except SelfsightError as error:
            folder.status(_standing(error), error.cause)
            raise
        except BaseException as error:
            folder.status("failed", f"{type(error).__name__}: {error}")
            raise
        finally:
            folder.release()

    def _origin(self) -> dict[str, Any]:
        return origin(
            seed=self.settings.seed,
            data=self.source.fingerprint,
            images=len(self.source),
            device=str(self.hardware.device),
            precision=self.hardware.precision,
            compile=self.hardware.compile,
            threads=torch.get_num_threads(),
            processes=world_size(),
        )

    def _health(self, records: list[dict[str, Any]]) -> Health:
        """A judge of collapse that has heard the records which the run has already."""
        health = Health(no_progress, self.manner.fail_on_collapse)
        for record in records:
            health.on_record(record, {})
        health.progress = lambda words: self.manner.progress(f"warning: {words}")
        return health

    def _fit(self, method: Method, health: Health, done: int, state: dict[str, Any] | None) -> None:
        settings, manner = self.settings, self.manner
        loader = Loader(self.source, batch=settings.batch, seed=settings.seed, workers=self.workers)
        recorder = Recorder(self.folder.path, every=settings.record_every)
        recorder.subscribe(Progress(settings.steps).on_record)
        recorder.subscribe(health.on_record)
        if manner.tensorboard and rank() == 0:
            recorder.subscribe(TensorBoard(self.folder.path / "tensorboard").on_record)

        def restore(optimiser: Optimizer) -> None:
            if state is not None:
                optimiser.load_state_dict(state)

        with Signals() as signals:
            more = manner.observers(self.source, settings) if manner.observers else []
            observers = [recorder, *more, Saver(self.folder, signals, every=settings.save_every)]
            fit(method, loader, plan_of(settings, method), self.hardware, observers, start=done, restore=restore)


def run_training(wishes: TrainRequest, out: Path, manner: RunPolicy | None = None) -> dict[str, Any]:
    """Learn as wished into the folder ``out``; return what ``--json`` prints.

    Raises:
        SelfsightError: of many kinds; STATUS.json says which, and what was learnt until then is saved.
    """
    manner = manner or RunPolicy()
    hardware = choose_hardware(wishes.device, wishes.precision, compile=wishes.compile)
    with processes(hardware.device), scan_once():
        folder = RunFolder(out)
        folder.refuse(resume=manner.resume, overwrite=manner.overwrite)
        saved = TrainConfig.from_json(folder.read("config.json")) if manner.resume and folder.exists else None
        size = wishes.size or (saved.size if saved else resolve_size(wishes, hardware, manner.progress))
        source = open_source(wishes.data, limit=wishes.limit, seed=wishes.seed, size=size)
        if len(source) < 2:
            raise DataError(f"{wishes.data} has {len(source)} image(s).", "Learning needs 2 or more.")
        if saved is None:
            settings = resolve_config(wishes, source, size, hardware, manner.progress)
        else:
            settings = resolve_config(_completed(wishes, saved, size), source, size, hardware, no_progress)
        return _Job(settings, source, folder, hardware, wishes.workers, manner).carry_out()


def _completed(wishes: TrainRequest, saved: TrainConfig, size: int) -> TrainRequest:
    """The wishes for a run that is continued: what they leave open is what the run had resolved."""
    open_end = wishes.steps is None and wishes.epochs is None
    return replace(
        wishes,
        size=size,
        backbone=wishes.backbone or saved.backbone,
        batch=wishes.batch or saved.batch,
        steps=saved.steps if open_end else wishes.steps,
        minutes=None,
    )


def continue_run(path: Path, out: Path | None = None, manner: RunPolicy | None = None, **more: Any) -> dict[str, Any]:
    """Repeat, or with ``manner.resume`` go on with, the run in a folder, by its own configuration; ``more`` are other wishes."""
    saved = TrainConfig.from_json(RunFolder(path).read("config.json"))
    names = (
        "data",
        "method",
        "backbone",
        "size",
        "batch",
        "steps",
        "seed",
        "limit",
        "init",
        "accumulate",
        "precision",
        "save_every",
    )
    known = {name: getattr(saved, name) for name in names}
    wishes = TrainRequest(**known, options=dict(saved.options), training=asdict(saved.training))
    return run_training(replace(wishes, **more), out or path, manner)


def _standing(error: SelfsightError) -> str:
    kinds: dict[type[SelfsightError], str] = {
        Preempted: "preempted",
        Interrupted: "preempted",
        Diverged: "diverged",
        Collapsed: "collapsed",
    }
    return kinds.get(type(error), "failed")


def _initialise(method: Method, spec: str) -> None:
    """Fill the backbone with given weights, and every slow copy of it."""
    given = load_representation(spec).backbone.state_dict()
    own = method.backbone.state_dict()
    if given.keys() != own.keys() or any(given[name].shape != own[name].shape for name in own):
        raise UsageError(f"The weights of {spec} do not fit this backbone.", "Choose the --backbone and --size that they were made with.")
    method.backbone.load_state_dict(given)
    for module in method.modules():
        followers, leader = getattr(module, "followers", ()), getattr(module, "leader", None)
        for follower, link in zip(followers, leader.links if leader else (), strict=True):
            follower.load_state_dict(deepcopy(link.state_dict()))


def _list_bad(folder: RunFolder, source: Source, progress: ProgressCallback) -> None:
    if not source.bad or rank():
        return
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(("name", "reason"))
    writer.writerows(source.bad)
    write_atomically(folder.path / "bad_files.csv", table.getvalue())
    progress(f"{len(source.bad)} of {len(source)} files could not be read and were replaced; bad_files.csv lists them")


def _card(path: Path, settings: TrainConfig, method: Method, source: Source) -> None:
    """What the backbone is, in timm's layout, ``export/config.json``: from the beginning, so that a run that still trains can be looked at."""
    if rank():
        return
    backbone, normalise = method.backbone, getattr(method.recipe, "normalise", None)
    card = {
        "architecture": settings.backbone,
        "num_classes": 0,
        "num_features": backbone.dim,
        "pretrained_cfg": {
            "input_size": [backbone.channels, settings.size, settings.size],
            "mean": list(normalise.mean) if normalise else [0.0] * backbone.channels,
            "std": list(normalise.std) if normalise else [1.0] * backbone.channels,
            "num_classes": 0,
        },
        "selfsight": {"method": settings.method, "data": source.fingerprint, "images": len(source), "steps": settings.steps},
    }
    (path / "export").mkdir(exist_ok=True)
    write_atomically(path / "export" / "config.json", json.dumps(card, indent=1) + "\n")


def _export(path: Path, method: Method) -> None:
    """The backbone's weights, ``export/model.safetensors``."""
    if not rank():
        write_weights(method.backbone.state_dict(), path / "export" / "model.safetensors", {"format": "pt"})


def _summary(path: Path, settings: TrainConfig, method: Method, status: str, seconds: float, steps: int) -> dict[str, Any]:
    images = steps * settings.batch
    return {
        "run": str(path),
        "status": status,
        "seconds": round(seconds, 2),
        "images": images,
        "views_per_second": round(images * _views(settings, method) / max(seconds, 1e-9), 1),
    }


def _views(settings: TrainConfig, method: Method) -> int:
    """Views made of one image, counted on blank ones."""
    blank = torch.zeros(2, 3, settings.size, settings.size, dtype=torch.uint8)
    made = method.recipe.make(Images(blank, torch.arange(2)), method.recipe.draw(2, Clock(), frame_of(settings, method.cpu())))
    return len(made.large) + len(made.small)
