"""Sources without a cache file: arrays in memory, and images that are rendered when read."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Num

from selfsight.core.cache import digest
from selfsight.core.errors import UsageError
from selfsight.data.source import MODALITIES, Batch, LazySequence, Rows, Truth

__all__ = ["ArraySource", "RenderedSource", "StreamSource"]


class StreamSource:
    """Images, clips or sounds in memory, with accompanying streams.

    Args:
        streams: arrays by name, one row per sample. The first is learned from: ``image`` (N, C, H, W), ``clip`` (N, C, T, H, W) or ``sound``
            (N, C, mel, T); any number of channels. Integers are uint8 or uint16; floating point is in [0, 1] for images and clips.
        truth: their ground truth.
        spec: the user's name for the data set.
        names: one per sample; numbers by default.

    Raises:
        UsageError: the first stream is no image, clip or sound, or the streams differ in length.
    """

    def __init__(
        self, streams: Mapping[str, Num[np.ndarray, "sample ..."]], truth: Truth | None = None, *, spec: str = "array",
        names: Sequence[str] | None = None,
    ) -> None:  # fmt: skip
        self.streams = {name: np.ascontiguousarray(values) for name, values in streams.items()}
        self.modality, first = next(iter(self.streams.items()), ("", np.zeros(0)))
        if self.modality not in MODALITIES or first.ndim != (5 if self.modality == "clip" else 4):
            raise UsageError(
                f"The first stream is {self.modality!r} with {first.ndim} dimensions.",
                "Give image (N, C, H, W), clip (N, C, T, H, W) or sound (N, C, mel, T) first.",
            )
        if len({len(values) for values in self.streams.values()}) > 1:
            raise UsageError("The streams differ in length.", "Every stream has one row per sample.")
        self.spec, self._truth = spec, truth or Truth()
        self._names = LazySequence(str, range(len(first))) if names is None else names
        about = [f"{name} {values.shape} {values.dtype}" for name, values in self.streams.items()]
        self.fingerprint = digest((spec, *about, *(values.tobytes() for values in self.streams.values())))

    def __len__(self) -> int:
        return len(self.streams[self.modality])

    @property
    def shape(self) -> tuple[int, int]:
        height, width = self.streams[self.modality].shape[-2:]
        return height, width

    @property
    def names(self) -> Sequence[str]:
        return self._names

    @property
    def bad(self) -> Sequence[tuple[str, str]]:
        return ()

    def read(self, rows: Rows) -> Batch:
        return Batch({name: values[rows] for name, values in self.streams.items()}, np.asarray(rows, dtype=np.int64))

    def truth(self, rows: Rows) -> Truth:
        return self._truth.take(rows)


class ArraySource(StreamSource):
    """Images of one size in memory.

    Args:
        images: all images (N, C, H, W): uint8 (0 to 255), uint16 (0 to 65,535) or floating point in [0, 1].
        truth: their ground truth.
        spec: the user's name for the data set.
        names: one per image; numbers by default.
    """

    def __init__(
        self, images: Num[np.ndarray, "sample channel height width"], truth: Truth | None = None, *, spec: str = "array",
        names: Sequence[str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__({"image": images}, truth, spec=spec, names=names)
        self.images = self.streams["image"]
        self.fingerprint = digest((spec, str(images.shape), self.images.tobytes()))


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
            return Batch({"image": self.render(rows)}, rows)
        if self._kept is None:
            self._kept = np.empty((self.count, 3, *self.shape), dtype=np.uint8)
            self._made = np.zeros(self.count, dtype=bool)
        missing = np.unique(rows[~self._made[rows]])
        for part in np.array_split(missing, max(1, -(-len(missing) // 256))):
            if len(part):
                self._kept[part] = self.render(part)
                self._made[part] = True
        return Batch({"image": self._kept[rows]}, rows)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_kept", "_made")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()
