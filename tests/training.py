"""Short training runs that are interrupted, continued and compared."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from selfsight.engine.checkpoint import _sums
from selfsight.engine.observe import StepEvent
from selfsight.workflows.train.request import TrainRequest
from selfsight.workflows.train.run import RunPolicy, run_training

from small import SIDES, SMALL, small_backbone

STEPS = 13
FOUR_STEPS = ["learn", "world:shapes?count=16&size=16", "--size", "16", "--backbone", "resnet_tiny?width=4", "--batch", "8", "--steps", "4"]
FOUR_STEPS += ["--save-every", "2", "--device", "cpu", "--no-report", "--out"]
"""A command that lacks the folder of the run."""


def request_for(method: str, **more: Any) -> TrainRequest:
    side = SIDES.get(method, 16)
    given = {
        "data": f"world:shapes?count=40&size={side}",
        "size": side,
        "batch": 8,
        "steps": STEPS,
        "save_every": 4,
        "device": "cpu",
        "precision": "fp32",
    }
    return TrainRequest(**given | {"method": method, "backbone": small_backbone(method, side), "options": SMALL.get(method)} | more)


def quiet(words: str) -> None:
    """Ignore a message."""


def newest(run: Path) -> Path:
    """Folder of the last checkpoint."""
    return max((run / "checkpoints").glob("step_*"))


def kept(run: Path) -> dict[str, Any]:
    """Bytes of exported weights, records and the last checkpoint: the method with its momentum copies and queues, and the optimiser."""
    files = [run / "export" / "model.safetensors", run / "metrics.jsonl"]
    files += [newest(run) / name for name in ("method.safetensors", "clock.json")]
    optimiser = plain(torch.load(newest(run) / "optimiser.pt"))  # pickles of equal values need not be equal
    return {str(file.relative_to(run)): file.read_bytes() for file in files} | {"optimiser": optimiser}


def plain(value: Any) -> Any:
    """Nested containers with the bytes of tensors in their place."""
    if isinstance(value, torch.Tensor):
        return value.dtype, tuple(value.shape), value.numpy().tobytes()
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def status(run: Path) -> str:
    return json.loads((run / "STATUS.json").read_text())["status"]


class Breaks:
    """An observer that calls a function after a step."""

    def __init__(self, after: int, act: Callable[[], object]) -> None:
        self.after, self.act = after, act

    def on_step(self, event: StepEvent) -> None:
        if event.clock.step == self.after:
            self.act()


class Outage(Exception):
    """A simulated crash."""


def outage() -> None:
    raise Outage


def broken(asked: TrainRequest, out: Path, after: int) -> None:
    """A run that crashes after a step."""
    policy = RunPolicy(progress=quiet, observers=lambda source, settings: [Breaks(after, outage)])
    with pytest.raises(Outage):
        run_training(asked, out, policy)
    assert status(out) == "failed"


def command(out: Path, method: str = "simclr", *more: str) -> list[str]:
    """A command that trains 60 small steps with a checkpoint after every fifth."""
    words = ["learn", "world:shapes?count=64&size=16", "--method", method, "--backbone", small_backbone(method, 16), "--size", "16"]
    words += ["--batch", "8", "--steps", "60", "--save-every", "5", "--device", "cpu", "--precision", "fp32", "--no-report", "--json"]
    return [*words, "--out", str(out), *more]


def processes(count: int, words: list[str], **more: Any) -> list[subprocess.Popen[str]]:
    """Start a command in several processes that communicate."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = dict(os.environ) | {"OMP_NUM_THREADS": "1", "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    line = [sys.executable, "-m", "selfsight", *words]
    return [subprocess.Popen(line, env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, text=True, **more) for rank in range(count)]


def waited_for(file: Path, seconds: float = 120) -> None:
    """Wait until a file exists."""
    ends = time.monotonic() + seconds
    while not file.is_file():
        assert time.monotonic() < ends, f"no {file.name} within {seconds} s"
        time.sleep(0.02)


def sealed(folder: Path) -> None:
    """Correct checksums, as someone who changed a file on purpose would write them."""
    (folder / "manifest.json").write_text(json.dumps(_sums(folder)))
