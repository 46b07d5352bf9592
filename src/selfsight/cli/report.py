"""``selfsight report``."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from selfsight.cli.options import DeviceArg, emit, parse

__all__ = ["run"]


@dataclass(frozen=True)
class ReportOptions:
    """What to report on."""

    run: tyro.conf.Positional[Annotated[str, tyro.conf.arg(help="a run's folder")]]
    data: Annotated[str | None, tyro.conf.arg(help="the data set whose pictures are shown; by default what was learnt from")] = None
    device: DeviceArg = "auto"
    json: Annotated[bool, tyro.conf.arg(help="print one JSON object on standard output")] = False


def run(arguments: list[str]) -> int:
    """Write the report; return the exit code."""
    read = parse(ReportOptions, arguments, "report", "Write one page about a run: report/index.html.")
    from selfsight.api import Run

    page = Run(read.run, device=read.device).report(read.data)
    if read.json:
        emit({"report": str(page)})
    else:
        print(page)
    return 0
