"""Checkpoints, written atomically."""

import pickle
import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch.optim import Optimizer

from selfsight.core.cache import AtomicFolder, digest, flush_to_disk, temporary_prefix, write_atomically
from selfsight.core.clock import Clock
from selfsight.core.errors import DataError, EnvironmentFault, UsageError
from selfsight.core.files import disk_fault, read_json
from selfsight.core.json_text import json_text
from selfsight.core.method import Method
from selfsight.core.weights import fill, read_weights

__all__ = ["load_checkpoint", "newest_checkpoint", "save_checkpoint", "write_weights"]

SCHEMA = 1


def write_weights(tensors: dict[str, torch.Tensor], path: Path, words: dict[str, str] | None = None) -> None:
    """Write a safetensors file that is readable by all users; an earlier file stays until the new one is complete.

    Args:
        tensors: by name.
        path: path of the file.
        words: metadata.

    Raises:
        EnvironmentFault: the disk is full or read-only.
    """
    partial = path.with_name(f"{temporary_prefix()}{path.name}")
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, partial, metadata=words)
        partial.chmod(0o644)  # safetensors writes with mode 0600
        flush_to_disk(partial)
        partial.replace(path)
    except Exception as error:  # safetensors has its own error for a full disk
        raise disk_fault(str(path), path.parent, _bytes(tensors), error) from error
    finally:
        partial.unlink(missing_ok=True)  # only present after a failure


def _bytes(value: Any) -> int:
    """Bytes of all tensors in nested containers."""
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, Mapping):
        return sum(map(_bytes, value.values()))
    return sum(map(_bytes, value)) if isinstance(value, list | tuple) else 0


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
    done = clock.step + 1
    target = folder / f"step_{done:08d}"
    state = optimiser.state_dict()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with AtomicFolder(target) as writing:
            write_weights(method.state_dict(), writing.partial / "method.safetensors")
            torch.save(state, writing.partial / "optimiser.pt")
            (writing.partial / "clock.json").write_text(json_text({"schema": SCHEMA, "done": done, **asdict(clock)}))
            (writing.partial / "manifest.json").write_text(json_text(_sums(writing.partial), indent=1))
            writing.commit(flush=True)
        write_atomically(folder / "last.json", json_text({"checkpoint": target.name}))
    except Exception as error:  # torch and safetensors raise different errors for a full disk
        what, needed = f"The checkpoint of step {done}", _bytes(method.state_dict()) + _bytes(state)
        raise disk_fault(what, folder, needed, error.__cause__ or error, "Free disk space and use --resume.") from error
    for old in sorted(folder.glob("step_*"))[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def newest_checkpoint(folder: Path, warn: Callable[[str], None]) -> Path | None:
    """The newest checkpoint with correct checksums; None if none was ever completed.

    Args:
        folder: folder of the checkpoints.
        warn: called with a message if a newer checkpoint is damaged.

    Raises:
        DataError: there are checkpoints, and all are damaged.
    """
    found = sorted((path for path in folder.glob("step_*") if path.name[5:].isdigit()), reverse=True)
    damages: list[str] = []
    for path in found:
        damage = _damage(path)
        if not damage:
            if damages:
                lost = int(found[0].name.split("_")[1]) - int(path.name.split("_")[1])
                warn(f"{damages[0]}; continuing from {path.name}: {lost} steps are repeated")
            return path
        damages.append(f"{path.name} is damaged ({damage})")
    if (folder / "last.json").is_file() and not found:
        damages = ["last.json names a checkpoint, and there is none"]
    if damages:
        raise DataError(
            f"No checkpoint in {folder} can be used:\n  " + "\n  ".join(damages),
            "Restore one of them from a copy, or begin anew with --overwrite; nothing was changed.",
        )
    return None


def _damage(path: Path) -> str:
    """Why a checkpoint cannot be used; empty if its files match its manifest."""
    file = path / "manifest.json"
    try:
        expected = read_json(file)
        present = _sums(path)
    except (OSError, DataError) as error:
        missing = isinstance(error, FileNotFoundError) and not file.exists()
        return "manifest.json is missing" if missing else f"{getattr(error, 'strerror', '') or str(error).splitlines()[0]}"
    missing = sorted(expected.keys() - present.keys())
    if missing:
        return f"{', '.join(missing)} missing"
    wrong = sorted(name for name in expected.keys() | present.keys() if expected.get(name) != present.get(name))
    return f"wrong checksums: {', '.join(wrong)}" if wrong else ""


def load_checkpoint(path: Path, method: Method) -> tuple[int, dict[str, Any]]:
    """Load a method's state from a checkpoint.

    Args:
        path: path of the checkpoint.
        method: filled in place.

    Returns:
        Number of steps done, and the optimiser's state.

    Raises:
        EnvironmentFault: another version of selfsight wrote the checkpoint.
        DataError: a file is damaged, or is of another method.
        UsageError: a file contains other objects than tensors and numbers.
    """
    clock = read_json(path / "clock.json")
    if clock.get("schema") != SCHEMA or not isinstance(clock.get("done"), int):
        raise EnvironmentFault(
            f"{path} was written by another version of selfsight (schema {clock.get('schema')}, not {SCHEMA}).",
            "Continue the run with that version.",
        )
    fill(method, read_weights(path / "method.safetensors"), path / "method.safetensors")
    return clock["done"], _optimiser_state(path / "optimiser.pt")


def _optimiser_state(file: Path) -> dict[str, Any]:
    try:
        with warnings.catch_warnings(action="ignore"):  # torch advises how to open foreign pickles
            state = torch.load(file, weights_only=True)
    except pickle.UnpicklingError as error:
        raise UsageError(
            f"{file} contains other objects than tensors and numbers, and is not opened: such a file can run any program.",
            "Use a checkpoint that selfsight wrote.",
        ) from error
    except Exception as error:  # torch raises RuntimeError, EOFError, ValueError and others for damaged files
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{file} is damaged: {reason}", "Restore it from a copy.") from error
    if not isinstance(state, dict) or not {"state", "param_groups"} <= state.keys():
        raise DataError(f"{file} is not the state of an optimiser.", "Use a checkpoint that selfsight wrote.")
    return state
