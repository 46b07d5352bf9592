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
    """Options of ``doctor``."""

    models: Annotated[bool, tyro.conf.arg(help="parameters, multiply-adds and measured images/s of the backbones")] = False
    names: Annotated[str, tyro.conf.arg(help="backbones for --models, separated by commas; also timm:NAME")] = ""
    size: Annotated[int, tyro.conf.arg(help="side of the images in pixels, for --models")] = 224
    trial: Annotated[bool, tyro.conf.arg(help="train for a few steps to estimate how long a run takes")] = True
    json: Annotated[bool, tyro.conf.arg(help="print one JSON object on standard output")] = False


def run(arguments: list[str]) -> int:
    """Inspect the machine; returns the exit code."""
    options = parse(DoctorOptions, arguments, "doctor", "Show what this machine can do, and how long a run would take.")
    result: dict[str, Any] = {"models": _models(options)} if options.models else _machine() | ({"trial": _trial()} if options.trial else {})
    if options.json:
        emit(result)
    elif options.models:
        _show_models(result["models"], options.size)
    else:
        _show(result)
    return 0


def _machine() -> dict[str, Any]:
    import torch

    from selfsight.core.cache import cache_folder
    from selfsight.core.files import nearest_existing
    from selfsight.core.origin import origin
    from selfsight.engine.hardware import choose_hardware

    hardware, versions = choose_hardware(), origin()
    cache = cache_folder()
    existing = nearest_existing(cache)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "selfsight": versions["selfsight"],
        "python": versions["python"],
        "torch": versions["torch"],
        "processor": versions["processor"],
        "cores": versions["cores"],
        "memory_gib": round(memory, 1),
        "device": torch.cuda.get_device_name() if hardware.device.type == "cuda" else hardware.device.type,
        "precision": hardware.precision,
        "cache": str(cache),
        "cache_writable": existing.is_dir() and os.access(existing, os.W_OK),
        "disk_free_gib": round(shutil.disk_usage(existing).free / 2**30, 1),
        "extras": {extra: find_spec(package) is not None for package, extra in EXTRAS.items()},
    }


def _trial() -> dict[str, Any]:
    """Training speed of SimCLR on rendered scenes, from a few steps."""
    from selfsight.data.opening import open_source
    from selfsight.engine.hardware import choose_hardware
    from selfsight.workflows.train.config import TrainConfig, resolve_options
    from selfsight.workflows.train.resolve import trial

    rates: dict[str, Any] = {}
    for size in (32, 64):
        preset, options, training = resolve_options("simclr", size=size)
        source = open_source("world:shapes?count=512", size=size)
        config = TrainConfig(
            data=source.spec,
            method="simclr",
            backbone=preset.backbone,
            size=size,
            batch=preset.batch,
            steps=6,
            options=options,
            training=training,
        )
        seconds = trial(config, source, choose_hardware())
        rate = preset.batch / seconds
        rates[f"simclr {preset.backbone} {size} px"] = {
            "images_per_second": round(rate, 1),
            "minutes_for_100_epochs_of_10000_images": round(1e6 / rate / 60, 1),
        }
    return rates


def _models(options: DoctorOptions) -> list[dict[str, Any]]:
    from selfsight.backbones.profile import profile
    from selfsight.backbones.table import BACKBONES, build_backbone
    from selfsight.engine.hardware import choose_hardware

    hardware = choose_hardware()
    rows = []
    for name in options.names.split(",") if options.names else BACKBONES:
        sys.stderr.write(f"{name}\n")
        backbone = build_backbone(name, size=options.size).to(hardware.device)
        profiled = profile(backbone, options.size, batch=32 if options.size <= 64 else 8, bf16=hardware.precision == "bf16")
        rows.append({"name": name, "layers": len(backbone.layers), "dim": backbone.dim} | asdict(profiled))
    return rows


def _show(result: dict[str, Any]) -> None:
    for name, value in result.items():
        if name == "extras":
            text = ", ".join(f"{extra} {'yes' if installed else 'no'}" for extra, installed in value.items())
            print(f"{'extras':<16}{text}  (pip install 'selfsight[NAME]')")
        elif name == "trial":
            for label, rate in value.items():
                minutes = rate["minutes_for_100_epochs_of_10000_images"]
                print(
                    f"{'trial':<16}{label}: {rate['images_per_second']:,.0f} images/s; 100 epochs of 10,000 images take {minutes:,.0f} minutes"
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
