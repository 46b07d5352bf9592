"""``selfsight learn``."""

import os
import sys
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import tyro

from selfsight.backbones.table import current_backbone
from selfsight.cli.options import current_options, emit, method_options, with_positional
from selfsight.core.errors import UsageError
from selfsight.workflows.train.request import TrainRequest

__all__ = ["run"]

EXTRA: dict[str, tuple[Any, Any, str]] = {
    "out": (Path | None, None, "the run's folder; runs/METHOD by default"),
    "repeat": (Path | None, None, "repeat the run in this folder with its own configuration (with --resume: continue it)"),
    "resume": (bool, False, "continue the run in the folder, or start one if there is none"),
    "overwrite": (bool, False, "replace the run in the folder; anything else is refused"),
    "accept_data": (bool, False, "with --resume: continue although the data have changed, where the method can"),
    "take_over": (bool, False, "replace the lock of a process that has ended but cannot be checked from here, such as on another host"),
    "fail_on_collapse": (bool, False, "exit with code 4 if the representation collapses"),
    "tensorboard": (bool, False, "also write TensorBoard logs (extra: track)"),
    "sample": (str | None, None, "a labelled data set for k-NN during training"),
    "report": (bool, True, "write the report at the end"),
    "json": (bool, False, "print one JSON object on standard output"),
}
WORDS = """Train a representation of images without labels. Omitted options are chosen from the data and the machine, and reported.

DATA: a folder, a .tar or .parquet file, shards by glob, digits, photo:astronaut, torchvision:CIFAR10, hf:owner/name, world:shapes?preset=learnable."""


def run(arguments: list[str]) -> int:
    """Train; returns the exit code."""
    arguments = current_options(arguments, "learn")
    kind = with_positional(TrainRequest, "data", EXTRA, optional=True)
    helping = any(word in ("-h", "--help") for word in arguments)
    named = _option(arguments, "--method")
    if helping and named:
        return _method_help(named)
    if (present := current_backbone(_option(arguments, "--backbone"))) != _option(arguments, "--backbone"):
        _say(f"warning: the backbone is now called {present}; the old name will be removed in the next release")
    options, rest = tyro.cli(kind, prog="selfsight learn", description=WORDS, args=arguments, return_unknown_args=True)
    if options.data is None and options.repeat is None:
        raise UsageError("There is nothing to learn from.", "Name a data set: selfsight learn my_photos/")
    from selfsight.data.opening import scan_once

    with scan_once():
        summary = _learn(options, list(rest))
        if int(os.environ.get("RANK", "0")) > 0:  # the first of several processes reports
            return 0
        if options.report and summary["images"]:
            _report(summary)
        else:
            _run(summary)
    if options.json:
        emit(summary)
    return 0


def _option(arguments: list[str], option: str) -> str | None:
    """The typed value of an option; ``None`` if it was not typed."""
    for word, following in pairwise([*arguments, ""]):
        if word == option:
            return following
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
    return None


def _method_help(name: str) -> int:
    from selfsight.methods.table import method_class
    from selfsight.workflows.train.config import resolve_options

    _, options, training = resolve_options(name, size=32)
    sys.stdout.write("Defaults for small images are shown; above 96 px those of the paper apply.\n")
    method_options(method_class(name), options, training, ["--help"])
    return 0


def _learn(options: Any, method_arguments: list[str]) -> dict[str, Any]:
    from selfsight.workflows.train.run import RunPolicy, continue_run, run_training

    policy = RunPolicy(
        options.resume, options.overwrite, options.fail_on_collapse, options.tensorboard, observers=_observers(options),
        accept_data=options.accept_data, take_over=options.take_over,
    )  # fmt: skip
    if options.repeat is not None:
        if method_arguments:
            raise UsageError(f"--repeat does not accept options of the method: {' '.join(method_arguments)}.", "Start a new run for these.")
        return continue_run(options.repeat, options.out, policy, device=options.device, workers=options.workers, compile=options.compile)
    requested = {item.name: getattr(options, item.name) for item in fields(TrainRequest) if hasattr(options, item.name)}
    if method_arguments:
        requested |= dict(zip(("options", "training"), _method_options(options, method_arguments), strict=True))
    return run_training(TrainRequest(**requested), options.out or Path("runs") / options.method, policy)


def _method_options(options_read: Any, arguments: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parse the options of the method, which are the arguments that the verb does not know."""
    from selfsight.core.progress import no_progress
    from selfsight.engine.hardware import choose_hardware
    from selfsight.methods.table import method_class
    from selfsight.workflows.train.config import resolve_options
    from selfsight.workflows.train.resolve import resolve_size

    request = TrainRequest(data=options_read.data, method=options_read.method, size=options_read.size or _saved_size(options_read))
    size = resolve_size(request, choose_hardware(options_read.device, options_read.precision), no_progress)
    _, options, training = resolve_options(options_read.method, size=size)
    return method_options(method_class(options_read.method), options, training, arguments)


def _saved_size(options: Any) -> int | None:
    """The image size of the run that is resumed, if there is one."""
    file = (options.out or Path("runs") / options.method) / "config.json"
    if not (options.resume and file.is_file()):
        return None
    from selfsight.workflows.train.config import TrainConfig

    return TrainConfig.read(file).size


def _observers(options: Any) -> Any:
    if options.sample is None:
        return None
    from selfsight.data.opening import open_source
    from selfsight.measure.probes.online import OnlineKnn

    def make(source: object, config: Any) -> list[Any]:  # noqa: ARG001
        sample = open_source(options.sample, size=config.size)
        every = max(config.steps // 10, 1)
        return [OnlineKnn(sample, size=config.size, every=every, report=lambda step, top1: _say(f"step {step + 1}: k-NN {top1:.3f}"))]

    return make


def _report(summary: dict[str, Any]) -> None:
    from selfsight.api import Run

    _say(f"report: {Run(summary['run']).report()}")
    _run(summary)


def _run(summary: dict[str, Any]) -> None:
    _say(f"run:    {summary['run']} ({summary['status']}, {summary['seconds']:.0f} s, {summary['views_per_second']:,.0f} views/s)")


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
