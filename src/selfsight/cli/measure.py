"""``selfsight measure``."""

import sys
from dataclasses import dataclass
from typing import Annotated

import tyro

from selfsight.cli.options import DeviceArg, emit, parse

__all__ = ["run"]


@dataclass(frozen=True)
class Measure:
    """What to measure."""

    run: tyro.conf.Positional[Annotated[str, tyro.conf.arg(help="a run's folder, or timm:NAME")]]
    train: Annotated[str, tyro.conf.arg(help="the data set that probes are fitted on")]
    test: Annotated[str, tyro.conf.arg(help="the data set that they are scored on")]
    probes: Annotated[str, tyro.conf.arg(help="names with commas between, or all")] = "all"
    limit: Annotated[int | None, tyro.conf.arg(help="at most so many training pictures, drawn by the seed")] = None
    seed: Annotated[int, tyro.conf.arg(help="of that draw")] = 0
    size: Annotated[int | None, tyro.conf.arg(help="side of the pictures in pixels, for timm:")] = None
    floors: Annotated[bool, tyro.conf.arg(help="measure the untrained network and raw pixels too")] = True
    device: DeviceArg = "auto"
    json: Annotated[bool, tyro.conf.arg(help="print one JSON object on standard output")] = False


def run(arguments: list[str]) -> int:
    """Measure; return the exit code."""
    read = parse(Measure, arguments, "measure", "Score a representation beside its floors: raw pixels, and the same network untrained.")
    from selfsight.api import Run
    from selfsight.report.tables import score_table

    found = Run(read.run, size=read.size, device=read.device).measure(
        train=read.train,
        test=read.test,
        probes=read.probes.split(","),
        floors=read.floors,
        limit=read.limit,
        seed=read.seed,
        say=lambda words: sys.stderr.write(f"{words}\n"),
    )
    plain = found.to_plain()
    if read.json:
        emit({name: plain[name] for name in ("scores", "floors", "protocol")})
    else:
        score_table(plain)
    return 0
