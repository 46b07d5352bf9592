"""``selfsight report``."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from selfsight.cli.options import DeviceArg, emit, parse

__all__ = ["run"]


@dataclass(frozen=True)
class ReportOptions:
    """Options of ``report``."""

    run: tyro.conf.Positional[Annotated[str, tyro.conf.arg(help="a run's folder")]]
    data: Annotated[str | None, tyro.conf.arg(help="the data set whose images are shown; by default the training data")] = None
    device: DeviceArg = "auto"
    json: Annotated[bool, tyro.conf.arg(help="print one JSON object on standard output")] = False


def run(arguments: list[str]) -> int:
    """Write the report; returns the exit code."""
    options = parse(ReportOptions, arguments, "report", "Write one page about a run: report/index.html.")
    from selfsight.api import Run

    page = Run(options.run, device=options.device).report(options.data)
    if options.json:
        emit({"report": str(page)})
    else:
        print(page)
    return 0
