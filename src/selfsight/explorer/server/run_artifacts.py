"""What runs have written, as it stands on disk now; files that are being written are read as far as they go. Torch-free."""

import json
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["read_json", "read_run"]

POINTS = 400
"""Of a curve."""


def read_run(run: Path) -> dict[str, Any]:
    """A run's state, curves and scores."""
    return {
        "name": run.name,
        "status": read_json(run / "STATUS.json"),
        "settings": {name: value for name, value in read_json(run / "config.json").items() if not isinstance(value, dict)},
        "curves": _curves(run / "metrics.jsonl"),
        "measures": [read_json(file) for file in sorted((run / "measures").glob("*.json"))],
    }


def _unknown(_: str) -> None:
    """For NaN and infinity, which JSON does not have."""


def read_json(file: Path) -> dict[str, Any]:
    """A file of a run that may be written at this moment."""
    try:
        return json.loads(file.read_text(), parse_constant=_unknown) if file.is_file() else {}
    except ValueError:
        return {}


def _curves(file: Path) -> dict[str, list[list[float]]]:
    """Every number of a run over its steps, thinned."""
    if not file.is_file():
        return {}
    lines = []
    for line in file.read_text().splitlines():
        try:
            lines.append(json.loads(line, parse_constant=_unknown))
        except ValueError:
            continue  # the last line, which is being written
    some = (
        [lines[place] for place in sorted({round(place) for place in np.linspace(0, len(lines) - 1, min(len(lines), POINTS))})]
        if lines
        else []
    )
    names = [name for name in (some[0] if some else {}) if name not in ("step", "epoch", "skipped")]
    return {name: [[line["step"], line[name]] for line in some if isinstance(line.get(name), int | float)] for name in names}
