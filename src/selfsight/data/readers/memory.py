"""Sources without a cache file: arrays in memory, and images that are rendered when read."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from selfsight.data.listing import digest
from selfsight.data.source import Batch, LazySequence, Rows, Truth

__all__ = ["ArraySource", "RenderedSource"]


class ArraySource:
    """Images of one size in memory.

    Args:
        images: all images (N, 3, H, W), 0 to 255.
        truth: their ground truth.
        spec: the user's name for the data set.
        names: one per image; numbers by default.
    """

    def __init__(
        self, images: UInt8[np.ndarray, "sample 3 height width"], truth: Truth | None = None, *, spec: str = "array",
        names: Sequence[str] | None = None,
    ) -> None:  # fmt: skip
        self.images, self.spec, self._truth = np.ascontiguousarray(images), spec, truth or Truth()
        self._names = LazySequence(str, range(len(images))) if names is None else names
        self.fingerprint = digest((spec, str(images.shape), self.images.tobytes()))

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, int]:
        return self.images.shape[2], self.images.shape[3]

    @property
    def names(self) -> Sequence[str]:
        return self._names

    @property
    def bad(self) -> Sequence[tuple[str, str]]:
        return ()

    def read(self, rows: Rows) -> Batch:
        return Batch(self.images[rows], np.asarray(rows, dtype=np.int64))

    def truth(self, rows: Rows) -> Truth:
        return self._truth.take(rows)


class RenderedSource:
    """Images that are rendered when first read, and cached as uint8 if all of them fit into one gigabyte.

    A subclass implements ``render(rows)`` (row x 3 x height x width, uint8), a pure function of each row alone, ``identity`` and
    ``truth``.

    Attributes:
        count: number of images.
        shape: their height and width in pixels.
    """

    MOST_KEPT = 10**9

    def __init__(self, spec: str, count: int, shape: tuple[int, int]) -> None:
        self.spec, self.count, self.shape = spec, count, shape
        self._forget()

    def _forget(self) -> None:
        self._kept: np.ndarray | None = None
        self._made = np.zeros(0, dtype=bool)

    def __len__(self) -> int:
        return self.count

    @property
    def fingerprint(self) -> str:
        return digest((type(self).__name__, repr(self.identity())))

    def identity(self) -> object:
        """Everything that determines the pixels; its ``repr`` is part of the fingerprint."""
        raise NotImplementedError

    @property
    def names(self) -> Sequence[str]:
        return LazySequence(str, range(self.count))

    @property
    def bad(self) -> Sequence[tuple[str, str]]:
        return ()

    def render(self, rows: Rows) -> np.ndarray:
        """Render these rows (row x 3 x height x width, uint8)."""
        raise NotImplementedError

    def truth(self, rows: Rows) -> Truth:
        raise NotImplementedError

    def read(self, rows: Rows) -> Batch:
        """Images of these rows, rendered or cached."""
        rows = np.asarray(rows, dtype=np.int64)
        if self.count * 3 * self.shape[0] * self.shape[1] > self.MOST_KEPT:
            return Batch(self.render(rows), rows)
        if self._kept is None:
            self._kept = np.empty((self.count, 3, *self.shape), dtype=np.uint8)
            self._made = np.zeros(self.count, dtype=bool)
        missing = np.unique(rows[~self._made[rows]])
        for part in np.array_split(missing, max(1, -(-len(missing) // 256))):
            if len(part):
                self._kept[part] = self.render(part)
                self._made[part] = True
        return Batch(self._kept[rows], rows)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_kept", "_made")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()
