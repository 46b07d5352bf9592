"""A complete SimCLR training step compared with the network alone, and with lightly's documented loop.

    python benchmarks/step.py            # compares with lightly if installed (pip install lightly)

Limit: the step cannot be faster than forward and backward of the network on the same batch of two views; the ratio shows the overhead of
views, loss and optimiser. All are measured alternately in one process.
"""

import argparse
import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from selfsight.backbones.table import build_backbone
from selfsight.core.origin import origin
from selfsight.data.loader import Loader
from selfsight.data.opening import open_source
from selfsight.engine.hardware import Hardware, choose_hardware
from selfsight.engine.plan import turns_of
from selfsight.workflows.train.config import TrainConfig, build, plan_of, resolve_options

SIZE, BATCH = 32, 256
RESULTS = Path(__file__).parent / "results" / "step.json"


def ours(hardware: Hardware, backbone: str) -> Callable[[], None]:
    """One step of the engine: batch, views, forward, backward, optimiser, parts."""
    _, options, training = resolve_options("simclr", size=SIZE)
    settings = TrainConfig("world", "simclr", backbone, SIZE, BATCH, 10_000, options=options, training=training)
    source = open_source("world:shapes?count=5120&size=32")
    source.read(np.arange(len(source)))  # rendered before, as for lightly
    method, loader = build(settings), Loader(source, batch=BATCH, seed=0)
    plan, placed = plan_of(settings, method), hardware.place(method)
    optimiser = plan.optimiser(method)
    method.train()
    walk = plan.iter_batches(loader, hardware)

    def step() -> None:
        clock, batch = next(walk)
        plan.step(method, placed, optimiser, plan.views(method, batch, clock, hardware), turns_of(method)[0], clock, hardware)

    return step


def bare(hardware: Hardware, backbone: str) -> Callable[[], None]:
    """Forward and backward of the network alone, for the same two views."""
    network = build_backbone(backbone, size=SIZE).to(hardware.device).to(memory_format=torch.channels_last).train()
    views = [hardware.layout(torch.randn(BATCH, 3, SIZE, SIZE, device=hardware.device)) for _ in range(2)]

    def step() -> None:
        network.zero_grad(set_to_none=True)
        with hardware.autocast():
            pooled = [network(view).pooled for view in views]
        sum(rows.float().mean() for rows in pooled).backward()

    return step


def lightly_loop(backbone: str, *, tuned: bool) -> Callable[[], None]:
    """The loop of lightly's SimCLR example (its transform image by image, its loss and head); tuned: bfloat16, channels_last, workers."""
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead
    from lightly.transforms import SimCLRTransform
    from PIL import Image

    source = open_source("world:shapes?count=5120&size=32")
    pictures = source.read(np.arange(len(source))).images.transpose(0, 2, 3, 1)
    transform = SimCLRTransform(input_size=SIZE, gaussian_blur=0.0)

    class Pictures(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(pictures)

        def __getitem__(self, row: int) -> list[torch.Tensor]:
            return transform(Image.fromarray(pictures[row]))

    loader = torch.utils.data.DataLoader(Pictures(), batch_size=BATCH, shuffle=True, drop_last=True, num_workers=2 if tuned else 0)
    network = build_backbone(backbone, size=SIZE).train()
    head, criterion = SimCLRProjectionHead(network.dim, 512, 128), NTXentLoss(temperature=0.2)
    if tuned:
        network.to(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD([*network.parameters(), *head.parameters()], lr=0.06)

    def forever():
        while True:
            yield from loader

    batches = forever()

    def step() -> None:
        left, right = next(batches)
        if tuned:
            left, right = (view.contiguous(memory_format=torch.channels_last) for view in (left, right))
        with torch.autocast("cpu", torch.bfloat16, enabled=tuned):
            rows = [head(network(view).pooled) for view in (left, right)]
        loss = criterion(rows[0].float(), rows[1].float())
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()

    return step


def in_turns(contenders: dict[str, Callable[[], None]], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds per step of each, measured alternately so that noise affects all equally."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 2):
        for name, step in contenders.items():
            started = time.perf_counter()
            step()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if number >= 2:
                times[name].append(time.perf_counter() - started)
    return times


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--backbone", default="resnet_tiny")
    parser.add_argument("--json", type=Path, default=RESULTS)
    read = parser.parse_args()
    hardware = choose_hardware()
    contenders: dict[str, Callable[[], None]] = {"bare network": bare(hardware, read.backbone), "selfsight": ours(hardware, read.backbone)}
    if importlib.util.find_spec("lightly"):
        contenders["lightly, as documented"] = lightly_loop(read.backbone, tuned=False)
        contenders["lightly, tuned"] = lightly_loop(read.backbone, tuned=True)
    else:
        print("lightly is not installed and is omitted: pip install lightly", file=sys.stderr)
    times = in_turns(contenders, read.rounds, hardware.device)
    medians = {name: statistics.median(values) for name, values in times.items()}
    result = {
        "machine": origin()["processor"],
        "device": str(hardware.device),
        "precision": hardware.precision,
        "backbone": read.backbone,
        "batch": BATCH,
        "size": SIZE,
        "milliseconds": {name: round(1000 * value, 1) for name, value in medians.items()},
        "of the bare network's speed": round(medians["bare network"] / medians["selfsight"], 3),
        "times faster than": {name: round(value / medians["selfsight"], 2) for name, value in medians.items() if "lightly" in name},
    }
    read.json.parent.mkdir(exist_ok=True)
    read.json.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
