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
    f"names with commas between, or all: {', '.join(f'{name} ({entry.summary})' for name, entry in PROBES.items())}. Only by name, as they "
    f"take minutes: {', '.join(f'{name} ({entry.summary})' for name, entry in (*LAYER_PROBES.items(), *ANALYSES.items()))}"
)


@dataclass(frozen=True)
class Measure:
    """What to measure."""

    runs: tyro.conf.Positional[
        Annotated[tuple[str, ...], tyro.conf.arg(help="a run's folder, timm:NAME or untrained:NAME; of several one table and one picture")]
    ]
    train: Annotated[str, tyro.conf.arg(help="the data set that probes are fitted on")]
    test: Annotated[str, tyro.conf.arg(help="the data set that they are scored on")]
    probes: Annotated[str, tyro.conf.arg(help=PROBE_WORDS)] = "all"
    layers: Annotated[
        str | None, tyro.conf.arg(help="names of layers with commas between, for dissect, equivariance, finetune, similarity, stitching")
    ] = None
    truth: Annotated[str | None, tyro.conf.arg(help="truth of the test pictures, such as a folder of masks")] = None
    train_truth: Annotated[str | None, tyro.conf.arg(help="the same of the training pictures, for segment and detect")] = None
    limit: Annotated[int | None, tyro.conf.arg(help="at most so many training pictures, drawn by the seed")] = None
    seed: Annotated[int, tyro.conf.arg(help="of that draw")] = 0
    size: Annotated[int | None, tyro.conf.arg(help="side of the pictures in pixels, for timm:")] = None
    floors: Annotated[bool, tyro.conf.arg(help="measure the untrained network and raw pixels too")] = True
    out: Annotated[str | None, tyro.conf.arg(help="folder of comparison.json and .png, for several runs; by default runs/comparison")] = (
        None
    )
    device: DeviceArg = "auto"
    json: Annotated[bool, tyro.conf.arg(help="print one JSON object on standard output")] = False


def run(arguments: list[str]) -> int:
    """Measure; return the exit code."""
    read = parse(
        Measure,
        arguments,
        "measure",
        "Score a representation, or several, beside their floors: raw pixels, and the same network untrained.",
    )
    from selfsight.core.errors import UsageError

    if not read.runs:
        raise UsageError("There is nothing to measure.", "Name a run: selfsight measure runs/NAME --train … --test …")
    how: dict[str, Any] = {name: getattr(read, name) for name in ("train", "test", "truth", "train_truth", "limit", "seed", "floors")}
    how["probes"] = read.probes.split(",")
    how["layers"] = read.layers.split(",") if read.layers else ()
    how["progress"] = lambda words: sys.stderr.write(f"{words}\n")
    return _one(read, how) if len(read.runs) == 1 else _several(read, how)


def _one(read: Measure, how: dict[str, Any]) -> int:
    from selfsight.api import Run
    from selfsight.workflows.evaluate.tables import score_table

    run = Run(read.runs[0], size=read.size, device=read.device)
    plain = run.measure(**how).to_json()
    if read.json:
        emit({name: plain[name] for name in ("scores", "floors", "protocol")})
        return 0
    score_table(plain)
    for name in plain["scores"]:
        if name in ANALYSES:
            print(run.path / "measures" / f"{name}.png")
    return 0


def _several(read: Measure, how: dict[str, Any]) -> int:
    from selfsight.api import compare
    from selfsight.workflows.evaluate.comparison import comparison_table

    folder = Path(read.out or "runs/comparison")
    found = compare(read.runs, size=read.size, device=read.device, **how)
    paths = found.save(folder)
    if read.json:
        emit(found.to_json())
        return 0
    comparison_table(found.to_json())
    for path in paths:
        print(path)
    return 0
