"""Which folders are runs of selfsight, and which of their files may be deleted."""

import shutil
from pathlib import Path

from selfsight.core.errors import DataError
from selfsight.core.files import read_json

__all__ = ["WRITTEN", "delete_run", "foreign_reason", "holds_something"]

WRITTEN = ("config.json", "origin.json", "STATUS.json", "metrics.jsonl", "timing.jsonl", "checkpoints", "export")
"""What training writes into a folder."""
DERIVED = ("bad_files.csv", "banks", "discoveries", "explanations", "explorer", "measures", "report", "spectra", "tensorboard")
"""What training and the other verbs may add to a run."""
KEYS = {"data", "method", "backbone", "size", "batch", "steps", "seed", "options", "training"}
"""Keys that every ``config.json`` of a run has, from version 0.1 on."""


def foreign_reason(folder: Path) -> str:
    """Why a folder may not be replaced, as the end of a sentence; empty if it is a run of selfsight, an empty folder or nothing.

    A run is a folder, not a symbolic link, whose ``config.json`` has the keys of one and whose training recipe is of this package.
    """
    if folder.is_symlink():
        return "is a symbolic link"
    if not folder.exists():
        return ""
    if not folder.is_dir():
        return "is a file"
    if not any(folder.iterdir()):
        return ""
    file = folder / "config.json"
    if not file.is_file():
        return "is not empty and not a run" if any(holds_something(entry) for entry in folder.iterdir()) else ""
    if file.is_symlink():
        return "is not a run: its config.json is a symbolic link"
    try:
        config = read_json(file)
    except DataError:
        return "cannot be shown to be a run: its config.json is damaged"
    training = config.get("training")
    own = isinstance(training, dict) and str(training.get("is", "")).startswith("selfsight.")
    return "" if own and config.keys() >= KEYS else "is not a run of selfsight: its config.json is that of another program"


def holds_something(place: Path) -> bool:
    """Whether a path is a file or link with content, or a folder with entries; a lock of a run is nothing."""
    if place.is_symlink():
        return True
    if place.is_dir():
        return any(place.iterdir())
    return place.is_file() and not place.name.startswith(".lock") and place.stat().st_size > 0


def delete_run(folder: Path) -> list[str]:
    """Delete what selfsight has written into a run, except its lock; of symbolic links the link only.

    Args:
        folder: a folder without a ``foreign_reason``.

    Returns:
        Names of other entries, which are left.
    """
    left = []
    order = sorted(folder.iterdir(), key=lambda entry: entry.name == "config.json")  # last, so that an interrupted deletion can be repeated
    for entry in order:
        own = entry.name in (*WRITTEN, *DERIVED) or any(entry.name.startswith(f".{name}.") for name in WRITTEN)
        if entry.name.startswith(".lock"):
            continue
        if not own:
            left.append(entry.name)
        elif entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    return left
