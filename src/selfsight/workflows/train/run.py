"""Training of a method on a data set into a run folder."""

import io
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Unpack

import torch
from torch.optim import Optimizer

from selfsight.backbones.loading import load_representation
from selfsight.core.cache import write_atomically
from selfsight.core.clock import Clock
from selfsight.core.distribute import rank, world_size
from selfsight.core.errors import Collapsed, DataError, Diverged, Interrupted, Preempted, SelfsightError, UsageError
from selfsight.core.json_text import json_text
from selfsight.core.method import Method
from selfsight.core.origin import origin
from selfsight.core.progress import ProgressCallback, no_progress
from selfsight.core.spreadsheets import write_csv
from selfsight.core.views import Images
from selfsight.data.loader import Loader
from selfsight.data.opening import open_source, scan_once
from selfsight.data.source import Source
from selfsight.engine.checkpoint import load_checkpoint, write_weights
from selfsight.engine.fit import fit
from selfsight.engine.hardware import Hardware, choose_hardware, lost_process_fault, processes
from selfsight.engine.health import Health
from selfsight.engine.memory import is_out_of_memory, memory_fault
from selfsight.engine.observe import Observer, Progress, Recorder
from selfsight.engine.run import RunFolder, Saver
from selfsight.engine.track import TensorBoard
from selfsight.workflows.options import RepeatOptions
from selfsight.workflows.train.config import TrainConfig, build, frame_of, plan_of
from selfsight.workflows.train.continuation import check_data
from selfsight.workflows.train.request import TrainRequest
from selfsight.workflows.train.resolve import resolve_config, resolve_size

__all__ = ["RunPolicy", "continue_run", "log", "run_training"]


def log(text: str) -> None:
    """Write a line to standard error, from the first process only."""
    if rank() == 0:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


@dataclass(frozen=True)
class RunPolicy:
    """How a run is carried out, independent of what is trained.

    Attributes:
        resume: continue the existing run, or start one if there is none.
        overwrite: replace an existing run.
        fail_on_collapse: raise an error if the representation collapses.
        tensorboard: also write TensorBoard logs under ``tensorboard/`` (extra ``track``).
        progress: called with a line per message.
        observers: function from source and settings to additional observers.
        accept_data: continue a run although its data have changed, where the method can.
        take_over: replace the lock of a process that cannot be checked from here.
    """

    resume: bool = False
    overwrite: bool = False
    fail_on_collapse: bool = False
    tensorboard: bool = False
    progress: ProgressCallback = log
    observers: Callable[[Source, TrainConfig], list[Observer]] | None = None
    accept_data: bool = False
    take_over: bool = False


