"""Provenance of a result."""

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

__all__ = ["BITWISE", "origin"]

BITWISE = ("torch", "threads", "processor", "compile", "precision", "device")
"""Fields that have to be equal for a resumed run to be bitwise identical."""

_PACKAGES = ("selfsight", "torch", "torchvision", "timm", "numpy", "scikit-learn", "safetensors")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str:
    """The commit of the package's checkout, if it is in one."""
    here = Path(__file__).parent
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return found.stdout.strip() or "unknown"


def origin(facts: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Versions, commit and machine, and other facts (seed, hardware, data fingerprint)."""
    versions = {name: _version(name) for name in _PACKAGES}
    return {
        "selfsight": versions["selfsight"],
        "commit": _commit(),
        "python": sys.version.split()[0],
        "torch": versions["torch"],
        "versions": versions,
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
    } | dict(facts or {})
