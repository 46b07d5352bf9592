"""Data sets: images by row, and, apart from them, the truth that only measures may read."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, SupportsIndex, TypeVar, overload, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int, Integer, UInt8

__all__ = ["Batch", "LazySequence", "Rows", "Source", "Subset", "Truth", "sample_rows"]

Rows = Integer[np.ndarray, "row"]
Item = TypeVar("Item")


@dataclass(frozen=True)
class Batch:
    """Pictures as they are read. No label is here.

    Attributes:
        images: 0 to 255, red green blue, channel first; padded with zeros on the right and below where pictures differ.
        index: which samples of the source these are.
        extent: true height and width of each picture in pixels, from the top left corner; ``None``: nothing is padded.
        companions: what came with the pictures (sound, flow, text), one row a picture.
        own: height and width of each picture before it was made smaller for the pack; ``None``: it was not.
    """

    images: UInt8[np.ndarray, "batch channel height width"]
    index: Int[np.ndarray, "batch"]
    extent: Int[np.ndarray, "batch 2"] | None = None
    companions: Mapping[str, np.ndarray] = field(default_factory=dict)
    own: Int[np.ndarray, "batch 2"] | None = None


class LazySequence(Sequence[Item]):
    """A sequence whose items are made when they are asked for, such as masks that are read from files."""

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
        """The items that ``make`` has for these row numbers."""
        return LazySequence(self._make, rows)

    def at(self, places: np.ndarray) -> "LazySequence[Item]":
        """The items at these places of the sequence, still unmade."""
        return LazySequence(self._make, self._rows[places])


@dataclass(frozen=True)
class Truth:
    """What is known of some samples: whatever there is. ``None`` or empty: unknown.

    Attributes:
        labels: class numbers; -1 where unknown.
        classes: names of the classes.
        attributes: named columns, one value a sample.
        boxes: for each sample, one row an object: left, top, right, bottom in pixels (right and bottom exclusive), class number.
        crowds: for each sample, which boxes are around many objects; ``None``: none.
        masks: for each sample, one object number a pixel (0 is background); object k is row k - 1 of ``boxes``.
        parts: for each sample, one part number a pixel (0 is none).
        keypoints: for each sample, one row a point: x, y in pixels, visible (0 or 1).
        groups: which samples belong together (a video, a person); -1 where none.
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
        """What is known of these rows, in their order; nothing lazy is read."""

        def some(items: Sequence[np.ndarray] | None) -> Sequence[np.ndarray] | None:
            if items is None or isinstance(items, LazySequence):
                return None if items is None else items.at(rows)
            return [items[int(row)] for row in rows]

        return replace(
            self,
            labels=None if self.labels is None else self.labels[rows],
            attributes={name: column[rows] for name, column in self.attributes.items()},
            boxes=some(self.boxes),
            crowds=some(self.crowds),
            masks=some(self.masks),
            parts=some(self.parts),
            keypoints=some(self.keypoints),
            groups=None if self.groups is None else self.groups[rows],
        )


@runtime_checkable
class Source(Protocol):
    """A data set. It pickles, so that worker processes can read it.

    Attributes:
        spec: what it was opened from.
        fingerprint: changes when the data do.
        shape: height and width in pixels of what ``read`` returns; the same for every batch.
        names: one name a sample (a relative path, a row), distinct, always valid UTF-8.
        bad: samples that could not be read and were replaced: (name, reason), each once.
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
        """Pictures of these rows, in their order."""
        ...

    def truth(self, rows: Rows) -> Truth:
        """What is known of these rows. Only measures may ask."""
        ...


def sample_rows(n: int, limit: int, seed: int) -> Rows:
    """``limit`` of ``n`` rows drawn without replacement by the seed, in ascending order; all of them if there are no more.

    A pure function of its arguments: files are often sorted by class, so the first rows would be a poor sample.
    """
    from selfsight.core.clock import key

    if limit >= n:
        return np.arange(n)
    generator = np.random.Generator(np.random.PCG64(key(seed, n, limit)))
    return np.sort(generator.choice(n, size=limit, replace=False))


class Subset:
    """Some rows of a source, as a source of its own: row ``i`` here is row ``rows[i]`` there."""

    def __init__(self, source: Source, rows: Rows) -> None:
        self.source, self.rows = source, np.asarray(rows, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def spec(self) -> str:
        return self.source.spec

    @property
    def shape(self) -> tuple[int, int]:
        return self.source.shape

    @property
    def fingerprint(self) -> str:
        from hashlib import sha256

        return sha256(self.source.fingerprint.encode() + self.rows.tobytes()).hexdigest()[:16]

    @property
    def names(self) -> Sequence[str]:
        return LazySequence(self.source.names.__getitem__, self.rows)

    @property
    def bad(self) -> Sequence[tuple[str, str]]:
        mine = set(self.names) if self.source.bad else set()
        return [(name, reason) for name, reason in self.source.bad if name in mine]

    def read(self, rows: Rows) -> Batch:
        """Pictures of these rows of the subset, numbered as the subset numbers them."""
        return replace(self.source.read(self.rows[rows]), index=np.asarray(rows, dtype=np.int64))

    def truth(self, rows: Rows) -> Truth:
        """What is known of these rows of the subset."""
        return self.source.truth(self.rows[rows])
