"""Files of runs as currently on disk; files that are being written are read as far as possible. Torch-free."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from selfsight.core.files import inside
from selfsight.core.results import find_results

__all__ = ["read_json", "read_run"]

POINTS = 400
"""Maximum number of points per curve."""


def read_run(run: Path) -> dict[str, Any]:
    """Status, settings, curves and scores of a run.

    Raises:
        DataError: a file is a link to one outside of the run.
    """
    return {
        "name": run.name,
        "status": read_json(inside(run, "STATUS.json")),
        "settings": {name: value for name, value in read_json(inside(run, "config.json")).items() if not isinstance(value, dict)},
        "curves": _curves(inside(run, "metrics.jsonl")),
        "measures": [read_json(file) for file in find_results(run, "measures/*.json")],
    }


def _unknown(_: str) -> None:
    """For NaN and infinity, which are not valid JSON."""


def read_json(file: Path) -> dict[str, Any]:
    """A JSON file of a run that may be in the middle of a write; empty if it is not readable."""
    try:
        content = json.loads(file.read_bytes(), parse_constant=_unknown) if file.is_file() else {}
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _curves(file: Path) -> dict[str, list[list[float]]]:
    """Every metric of a run over its steps, subsampled."""
    if not file.is_file():
        return {}
    lines = []
    for line in file.read_bytes().splitlines():
        try:
            content = json.loads(line, parse_constant=_unknown)
        except (ValueError, RecursionError):
            continue  # the last line may be incomplete
        if isinstance(content, dict) and "step" in content:
            lines.append(content)
    sampled = (
        [lines[index] for index in sorted({round(index) for index in np.linspace(0, len(lines) - 1, min(len(lines), POINTS))})]
        if lines
        else []
    )
    names = [name for name in (sampled[0] if sampled else {}) if name not in ("step", "epoch", "skipped")]
    return {name: [[line["step"], line[name]] for line in sampled if isinstance(line.get(name), int | float)] for name in names}
