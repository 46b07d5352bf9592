"""Golden values: recorded results under ``values``, compared with present results.

``SELFSIGHT_GOLDEN=record`` writes the files instead of comparing. In the environment of the recording (torch, numpy, processor) values must
be bitwise equal. Other environments round differently: there shapes, types, texts and integers must be equal, and floats, including those
stored of arrays, close (``RTOL``, ``ATOL``); checksums are not compared.
"""

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["check"]

VALUES = Path(__file__).parent / "values"
RTOL, ATOL = 1e-3, 1e-5
FIRST = 8
CHECKSUMS = ("sha256", "values_sha256")

Value = float | int | str | None | list[Any] | tuple[Any, ...] | np.ndarray | Tensor | Mapping[str, Tensor]


def check(name: str, found: Mapping[str, Value], *, near: tuple[str, ...] = ()) -> None:
    """Compare values with those recorded under a name, or record them.

    Args:
        name: name of the file.
        found: numbers, texts, lists of them, arrays, tensors, and states of modules (mappings from names to tensors).
        near: keys that are compared as if in another environment.
    """
    now = {key: stored(value) for key, value in found.items()}
    file = VALUES / f"{name}.json"
    if os.environ.get("SELFSIGHT_GOLDEN") == "record":
        VALUES.mkdir(exist_ok=True)
        lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in now.items())
        file.write_text(f'{{\n"environment": {json.dumps(environment())},\n"values": {{\n{lines}\n}}\n}}\n')
        return
    assert file.is_file(), f"{name}: no golden values are recorded; set SELFSIGHT_GOLDEN=record to record them"
    kept = json.loads(file.read_text())
    before, same = kept["values"], kept["environment"] == environment()
    wrong = [f"{key}: is recorded and was not found" for key in before if key not in now]
    wrong += [f"{key}: was found and is not recorded" for key in now if key not in before]
    plain = json.loads(json.dumps(now))
    for key in (key for key in now if key in before):
        wrong += differences(key, before[key], plain[key], exact=same and key not in near)
    more = f"\nand {len(wrong) - 20} more" if len(wrong) > 20 else ""
    how = "bit for bit" if same else f"to {RTOL:g}, recorded in another environment ({kept['environment']})"
    assert not wrong, f"{name}, compared {how}:\n" + "\n".join(wrong[:20]) + more


def environment() -> dict[str, str]:
    """Everything that rounding depends on."""
    return {
        "torch": torch.__version__,
        "numpy": np.__version__,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "machine": platform.machine(),
        "processor": _processor(),
    }


def _processor() -> str:
    """Name, family, model and stepping of the processor, if known."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    told = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    known = [told[name] for name in ("model name", "cpu family", "model", "stepping") if name in told]
    return ", ".join(known) or platform.processor()


def stored(value: Value) -> Any:
    """A value as JSON with exact floats."""
    if isinstance(value, Tensor):
        value = value.detach().cpu().contiguous().numpy()
    if isinstance(value, np.ndarray):
        return _array(value)
    if isinstance(value, Mapping):
        return _state(value)
    if isinstance(value, list | tuple):
        return [stored(one) for one in value]
    if isinstance(value, float | np.floating):
        return float(value)
    if isinstance(value, np.integer):
        return int(value)
    assert value is None or isinstance(value, int | str), f"{type(value).__name__} cannot be recorded"
    return value


def _array(value: np.ndarray) -> dict[str, Any]:
    """Shape, type, checksum, and a few numbers of an array."""
    found: dict[str, Any] = {"shape": list(value.shape), "dtype": str(value.dtype)}
    found["sha256"] = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
    return found | _numbers(value) | {"first": [stored(one) for one in value.ravel()[:FIRST].tolist()]}


def _numbers(value: np.ndarray) -> dict[str, Any]:
    if not value.size or value.dtype.kind not in "fiub":
        return {}
    rows = np.sort(value.ravel().astype(np.float64))
    return {
        name: stored(float(number)) for name, number in (("mean", rows.mean()), ("std", rows.std()), ("min", rows[0]), ("max", rows[-1]))
    }


def _state(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Separate checksums of names and values, to distinguish renamed tensors from changed ones."""
    arrays = {name: tensor.detach().cpu().contiguous().numpy() for name, tensor in sorted(state.items())}
    sums = sorted(hashlib.sha256(f"{one.dtype} {one.shape} ".encode() + one.tobytes()).hexdigest() for one in arrays.values())
    floats = [one.ravel().astype(np.float64) for one in arrays.values() if one.dtype.kind == "f"]
    return {
        "tensors": len(arrays),
        "elements": sum(one.size for one in arrays.values()),
        "names_sha256": hashlib.sha256("\n".join(arrays).encode()).hexdigest(),
        "values_sha256": hashlib.sha256("\n".join(sums).encode()).hexdigest(),
        **_numbers(np.concatenate(floats) if floats else np.zeros(0)),
    }


def differences(key: str, before: Any, now: Any, *, exact: bool) -> list[str]:
    """Descriptions of the differences."""
    if isinstance(before, float) and isinstance(now, float):
        if exact:
            return [] if repr(before) == repr(now) else [f"{key}: recorded {before!r}, found {now!r}"]
        near = np.isclose(now, before, rtol=RTOL, atol=ATOL, equal_nan=True)
        return [] if near else [f"{key}: recorded {before!r}, found {now!r}, not near"]
    if isinstance(before, dict) and isinstance(now, dict):
        if set(before) != set(now):
            return [f"{key}: recorded {before}, found {now}"]
        parts = [part for part in before if exact or part not in CHECKSUMS]
        return [line for part in parts for line in differences(f"{key}.{part}", before[part], now[part], exact=exact)]
    if isinstance(before, list) and isinstance(now, list):
        if len(before) != len(now):
            return [f"{key}: recorded {len(before)} values {before}, found {len(now)} values {now}"]
        places = enumerate(zip(before, now, strict=True))
        return [line for place, (one, other) in places for line in differences(f"{key}[{place}]", one, other, exact=exact)]
    return [] if type(before) is type(now) and before == now else [f"{key}: recorded {before!r}, found {now!r}"]
