"""``selfsight demo``."""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from selfsight.cli.options import emit, parse

__all__ = ["run"]

TRAIN = "world:shapes?count=10000&size=32&split=train"
TEST = "world:shapes?count=2000&size=32&split=test"


@dataclass(frozen=True)
class DemoOptions:
    """Options of ``demo``."""

    minutes: Annotated[float, tyro.conf.arg(help="duration of training")] = 2.0
    method: Annotated[str, tyro.conf.arg(help="method; selfsight methods lists them")] = "simclr"
    out: Annotated[Path, tyro.conf.arg(help="the run's folder; it is replaced")] = Path("runs/demo")
    json: Annotated[bool, tyro.conf.arg(help="print one JSON object on standard output")] = False


def run(arguments: list[str]) -> int:
    """Render a synthetic data set, train, evaluate and report; returns the exit code."""
    options = parse(DemoOptions, arguments, "demo", "Render scenes, train, evaluate with baselines, and write a report.")
    from selfsight.api import Run
    from selfsight.workflows.evaluate.tables import score_table
    from selfsight.workflows.train.config import world_options
    from selfsight.workflows.train.request import TrainRequest
    from selfsight.workflows.train.run import RunPolicy, log, run_training

    started = time.perf_counter()
    log("rendering 12,000 scenes of ten shapes; a good representation separates the shapes without their labels")
    request = TrainRequest(data=TRAIN, method=options.method, size=32, minutes=options.minutes, options=world_options(options.method))
    summary = run_training(request, options.out, RunPolicy(overwrite=True))
    trained = Run(options.out)
    result = trained.measure(train=TRAIN, test=TEST, progress=log)
    page = trained.report(TEST).resolve()
    content = result.to_json()
    if options.json:
        emit(summary | {"scores": content["scores"], "floors": content["floors"], "report": str(page)})
    else:
        score_table(content)
        sys.stdout.write(f"\nreport: {page}\nexplore it: selfsight explore {options.out} --data '{TEST}'\n")
    log(f"{time.perf_counter() - started:.0f} s in total")
    return 0
