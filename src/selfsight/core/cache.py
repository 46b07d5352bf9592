"""Disk cache of values computed for batches of images; it is shared by later computations and survives interruption."""

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
"""To be incremented when cached values are computed or stored differently, so that old ones are ignored."""


def cache_key(*values: Any) -> str:
    """A short digest of the arguments' ``repr``."""
    return hashlib.sha256(repr((VERSION, *values)).encode()).hexdigest()[:20]


@dataclass(frozen=True)
class DiskCache:
    """A folder with one ``.npz`` file per batch of images and value, each written atomically.

    Attributes:
        folder: of one representation, data set and setting.
    """

    folder: Path

    def file(self, name: str, rows: tuple[int, ...]) -> Path:
        """Path of a cached value.

        Args:
            name: of the value.
            rows: of the batch.
        """
        return self.folder / f"{name}-{rows[0]:08d}-{cache_key(rows)[:12]}.npz"

    def read(self, name: str, rows: tuple[int, ...]) -> Arrays | None:
        """A cached value; None if there is none.

        Args:
            name: of the value.
            rows: of the batch.
        """
        file = self.file(name, rows)
        if not file.is_file():
            return None
        with np.load(file) as found:
            return dict(found)

    def get_or_compute(
        self, name: str, rows: tuple[int, ...], make: Callable[[], Arrays], *, fits: Callable[[Arrays], bool] = bool
    ) -> Arrays:
        """A cached value; computed and stored if there is none.

        Args:
            name: of the value.
            rows: of the batch.
            make: computes the value.
            fits: whether a cached value is usable; by default if it is not empty.
        """
        found = self.read(name, rows)
        if found is not None and fits(found):
            return found
        computed, file = make(), self.file(name, rows)
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f".{file.name}.{os.getpid()}")
        with partial.open("wb") as target:
            np.savez(target, allow_pickle=False, **computed)
        partial.replace(file)
        return computed
