"""Data sets: images by row, and, separately, the ground truth that only measures may read."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, SupportsIndex, TypeVar, overload, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int, Integer, Num

from selfsight.core.cache import digest

__all__ = [
    "MODALITIES",
    "VOID",
    "Batch",
    "LazySequence",
    "ReadableSource",
    "Rows",
    "Source",
    "Subset",
    "Truth",
    "WrappedSource",
    "readable",
    "sample_rows",
]

VOID = 65535
"""Number of pixels of a mask that do not count, such as the borders of objects in PASCAL VOC."""
Rows = Integer[np.ndarray, "row"]
Item = TypeVar("Item")


MODALITIES = ("image", "clip", "sound")
"""Streams that can be learned from: images (N, C, H, W), clips (N, C, T, H, W), log-mel spectrograms (N, C, mel, T)."""


@dataclass(frozen=True)
class Batch:
    """Samples as they are read. It holds no labels.

    Attributes:
        streams: arrays by name, one row per sample; the first is what is learned from, an ``image``, a ``clip`` or a ``sound``, and others
            accompany it (flow, text, the sound of a clip). Images and clips are uint8 (0 to 255), uint16 (0 to 65,535) or floating point in
            [0, 1]; they are padded with zeros on the right and below where sizes differ.
        index: row numbers of the samples in the source.
        extent: true height and width of each image in pixels, from the top left corner; ``None``: nothing is padded.
        own: height and width of each image before it was resized for the cache; ``None``: it was not resized.
    """

    streams: Mapping[str, Num[np.ndarray, "batch ..."]]
    index: Int[np.ndarray, "batch"]
    extent: Int[np.ndarray, "batch 2"] | None = None
    own: Int[np.ndarray, "batch 2"] | None = None

    @property
    def modality(self) -> str:
        """The name of the stream that is learned from."""
        return next(iter(self.streams))

    @property
    def images(self) -> Num[np.ndarray, "batch channel *size"]:
        """The stream that is learned from."""
        return self.streams[self.modality]


class LazySequence(Sequence[Item]):
    """A sequence whose items are made on access, such as masks that are read from files.

    Args:
        make: function from a row number to an item.
        rows: row number of each item.
    """

    def __init__(self, make: Callable[[int], Item], rows: Sequence[int] | np.ndarray) -> None:
        self._make, self._rows = make, np.asarray(rows, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, place: SupportsIndex) -> Item: ...
    @overload
    def __getitem__(self, place: slice) -> "LazySequence[Item]": ...
    def __getitem__(self, place: SupportsIndex | slice) -> "Item | LazySequence[Item]":
        return self.take(self._rows[place]) if isinstance(place, slice) else self._make(int(self._rows[place]))

    def __iter__(self) -> Iterator[Item]:
        return (self._make(int(row)) for row in self._rows)

    def take(self, rows: np.ndarray) -> "LazySequence[Item]":
        """The items of these row numbers."""
        return LazySequence(self._make, rows)

    def at(self, places: np.ndarray) -> "LazySequence[Item]":
        """The items at these positions of the sequence, still lazy."""
        return LazySequence(self._make, self._rows[places])


@dataclass(frozen=True)
class Truth:
    """Ground truth of some samples. None or empty: unknown.

    Attributes:
        labels: class numbers; -1 where unknown.
        classes: names of the classes.
        attributes: columns by name, one value per sample.
        boxes: for each sample, one row per object: left, top, right, bottom in pixels (right and bottom exclusive), class number.
        crowds: for each sample, which boxes contain many objects; None: none.
        masks: for each sample, a number per pixel (0 is background, ``VOID`` does not count). With boxes it is an object's: object k is row
            k - 1 of ``boxes``. Without, it is a class: k is class k - 1.
        parts: for each sample, a part number per pixel (0 is none).
        keypoints: for each sample, one row per point: x, y in pixels, visible (0 or 1).
        groups: samples that belong together (a video, a person); -1 for none.
    """

    labels: Int[np.ndarray, "batch"] | None = None
    classes: tuple[str, ...] = ()
    attributes: Mapping[str, np.ndarray] = field(default_factory=dict)
    boxes: Sequence[Float[np.ndarray, "_ 5"]] | None = None
    crowds: Sequence[Bool[np.ndarray, " _"]] | None = None
    masks: Sequence[np.ndarray] | None = None
    parts: Sequence[np.ndarray] | None = None
    keypoints: Sequence[Float[np.ndarray, "_ 3"]] | None = None
    groups: Int[np.ndarray, "batch"] | None = None

    def take(self, rows: Rows) -> "Truth":
        """Ground truth of these rows, in their order; lazy items stay lazy."""

        def selected(items: Sequence[np.ndarray] | None) -> Sequence[np.ndarray] | None:
            if items is None or isinstance(items, LazySequence):
                return None if items is None else items.at(rows)
            return [items[int(row)] for row in rows]

        return replace(
            self,
            labels=None if self.labels is None else self.labels[rows],
            attributes={name: column[rows] for name, column in self.attributes.items()},
            boxes=selected(self.boxes),
            crowds=selected(self.crowds),
            masks=selected(self.masks),
            parts=selected(self.parts),
            keypoints=selected(self.keypoints),
            groups=None if self.groups is None else self.groups[rows],
        )


@runtime_checkable
class Source(Protocol):
    """A data set. It can be pickled, so that worker processes can read it.

    Attributes:
        spec: the user's name for it.
        fingerprint: changes when the data do.
        shape: height and width in pixels of what ``read`` returns; the same for every batch.
        names: one name per sample (a relative path, a row), unique and valid UTF-8.
        bad: unreadable samples that were replaced: (name, reason), each once.
    """

    @property
    def spec(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def shape(self) -> tuple[int, int]: ...

    def __len__(self) -> int: ...

    @property
    def names(self) -> Sequence[str]: ...

    @property
    def bad(self) -> Sequence[tuple[str, str]]: ...

    def read(self, rows: Rows) -> Batch:
        """Images of these rows, in their order."""
        ...

    def truth(self, rows: Rows) -> Truth:
        """Ground truth of these rows; only for measures."""
        ...


def sample_rows(n: int, limit: int, seed: int) -> Rows:
    """Random rows without replacement, in ascending order; a pure function of its arguments.

    Files are often sorted by class, so the first rows would be a biased sample.

    Args:
        n: number of rows.
        limit: maximum size of the sample.
        seed: seed of the sample.
    """
    from selfsight.core.clock import key

    if limit >= n:
        return np.arange(n)
    generator = np.random.Generator(np.random.PCG64(key(seed, n, limit)))
    return np.sort(generator.choice(n, size=limit, replace=False))


class WrappedSource:
    """A source that passes everything on to another one; subclasses change a part of it.

    Args:
        source: the other data set.
    """

    def __init__(self, source: Source) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    @property
    def spec(self) -> str:
        return self.source.spec

    @property
    def shape(self) -> tuple[int, int]:
        return self.source.shape

    @property
    def fingerprint(self) -> str:
        return self.source.fingerprint

    @property
    def names(self) -> Sequence[str]:
        return self.source.names

    @property
    def bad(self) -> Sequence[tuple[str, str]]:
        return self.source.bad

    def read(self, rows: Rows) -> Batch:
        return self.source.read(rows)

    def truth(self, rows: Rows) -> Truth:
        return self.source.truth(rows)


class Subset(WrappedSource):
    """Some rows of a source as a source: row ``i`` of the subset is row ``rows[i]`` of the source.

    Args:
        source: the data set.
        rows: its rows.
    """

    def __init__(self, source: Source, rows: Rows) -> None:
        super().__init__(source)
        self.rows = np.asarray(rows, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def fingerprint(self) -> str:
        return digest((self.source.fingerprint, self.rows.tobytes()), separated=False)

    @property
    def names(self) -> Sequence[str]:
        return LazySequence(self.source.names.__getitem__, self.rows)

    @property
    def bad(self) -> Sequence[tuple[str, str]]:
        mine = set(self.names) if self.source.bad else set()
        return [(name, reason) for name, reason in self.source.bad if name in mine]

    def read(self, rows: Rows) -> Batch:
        """Images of these rows of the subset; ``index`` counts the subset's rows."""
        return replace(self.source.read(self.rows[rows]), index=np.asarray(rows, dtype=np.int64))

    def truth(self, rows: Rows) -> Truth:
        return self.source.truth(self.rows[rows])


class ReadableSource(Subset):
    """The readable rows of a source; unreadable files are still listed in ``bad``."""

    @property
    def bad(self) -> Sequence[tuple[str, str]]:
        return self.source.bad


def readable(source: Source) -> Source:
    """The source without its unreadable files, which training replaces by other images.

    Args:
        source: the data set.
    """
    if not source.bad:
        return source
    unreadable = {name for name, _ in source.bad}
    return ReadableSource(source, np.array([row for row, name in enumerate(source.names) if name not in unreadable], dtype=np.int64))
