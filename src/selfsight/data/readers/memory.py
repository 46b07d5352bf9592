"""Sources that need no cache: arrays in memory, and pictures that are made when they are read."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from selfsight.data.listing import digest
from selfsight.data.source import Batch, LazySequence, Rows, Truth

__all__ = ["ArraySource", "RenderedSource"]


class ArraySource:
    """Pictures of one size that are in memory already.

    Args:
        images: all pictures, 0 to 255.
        truth: what is known of them.
        spec: what they were opened from.
        names: one a picture; numbers if left out.
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
        """Pictures of these rows."""
        return Batch(self.images[rows], np.asarray(rows, dtype=np.int64))

    def truth(self, rows: Rows) -> Truth:
        """What is known of these rows."""
        return self._truth.take(rows)


class RenderedSource:
    """Pictures made when they are first read, and kept as uint8 while all of them fit one gigabyte.

    A subclass gives ``render(rows)`` (row x 3 x height x width, uint8), a pure function of each row alone, and ``truth``.

    Attributes:
        count: pictures.
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
        """All that decides the pixels; its ``repr`` is what the fingerprint is made of."""
        raise NotImplementedError

    @property
    def names(self) -> Sequence[str]:
        return LazySequence(str, range(self.count))

    @property
    def bad(self) -> Sequence[tuple[str, str]]:
        return ()

    def render(self, rows: Rows) -> np.ndarray:
        """Make these pictures."""
        raise NotImplementedError

    def truth(self, rows: Rows) -> Truth:
        """What is known of these rows."""
        raise NotImplementedError

    def read(self, rows: Rows) -> Batch:
        """Pictures of these rows, made now or remembered."""
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
