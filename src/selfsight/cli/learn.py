"""``selfsight learn``."""

import json
import sys
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import tyro

from selfsight.backbones.table import current_backbone
from selfsight.cli.options import emit, method_options, with_positional
from selfsight.core.errors import UsageError
from selfsight.workflows.train.request import TrainRequest

__all__ = ["run"]

EXTRA: dict[str, tuple[Any, Any, str]] = {
    "out": (Path | None, None, "the run's folder; runs/METHOD by default"),
    "again": (Path | None, None, "repeat the run in this folder by its own configuration (with --resume: go on with it)"),
    "resume": (bool, False, "go on with the run in the folder; begin where there is none"),
    "overwrite": (bool, False, "replace the run in the folder"),
    "fail_on_collapse": (bool, False, "end with exit code 4 when the representation collapses"),
    "tensorboard": (bool, False, "write for TensorBoard too (extra: track)"),
    "sample": (str | None, None, "a labelled data set for k-NN while learning"),
    "report": (bool, True, "write the report at the end"),
    "json": (bool, False, "print one JSON object on standard output"),
}
WORDS = """Learn a representation of pictures, without labels. What you leave out is chosen from the data and the machine, and said.

DATA: a folder, a .tar or .parquet file, shards by glob, digits, photo:astronaut, torchvision:CIFAR10, hf:owner/name, world:shapes?preset=learnable."""


def run(arguments: list[str]) -> int:
    """Learn; return the exit code."""
    kind = with_positional(TrainRequest, "data", EXTRA, optional=True)
    helping = any(word in ("-h", "--help") for word in arguments)
    named = _option(arguments, "--method")
    if helping and named:
        return _method_help(named)
    if (present := current_backbone(_option(arguments, "--backbone"))) != _option(arguments, "--backbone"):
        _say(f"warning: the backbone is now called {present}; the old name will be removed in the next release")
    read, rest = tyro.cli(kind, prog="selfsight learn", description=WORDS, args=arguments, return_unknown_args=True)
    if read.data is None and read.again is None:
        raise UsageError("There is nothing to learn from.", "Name a data set: selfsight learn my_photos/")
    from selfsight.data.opening import scan_once

    with scan_once():
        summary = _learn(read, list(rest))
        if read.report and summary["images"]:
            _report(summary)
    if read.json:
        emit(summary)
    return 0


def _option(arguments: list[str], option: str) -> str | None:
    """The value that was typed for an option; ``None`` where it was not."""
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
    sys.stdout.write("Defaults are those for small images; above 96 px the paper's are taken.\n")
    method_options(method_class(name), options, training, ["--help"])
    return 0


def _learn(read: Any, rest: list[str]) -> dict[str, Any]:
    from selfsight.workflows.train.run import RunPolicy, continue_run, run_training

    manner = RunPolicy(read.resume, read.overwrite, read.fail_on_collapse, read.tensorboard, observers=_observers(read))
    if read.again is not None:
        if rest:
            raise UsageError(f"--again takes no options of the method, but came with {' '.join(rest)}.", "Begin a new run for those.")
        return continue_run(read.again, read.out, manner, device=read.device, workers=read.workers, compile=read.compile)
    wishes = {item.name: getattr(read, item.name) for item in fields(TrainRequest) if hasattr(read, item.name)}
    if rest:
        wishes |= dict(zip(("options", "training"), _method_words(read, rest), strict=True))
    return run_training(TrainRequest(**wishes), read.out or Path("runs") / read.method, manner)


def _method_words(read: Any, rest: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The words that the verb does not know are the method's own options."""
    from selfsight.core.progress import no_progress
    from selfsight.engine.hardware import choose_hardware
    from selfsight.methods.table import method_class
    from selfsight.workflows.train.config import resolve_options
    from selfsight.workflows.train.resolve import resolve_size

    request = TrainRequest(data=read.data, method=read.method, size=read.size or _saved_size(read))
    size = resolve_size(request, choose_hardware(read.device, read.precision), no_progress)
    _, options, training = resolve_options(read.method, size=size)
    return method_options(method_class(read.method), options, training, rest)


def _saved_size(read: Any) -> int | None:
    """The size of the run that is resumed, where there is one."""
    file = (read.out or Path("runs") / read.method) / "config.json"
    return int(json.loads(file.read_text())["size"]) if read.resume and file.is_file() else None


def _observers(read: Any) -> Any:
    if read.sample is None:
        return None
    from selfsight.data.opening import open_source
    from selfsight.measure.probes.online import OnlineKnn

    def make(source: object, settings: Any) -> list[Any]:  # noqa: ARG001
        sample = open_source(read.sample, size=settings.size)
        every = max(settings.steps // 10, 1)
        return [OnlineKnn(sample, size=settings.size, every=every, tell=lambda step, top1: _say(f"step {step + 1}: k-NN {top1:.3f}"))]

    return make


def _report(summary: dict[str, Any]) -> None:
    from selfsight.api import Run

    _say(f"report: {Run(summary['run']).report()}")
    _say(f"run:    {summary['run']} ({summary['status']}, {summary['seconds']:.0f} s, {summary['views_per_second']:,.0f} views/s)")


def _say(words: str) -> None:
    sys.stderr.write(f"{words}\n")
