"""``selfsight bank``."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from selfsight.cli.options import DeviceArg, emit, parse

__all__ = ["run"]


@dataclass(frozen=True)
class BankOptions:
    """What to keep."""

    run: tyro.conf.Positional[Annotated[str, tyro.conf.arg(help="a run's folder, or timm:NAME")]]
    data: Annotated[str, tyro.conf.arg(help="the data set")]
    layers: Annotated[str, tyro.conf.arg(help="layers beside the output, with commas between, or all")] = ""
    half: Annotated[bool, tyro.conf.arg(help="keep float16")] = False
    limit: Annotated[int | None, tyro.conf.arg(help="at most so many pictures, drawn by the seed")] = None
    seed: Annotated[int, tyro.conf.arg(help="of that draw")] = 0
    size: Annotated[int | None, tyro.conf.arg(help="side of the pictures in pixels, for timm:")] = None
    device: DeviceArg = "auto"
    json: Annotated[bool, tyro.conf.arg(help="print one JSON object on standard output")] = False


def run(arguments: list[str]) -> int:
    """Make a bank; return the exit code."""
    read = parse(BankOptions, arguments, "bank", "Keep what a representation says of a data set, on disk.")
    from selfsight.api import Run, open

    found = Run(read.run, size=read.size, device=read.device)
    layers = found.phi.layers if read.layers == "all" else tuple(name for name in read.layers.split(",") if name)
    source = open(read.data, limit=read.limit, seed=read.seed, size=found.phi.size)
    bank = found.bank(source, layers=layers, half=read.half)
    shapes = {layer: list(bank.pooled(layer).shape) for layer in bank.layers}
    if read.json:
        emit({"bank": str(bank.path), "images": len(bank), "layers": shapes})
    else:
        print(f"{bank.path}: {len(bank):,} images")
        for layer, shape in shapes.items():
            print(f"  {layer}: {shape[0]} x {shape[1]}")
    return 0
