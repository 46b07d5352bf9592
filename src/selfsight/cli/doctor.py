"""``selfsight doctor``."""

import os
import shutil
import sys
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Annotated, Any

import tyro

from selfsight.cli.options import emit, parse

__all__ = ["run"]

EXTRAS = {
    "faiss": "faiss",
    "datasets": "hub",
    "tensorboard": "track",
    "onnx": "export",
    "pacmap": "map",
    "umap": "map",
    "fiftyone": "fiftyone",
}


@dataclass(frozen=True)
class DoctorOptions:
    """What to look at."""

    models: Annotated[bool, tyro.conf.arg(help="parameters, multiply-adds and measured images/s of the backbones")] = False
    names: Annotated[str, tyro.conf.arg(help="backbones for --models, with commas between; timm:NAME too")] = ""
    size: Annotated[int, tyro.conf.arg(help="side of the images in pixels, for --models")] = 224
    trial: Annotated[bool, tyro.conf.arg(help="train for a few steps to tell how long a run would take")] = True
    json: Annotated[bool, tyro.conf.arg(help="print one JSON object on standard output")] = False


def run(arguments: list[str]) -> int:
    """Look; return the exit code."""
    read = parse(DoctorOptions, arguments, "doctor", "What this machine can do, and how long a run would take.")
    found: dict[str, Any] = {"models": _models(read)} if read.models else _machine() | ({"trial": _trial()} if read.trial else {})
    if read.json:
        emit(found)
    elif read.models:
        _show_models(found["models"], read.size)
    else:
        _show(found)
    return 0


def _machine() -> dict[str, Any]:
    import torch

    from selfsight.core.origin import origin
    from selfsight.data.pack import cache_folder
    from selfsight.engine.hardware import choose_hardware

    hardware, here = choose_hardware(), origin()
    place = cache_folder()
    standing = next(folder for folder in (place, *place.parents) if folder.exists())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "selfsight": here["selfsight"],
        "python": here["python"],
        "torch": here["torch"],
        "processor": here["processor"],
        "cores": here["cores"],
        "memory_gib": round(memory, 1),
        "device": torch.cuda.get_device_name() if hardware.device.type == "cuda" else hardware.device.type,
        "precision": hardware.precision,
        "cache": str(place),
        "cache_writable": os.access(standing, os.W_OK),
        "disk_free_gib": round(shutil.disk_usage(standing).free / 2**30, 1),
        "extras": {extra: find_spec(package) is not None for package, extra in EXTRAS.items()},
    }


def _trial() -> dict[str, Any]:
    """Rates of short trainings with SimCLR on rendered scenes."""
    from selfsight.data.opening import open_source
    from selfsight.engine.hardware import choose_hardware
    from selfsight.workflows.train.config import TrainConfig, resolve_options
    from selfsight.workflows.train.resolve import trial

    rates: dict[str, Any] = {}
    for size in (32, 64):
        preset, options, training = resolve_options("simclr", size=size)
        source = open_source("world:shapes?count=512", size=size)
        settings = TrainConfig(
            data=source.spec,
            method="simclr",
            backbone=preset.backbone,
            size=size,
            batch=preset.batch,
            steps=6,
            options=options,
            training=training,
        )
        seconds = trial(settings, source, choose_hardware())
        rate = preset.batch / seconds
        rates[f"simclr {preset.backbone} {size} px"] = {
            "images_per_second": round(rate, 1),
            "minutes_for_100_epochs_of_10000_images": round(1e6 / rate / 60, 1),
        }
    return rates


def _models(read: DoctorOptions) -> list[dict[str, Any]]:
    from selfsight.backbones.profile import profile
    from selfsight.backbones.table import BACKBONES, build_backbone
    from selfsight.engine.hardware import choose_hardware

    hardware = choose_hardware()
    rows = []
    for name in read.names.split(",") if read.names else BACKBONES:
        sys.stderr.write(f"{name}\n")
        backbone = build_backbone(name, size=read.size).to(hardware.device)
        found = profile(backbone, read.size, batch=32 if read.size <= 64 else 8, bf16=hardware.precision == "bf16")
        rows.append({"name": name, "layers": len(backbone.layers), "dim": backbone.dim} | asdict(found))
    return rows


def _show(found: dict[str, Any]) -> None:
    for name, value in found.items():
        if name == "extras":
            words = ", ".join(f"{extra} {'yes' if there else 'no'}" for extra, there in value.items())
            print(f"{'extras':<16}{words}  (pip install 'selfsight[NAME]')")
        elif name == "trial":
            for what, rate in value.items():
                minutes = rate["minutes_for_100_epochs_of_10000_images"]
                print(
                    f"{'trial':<16}{what}: {rate['images_per_second']:,.0f} images/s; 100 epochs of 10,000 images take {minutes:,.0f} minutes"
                )
        else:
            print(f"{name:<16}{value}")


def _show_models(rows: list[dict[str, Any]], size: int) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("backbone", title=f"backbones at {size} px", title_justify="left")
    for heading in ("named layers", "vector", "parameters", "multiply-adds", "images/s here"):
        table.add_column(heading, justify="right")
    for row in sorted(rows, key=lambda row: row["multiply_adds"]):
        cells = (f"{row['parameters'] / 1e6:.1f} M", f"{row['multiply_adds'] / 1e9:.2f} G", f"{row['images_per_second']:,.0f}")
        table.add_row(row["name"], str(row["layers"]), str(row["dim"]), *cells)
    Console().print(table)
