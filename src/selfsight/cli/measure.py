"""``selfsight measure``."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from selfsight.cli.options import DeviceArg, emit, parse
from selfsight.measure.probes.table import LAYER_PROBES, PROBES
from selfsight.workflows.evaluate.analyses.table import ANALYSES

__all__ = ["run"]

PROBE_WORDS = (
    f"names separated by commas, or all: {', '.join(f'{name} ({entry.summary})' for name, entry in PROBES.items())}. Only by name, as they "
    f"take minutes: {', '.join(f'{name} ({entry.summary})' for name, entry in (*LAYER_PROBES.items(), *ANALYSES.items()))}"
)


@dataclass(frozen=True)
class Measure:
    """Options of ``measure``."""

    runs: tyro.conf.Positional[
        Annotated[
            tuple[str, ...],
            tyro.conf.arg(help="a run's folder, timm:NAME or untrained:NAME; several are compared in one table and one figure"),
        ]
    ]
    train: Annotated[str, tyro.conf.arg(help="the data set on which probes are fitted")]
    test: Annotated[str, tyro.conf.arg(help="the data set on which they are scored")]
    probes: Annotated[str, tyro.conf.arg(help=PROBE_WORDS)] = "all"
    layers: Annotated[
        str | None, tyro.conf.arg(help="names of layers separated by commas, for dissect, equivariance, finetune, similarity, stitching")
    ] = None
    truth: Annotated[str | None, tyro.conf.arg(help="annotations of the test images, such as a folder of masks")] = None
    train_truth: Annotated[str | None, tyro.conf.arg(help="annotations of the training images, for segment and detect")] = None
    limit: Annotated[int | None, tyro.conf.arg(help="use a random subset of the training images of this size")] = None
    seed: Annotated[int, tyro.conf.arg(help="seed of the subset")] = 0
    size: Annotated[int | None, tyro.conf.arg(help="side of the images in pixels, for timm:")] = None
    baselines: Annotated[bool, tyro.conf.arg(help="also score the baselines: the untrained network and raw pixels")] = True
    out: Annotated[
        str | None, tyro.conf.arg(help="folder of comparison.json and comparison.png, for several runs; by default runs/comparison")
    ] = None
    device: DeviceArg = "auto"
    json: Annotated[bool, tyro.conf.arg(help="print one JSON object on standard output")] = False


def run(arguments: list[str]) -> int:
    """Evaluate; returns the exit code."""
    options = parse(
        Measure,
        arguments,
        "measure",
        "Evaluate one or several representations, with baselines: raw pixels, and the same network untrained.",
    )
    from selfsight.core.errors import UsageError

    if not options.runs:
        raise UsageError("There is nothing to measure.", "Name a run: selfsight measure runs/NAME --train … --test …")
    settings: dict[str, Any] = {
        name: getattr(options, name) for name in ("train", "test", "truth", "train_truth", "limit", "seed", "baselines")
    }
    settings["probes"] = options.probes.split(",")
    settings["layers"] = options.layers.split(",") if options.layers else ()
    settings["progress"] = lambda words: sys.stderr.write(f"{words}\n")
    return _one(options, settings) if len(options.runs) == 1 else _several(options, settings)


def _one(options: Measure, settings: dict[str, Any]) -> int:
    from selfsight.api import Run
    from selfsight.core.results import find_result
    from selfsight.workflows.evaluate.tables import score_table

    run = Run(options.runs[0], size=options.size, device=options.device)
    content = run.measure(**settings).to_json()
    if options.json:
        emit({name: content[name] for name in ("scores", "floors", "protocol", "notes")})
        return 0
    score_table(content)
    for name in content["scores"]:
        if name in ANALYSES:
            print(find_result(run.path, f"measures/{name}.png"))
    return 0


def _several(options: Measure, settings: dict[str, Any]) -> int:
    from selfsight.api import compare
    from selfsight.workflows.evaluate.comparison import comparison_table

    folder = Path(options.out or "runs/comparison")
    comparison = compare(options.runs, size=options.size, device=options.device, **settings)
    paths = comparison.save(folder)
    if options.json:
        emit(comparison.to_json())
        return 0
    comparison_table(comparison.to_json())
    for path in paths:
        print(path)
    return 0
