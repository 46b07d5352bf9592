"""What was worked out for batches of pictures, on disk: found once, used by all that follows, and by a search that was broken off."""

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Arrays", "DiskCache", "cache_key"]

Arrays = Mapping[str, np.ndarray]
VERSION = 1
"""Raised when what is kept is worked out or written in another way, so that it is made again."""


def cache_key(*about: Any) -> str:
    """A short digest of what is told by its ``repr``."""
    return hashlib.sha256(repr((VERSION, *about)).encode()).hexdigest()[:20]


@dataclass(frozen=True)
class DiskCache:
    """A folder of one ``.npz`` for each batch of pictures and thing that was worked out, each written whole or not at all.

    Attributes:
        folder: of one representation, data set and way to look.
    """

    folder: Path

    def file(self, name: str, rows: tuple[int, ...]) -> Path:
        """Where something about a batch is kept."""
        return self.folder / f"{name}-{rows[0]:08d}-{cache_key(rows)[:12]}.npz"

    def read(self, name: str, rows: tuple[int, ...]) -> Arrays | None:
        """What is kept of a batch; ``None`` where nothing is."""
        file = self.file(name, rows)
        if not file.is_file():
            return None
        with np.load(file) as found:
            return dict(found)

    def get_or_compute(
        self, name: str, rows: tuple[int, ...], make: Callable[[], Arrays], *, fits: Callable[[Arrays], bool] = bool
    ) -> Arrays:
        """What is kept of a batch, made and kept where nothing is that ``fits``."""
        found = self.read(name, rows)
        if found is not None and fits(found):
            return found
        made, file = make(), self.file(name, rows)
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f".{file.name}.{os.getpid()}")
        with partial.open("wb") as target:
            np.savez(target, allow_pickle=False, **made)
        partial.replace(file)
        return made
