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
    """How to show it."""

    minutes: Annotated[float, tyro.conf.arg(help="of learning")] = 2.0
    method: Annotated[str, tyro.conf.arg(help="how to learn; selfsight methods lists them")] = "simclr"
    out: Annotated[Path, tyro.conf.arg(help="the run's folder; replaced each time")] = Path("runs/demo")
    json: Annotated[bool, tyro.conf.arg(help="print one JSON object on standard output")] = False


def run(arguments: list[str]) -> int:
    """Render a world, learn, measure, report; return the exit code."""
    read = parse(DemoOptions, arguments, "demo", "Everything once: render scenes, learn, measure beside the floors, report.")
    from selfsight.api import Run
    from selfsight.workflows.evaluate.tables import score_table
    from selfsight.workflows.train.config import world_options
    from selfsight.workflows.train.request import TrainRequest
    from selfsight.workflows.train.run import RunPolicy, log, run_training

    started = time.perf_counter()
    log("rendering 12,000 scenes of ten shapes; the shape is what a representation should find, and no label says so")
    wishes = TrainRequest(data=TRAIN, method=read.method, size=32, minutes=read.minutes, options=world_options(read.method))
    summary = run_training(wishes, read.out, RunPolicy(overwrite=True))
    learnt = Run(read.out)
    found = learnt.measure(train=TRAIN, test=TEST, progress=log)
    page = learnt.report(TEST).resolve()
    plain = found.to_json()
    if read.json:
        emit(summary | {"scores": plain["scores"], "floors": plain["floors"], "report": str(page)})
    else:
        score_table(plain)
        sys.stdout.write(f"\nreport: {page}\nexplore it: selfsight explore {read.out} --data '{TEST}'\n")
    log(f"{time.perf_counter() - started:.0f} s in all")
    return 0