@dataclass
class _Job:
    """A run with everything it needs."""

    config: TrainConfig
    source: Source
    folder: RunFolder
    hardware: Hardware
    workers: int
    policy: RunPolicy

    def carry_out(self) -> dict[str, Any]:
        """Train, export and record the status; returns what ``--json`` prints."""
        config, folder, policy = self.config, self.folder, self.policy
        method = build(config)
        if config.init:
            _initialise(method, config.init, config.size)
        saved = TrainConfig.read(folder.path / "config.json").to_json() if policy.resume and folder.exists else None
        checkpoint = folder.begin(config.to_json(), self._origin(), saved=saved, overwrite=policy.overwrite, progress=policy.progress)
        started = time.perf_counter()
        try:
            done, state = load_checkpoint(checkpoint, method) if checkpoint else (0, None)
            health = self._health(folder.cut(done))
            if done == config.steps and folder.is_complete():
                return _summary(folder.path, config, method, folder.read("STATUS.json")["status"], time.perf_counter() - started, 0)
            if done:
                policy.progress(f"continuing after step {done} of {config.steps}")
            folder.status("running", facts={"step": done, "steps": config.steps})
            _list_bad(folder, self.source, policy.progress)
            _card(folder.path, config, method, self.source)
            if done < config.steps:
                self._fit(method, health, done, state)
            status = "collapsed" if health.verdict else "finished"
            _export(folder.path, method)
            folder.status(status, health.verdict, {"step": config.steps, "steps": config.steps})
            seconds = time.perf_counter() - started
            return _summary(folder.path, config, method, status, seconds, config.steps - done)
        except SelfsightError as error:
            self._end(_status_of(error), error.cause)
            raise
        except KeyboardInterrupt:
            self._end("preempted", "a second Ctrl-C ended the run within a step; the last checkpoint is the latest state")
            raise
        except BaseException as error:
            out_of_memory = is_out_of_memory(error)
            fault = memory_fault(config.batch // config.accumulate, str(error)) if out_of_memory else lost_process_fault(error)
            self._end("failed", fault.cause if fault else f"{type(error).__name__}: {error}")
            if fault:
                raise fault from error
            raise

    def _end(self, status: str, reason: str) -> None:
        """Write the status after an error, which a failure to write must not hide."""
        try:
            self.folder.status(status, reason)
        except (OSError, SelfsightError) as error:
            self.policy.progress(f"warning: STATUS.json could not be written and is not up to date ({error}); the run has {status}")

    def _origin(self) -> dict[str, Any]:
        facts = {
            "seed": self.config.seed,
            "data": self.source.fingerprint,
            "images": len(self.source),
            "device": str(self.hardware.device),
            "precision": self.hardware.precision,
            "compile": self.hardware.compile,
            "threads": torch.get_num_threads(),
            "processes": world_size(),
        }
        return origin(facts)

    def _health(self, records: list[dict[str, Any]]) -> Health:
        """A collapse detector that has processed the existing records of the run."""
        health = Health(no_progress, self.policy.fail_on_collapse)
        for record in records:
            health.on_record(record, {})
        health.progress = lambda words: self.policy.progress(f"warning: {words}")
        return health

    def _fit(self, method: Method, health: Health, done: int, state: dict[str, Any] | None) -> None:
        config, policy = self.config, self.policy
        loader = Loader(self.source, batch=config.batch, seed=config.seed, workers=self.workers)
        recorder = Recorder(self.folder.path, every=config.record_every)
        recorder.subscribe(Progress(config.steps).on_record)
        recorder.subscribe(health.on_record)
        if policy.tensorboard and rank() == 0:
            recorder.subscribe(TensorBoard(self.folder.path / "tensorboard").on_record)

        def restore(optimiser: Optimizer) -> None:
            if state is not None:
                optimiser.load_state_dict(state)

        with self.folder.signals() as signals:
            extra = policy.observers(self.source, config) if policy.observers else []
            observers = [recorder, *extra, Saver(self.folder, signals, every=config.save_every)]
            plan = replace(plan_of(config, method), progress=lambda words: policy.progress(f"warning: {words}"))
            fit(method, loader, plan, self.hardware, observers, start=done, restore=restore)


def run_training(request: TrainRequest, out: Path, policy: RunPolicy | None = None) -> dict[str, Any]:
    """Train as requested into the folder ``out``.

    Args:
        request: the request.
        out: the run's folder.
        policy: how the run is carried out; None: the defaults.

    Returns:
        What ``--json`` prints.

    Raises:
        SelfsightError: training failed; STATUS.json contains the reason, and completed steps are saved.
        DataError: there are fewer than two images.
        UsageError: the run is to be both continued and replaced.
    """
    policy = policy or RunPolicy()
    if policy.resume and policy.overwrite:
        raise UsageError("--resume continues a run, and --overwrite replaces it.", "Use one of them.")
    hardware = choose_hardware(request.device, request.precision, compile=request.compile)
    folder = RunFolder(out)
    held = folder.held(resume=policy.resume, overwrite=policy.overwrite, take_over=policy.take_over)
    with processes(hardware.device), scan_once(), held:
        saved = TrainConfig.read(folder.path / "config.json") if policy.resume and folder.exists else None
        size = request.size or (saved.size if saved else resolve_size(request, hardware, policy.progress))
        source = open_source(request.data, limit=request.limit, seed=request.seed, size=size, replace_unreadable=True)
        if len(source) < 2:
            raise DataError(f"{request.data} has {len(source)} image(s).", "Training needs 2 or more.")
        if saved is None:
            config = resolve_config(request, source, size, hardware, policy.progress)
        else:
            same = (request.data, request.limit, request.seed) == (saved.data, saved.limit, saved.seed)  # else the options differ
            changed = same and check_data(folder.path, saved, source, accept=policy.accept_data, progress=policy.progress)
            config = resolve_config(_completed(request, saved, size, changed), source, size, hardware, no_progress)
        return _Job(config, source, folder, hardware, request.workers, policy).carry_out()


def _completed(request: TrainRequest, saved: TrainConfig, size: int, changed: bool) -> TrainRequest:  # noqa: FBT001
    """The request for a run that is continued: open options are those of the saved configuration, and so is the duration for changed data."""
    open_duration = changed or (request.steps is None and request.epochs is None)
    return replace(
        request,
        size=size,
        backbone=request.backbone or saved.backbone,
        batch=request.batch or saved.batch,
        steps=saved.steps if open_duration else request.steps,
        epochs=None if changed else request.epochs,
        minutes=None,
    )


def continue_run(path: Path, out: Path | None = None, policy: RunPolicy | None = None, **more: Unpack[RepeatOptions]) -> dict[str, Any]:
    """Repeat the run in a folder with its own configuration, or continue it with ``policy.resume``.

    Args:
        path: the run's folder.
        out: folder of the new run; None: the same folder.
        policy: how the run is carried out; None: the defaults.
        more: fields of ``TrainRequest`` that replace those of the configuration.

    Returns:
        What ``--json`` prints.
    """
    RunFolder(path).read("config.json")
    saved = TrainConfig.read(path / "config.json")
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
    values = {name: getattr(saved, name) for name in names}
    request = TrainRequest(**values, options=dict(saved.options), training=asdict(saved.training))
    return run_training(replace(request, **more), out or path, policy)


def _status_of(error: SelfsightError) -> str:
    statuses: dict[type[SelfsightError], str] = {
        Preempted: "preempted",
        Interrupted: "preempted",
        Diverged: "diverged",
        Collapsed: "collapsed",
    }
    return statuses.get(type(error), "failed")


def _initialise(method: Method, spec: str, size: int) -> None:
    """Load weights into the backbone and every momentum copy of it; position tables of timm models are resampled to the size of the images."""
    weights = load_representation(spec, size=size).backbone.state_dict()
    current = method.backbone.state_dict()
    if weights.keys() != current.keys() or any(weights[name].shape != current[name].shape for name in current):
        raise UsageError(f"The weights of {spec} do not fit this backbone.", "Use the --backbone and --size that they were trained with.")
    method.backbone.load_state_dict(weights)
    for module in method.modules():
        followers, leader = getattr(module, "followers", ()), getattr(module, "leader", None)
        for follower, link in zip(followers, leader.links if leader else (), strict=True):
            follower.load_state_dict(deepcopy(link.state_dict()))


def _list_bad(folder: RunFolder, source: Source, progress: ProgressCallback) -> None:
    if not source.bad or rank():
        return
    table = io.StringIO()
    write_csv(table, ("name", "reason"), source.bad)
    write_atomically(folder.path / "bad_files.csv", table.getvalue())
    progress(f"{len(source.bad)} of {len(source)} files could not be read and were replaced; bad_files.csv lists them")


def _card(path: Path, config: TrainConfig, method: Method, source: Source) -> None:
    """Write ``export/config.json``, the metadata of the backbone in timm's layout; from the start, so that a running run can be analysed."""
    if rank():
        return
    backbone, normalise = method.backbone, getattr(method.recipe, "normalise", None)
    card = {
        "architecture": config.backbone,
        "num_classes": 0,
        "num_features": backbone.dim,
        "pretrained_cfg": {
            "input_size": [backbone.channels, config.size, config.size],
            "mean": list(normalise.mean) if normalise else [0.0] * backbone.channels,
            "std": list(normalise.std) if normalise else [1.0] * backbone.channels,
            "num_classes": 0,
        },
        "selfsight": {"method": config.method, "data": source.fingerprint, "images": len(source), "steps": config.steps},
    }
    (path / "export").mkdir(exist_ok=True)
    write_atomically(path / "export" / "config.json", json_text(card, indent=1) + "\n")


def _export(path: Path, method: Method) -> None:
    """Write the weights of the backbone, ``export/model.safetensors``."""
    if not rank():
        write_weights(method.backbone.state_dict(), path / "export" / "model.safetensors", {"format": "pt"})


def _summary(path: Path, config: TrainConfig, method: Method, status: str, seconds: float, steps: int) -> dict[str, Any]:
    images = steps * config.batch
    return {
        "run": str(path),
        "status": status,
        "seconds": round(seconds, 2),
        "images": images,
        "views_per_second": round(images * _views(config, method) / max(seconds, 1e-9), 1),
    }


def _views(config: TrainConfig, method: Method) -> int:
    """Number of views per image, counted on blank images."""
    blank = torch.zeros(2, 3, config.size, config.size, dtype=torch.uint8)
    made = method.recipe.make(Images(blank, torch.arange(2)), method.recipe.draw(2, Clock(), frame_of(config, method.cpu())))
    return len(made.large) + len(made.small)
