"""``selfsight bank``."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from selfsight.cli.options import DeviceArg, emit, parse

__all__ = ["run"]


@dataclass(frozen=True)
class BankOptions:
    """Options of ``bank``."""

    run: tyro.conf.Positional[Annotated[str, tyro.conf.arg(help="a run's folder, or timm:NAME")]]
    data: Annotated[str, tyro.conf.arg(help="the data set")]
    layers: Annotated[str, tyro.conf.arg(help="layers besides the output, separated by commas, or all")] = ""
    half: Annotated[bool, tyro.conf.arg(help="store float16")] = False
    limit: Annotated[int | None, tyro.conf.arg(help="use a random subset of this size")] = None
    seed: Annotated[int, tyro.conf.arg(help="seed of the subset")] = 0
    size: Annotated[int | None, tyro.conf.arg(help="side of the images in pixels, for timm:")] = None
    device: DeviceArg = "auto"
    json: Annotated[bool, tyro.conf.arg(help="print one JSON object on standard output")] = False


def run(arguments: list[str]) -> int:
    """Extract a bank; returns the exit code."""
    options = parse(BankOptions, arguments, "bank", "Extract features of a data set to disk.")
    from selfsight.api import Run, open

    model = Run(options.run, size=options.size, device=options.device)
    layers = model.phi.layers if options.layers == "all" else tuple(name for name in options.layers.split(",") if name)
    source = open(options.data, limit=options.limit, seed=options.seed, size=model.phi.size)
    bank = model.bank(source, layers=layers, half=options.half)
    shapes = {layer: list(bank.pooled(layer).shape) for layer in bank.layers}
    if options.json:
        emit({"bank": str(bank.path), "images": len(bank), "layers": shapes})
    else:
        print(f"{bank.path}: {len(bank):,} images")
        for layer, shape in shapes.items():
            print(f"  {layer}: {shape[0]} x {shape[1]}")
    return 0
