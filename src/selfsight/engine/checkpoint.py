"""Checkpoints, written atomically."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch.optim import Optimizer

from selfsight.core.cache import AtomicFolder, digest, write_atomically
from selfsight.core.clock import Clock
from selfsight.core.errors import EnvironmentFault
from selfsight.core.method import Method

__all__ = ["load_checkpoint", "newest_checkpoint", "save_checkpoint", "write_weights"]

SCHEMA = 1


def write_weights(tensors: dict[str, torch.Tensor], path: Path, words: dict[str, str] | None = None) -> None:
    """Write a safetensors file that is readable by all users.

    Args:
        tensors: by name.
        path: path of the file.
        words: metadata.
    """
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path, metadata=words)
    path.chmod(0o644)  # safetensors writes with mode 0600


def _sums(folder: Path) -> dict[str, str]:
    return {
        path.name: digest((path.read_bytes(),), separated=False, length=64)
        for path in sorted(folder.iterdir())
        if path.name != "manifest.json"
    }


def save_checkpoint(folder: Path, method: Method, optimiser: Optimizer, clock: Clock, *, keep: int = 2) -> Path:
    """Write ``step_N`` (after N steps), point ``last.json`` to it, and delete old checkpoints; the folder of the new one.

    Args:
        folder: folder of the checkpoints.
        method: the method.
        optimiser: its optimiser.
        clock: clock of the last step.
        keep: number of checkpoints to keep.

    Raises:
        EnvironmentFault: the disk is full or read-only; earlier checkpoints are unchanged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done = clock.step + 1
    target = folder / f"step_{done:08d}"
    try:
        with AtomicFolder(target) as writing:
            write_weights(method.state_dict(), writing.partial / "method.safetensors")
            torch.save(optimiser.state_dict(), writing.partial / "optimiser.pt")
            (writing.partial / "clock.json").write_text(json.dumps({"schema": SCHEMA, "done": done, **asdict(clock)}))
            (writing.partial / "manifest.json").write_text(json.dumps(_sums(writing.partial), indent=1))
            writing.commit(flush=True)
        write_atomically(folder / "last.json", json.dumps({"checkpoint": target.name}))
    except Exception as error:  # torch and safetensors raise different errors for a full disk
        free = shutil.disk_usage(folder).free
        raise EnvironmentFault(
            f"The checkpoint of step {done} could not be written: {error}",
            f"{free / 2**20:.0f} MiB are free; free disk space and use --resume.",
        ) from error
    for old in sorted(folder.glob("step_*"))[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def newest_checkpoint(folder: Path, warn: Callable[[str], None]) -> Path | None:
    """The newest checkpoint with correct checksums; None if there is none. Incomplete ones are removed.

    Args:
        folder: folder of the checkpoints.
        warn: called with a message if a newer checkpoint is damaged.
    """
    for stray in folder.glob(".partial-*"):
        shutil.rmtree(stray, ignore_errors=True)
    found = sorted(folder.glob("step_*"), reverse=True)
    for path in found:
        if _intact(path):
            if path != found[0]:
                lost = int(found[0].name.split("_")[1]) - int(path.name.split("_")[1])
                warn(f"{found[0].name} is damaged (wrong checksums); continuing from {path.name}: {lost} steps are repeated")
            return path
    return None


def _intact(path: Path) -> bool:
    """Whether the files of a checkpoint match its manifest."""
    try:
        return json.loads((path / "manifest.json").read_text()) == _sums(path)
    except (OSError, ValueError):  # missing, or not JSON
        return False


def load_checkpoint(path: Path, method: Method) -> tuple[int, dict[str, Any]]:
    """Load a method's state from a checkpoint.

    Args:
        path: path of the checkpoint.
        method: filled in place.

    Returns:
        Number of steps done, and the optimiser's state.

    Raises:
        EnvironmentFault: another version of selfsight wrote the checkpoint.
    """
    method.load_state_dict(load_file(path / "method.safetensors"))
    clock = json.loads((path / "clock.json").read_text())
    if clock["schema"] != SCHEMA:
        raise EnvironmentFault(
            f"{path} was written by another version of selfsight (schema {clock['schema']}, not {SCHEMA}).",
            "Continue the run with that version.",
        )
    return clock["done"], torch.load(path / "optimiser.pt", weights_only=True)
