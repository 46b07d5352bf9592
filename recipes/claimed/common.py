"""Shared by all claims: short runs, their scores and figures."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from selfsight.api import Run
from selfsight.core.representation import Representation
from selfsight.data.loader import load_images
from selfsight.data.opening import open_source
from selfsight.data.views.image.geometry import central_square
from selfsight.engine.checkpoint import load_checkpoint, newest_checkpoint
from selfsight.measure.results import Features
from selfsight.workflows.train.config import TrainConfig, build, world_options
from selfsight.workflows.train.request import TrainRequest
from selfsight.workflows.train.run import RunPolicy, run_training

TRAIN, TEST = "world:shapes?count=4000&size=32&split=train", "world:shapes?count=2000&size=32&split=test"
SEED = 0
BLUE, RED = "#4c72b0", "#c44e52"


@dataclass(frozen=True)
class ClaimResult:
    """Result of a test: numbers by name, whether the criterion is met, and a drawing function or a finished PNG.

    ``tall``: height of the figure relative to the default.
    """

    measured: dict[str, Any]
    holds: bool
    draw: Callable[[Any], None] | None = None
    png: bytes = b""
    tall: float = 1.0


@dataclass(frozen=True)
class Claim:
    """A claim with its criterion and its test.

    ``wide``: number of panels side by side. ``failed``: known reasons if it does not hold. ``before``: earlier tests and their results, if the
    criterion or the test was changed.
    """

    title: str
    criterion: str
    test: Callable[[Path], ClaimResult]
    wide: int = 1
    failed: str = ""
    before: str = ""


def quiet(words: str) -> None:
    """Ignore a message."""


def learn(folder: Path, method: str, steps: int, *, data: str = TRAIN, **options: Any) -> tuple[Run, dict[str, Any]]:
    """A short run with the method's preset for small images, and its status with the reason."""
    given = (world_options(method) if data == TRAIN else {}) | options
    wished = {name: given.pop(name) for name in ("batch", "backbone", "limit", "training") if name in given}
    wishes = TrainRequest(data=data, method=method, size=32, steps=steps, seed=SEED, options=given, device="cpu", **wished)
    run_training(wishes, folder, RunPolicy(progress=quiet))
    return Run(folder), json.loads((folder / "STATUS.json").read_text())


def top1(run: Run, train: str = TRAIN, test: str = TEST) -> float:
    """k-NN, in percent."""
    return 100 * run.measure(train=train, test=test, probes=["knn"], baselines=False).scores["knn"]["top1"].value


def records(run: Run, name: str) -> list[tuple[int, float]]:
    """One column of the run's records."""
    lines = (json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines())
    return [(line["step"], line[name]) for line in lines if name in line]


def method_of(run: Run) -> Any:
    """The method after training, including heads and tables."""
    settings = TrainConfig.from_json(json.loads((run.path / "config.json").read_text()))
    method = build(settings)
    checkpoint = newest_checkpoint(run.path / "checkpoints", quiet)
    assert checkpoint is not None
    load_checkpoint(checkpoint, method)
    return method.eval()


Says = Callable[[torch.Tensor, str], torch.Tensor]


def layers_told(phi: Representation, probe: Callable[[Features], Any], data: tuple[str, str], says: Says) -> dict[str, float]:
    """Top-1 accuracy of a probe of each layer, in percent."""
    parts = []
    for name in data:
        source = open_source(name, size=32, limit=4000, seed=SEED)
        rows = [np.arange(len(source))[start : start + 500] for start in range(0, len(source), 500)]
        shown = [central_square(load_images(source, part), 32) for part in rows]
        truth = source.truth(np.arange(len(source))).labels
        with torch.no_grad():
            parts.append(({layer: torch.cat([says(part, layer) for part in shown]).numpy() for layer in phi.layers}, truth))
    (fitted, fitted_labels), (judged, judged_labels) = parts
    features = {layer: Features(fitted[layer], judged[layer], fitted_labels, judged_labels) for layer in fitted}
    return {layer: 100 * probe(each).values["top1"].value for layer, each in features.items()}


def bars(title: str, values: dict[str, float], marked: set[str], unit: str) -> Callable[[Any], None]:
    """A bar per name; marked ones in another colour."""

    def draw(axes: Any) -> None:
        names = list(values)[::-1]
        axes.barh(names, [values[name] for name in names], color=[RED if name in marked else BLUE for name in names])
        axes.set_xlabel(unit)
        axes.set_title(title, loc="left", fontsize=11)
        for place, name in enumerate(names):
            axes.annotate(f"{values[name]:.1f}", (values[name], place), (4, 0), textcoords="offset points", va="center", fontsize=9)
        plain(axes)
        axes.margins(x=0.12)

    return draw


def curves(
    title: str, points: dict[str, list[tuple[Any, float]]], across: str, up: str, dashed: frozenset[str] = frozenset()
) -> Callable[[Any], None]:
    """A line per name."""

    def draw(axes: Any) -> None:
        for name, line in points.items():
            axes.plot(*zip(*line, strict=True), label=name, linestyle="--" if name in dashed else "-", marker="o" if len(line) < 12 else "")
        axes.set_xlabel(across)
        axes.set_ylabel(up)
        axes.set_title(title, loc="left", fontsize=11)
        axes.legend(fontsize=9, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
        plain(axes)

    return draw


def plain(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
