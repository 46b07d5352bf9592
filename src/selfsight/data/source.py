"""Data sets: images by row, and, apart from them, the truth that only measures may read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from jaxtyping import Float, Int, Integer, UInt8

__all__ = ["Batch", "Rows", "Source", "Truth"]

Rows = Integer[np.ndarray, "row"]


@dataclass(frozen=True)
class Batch:
    """Pictures as they are read. No label is here.

    Attributes:
        images: height x width pixels, three channels last-but-two (channel first); padded on the right and below where pictures differ.
        index: which samples of the source these are.
        extent: true height and width of each picture in pixels, from the top left corner; ``None``: nothing is padded.
        companions: what came with the pictures (sound, flow, text), one row a picture.
    """

    images: UInt8[np.ndarray, "batch channel height width"]
    index: Int[np.ndarray, "batch"]
    extent: Int[np.ndarray, "batch 2"] | None = None
    companions: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Truth:
    """What is known of some samples: whatever there is. ``None`` or empty: unknown.

    Attributes:
        labels: class numbers; -1 where unknown.
        classes: names of the classes.
        attributes: named columns, one value a sample.
        boxes: for each sample, one row an object: left, top, right, bottom in pixels, class number.
        masks: for each sample, one object number a pixel (0 is background); for each object see ``boxes``.
        parts: for each sample, one part number a pixel (0 is none).
        keypoints: for each sample, one row a point: x, y in pixels, visible (0 or 1).
        groups: which samples belong together (a video, a person); -1 where none.
    """

    labels: Int[np.ndarray, "batch"] | None = None
    classes: tuple[str, ...] = ()
    attributes: Mapping[str, np.ndarray] = field(default_factory=dict)
    boxes: Sequence[Float[np.ndarray, "object 5"]] | None = None
    masks: Sequence[np.ndarray] | None = None
    parts: Sequence[np.ndarray] | None = None
    keypoints: Sequence[Float[np.ndarray, "point 3"]] | None = None
    groups: Int[np.ndarray, "batch"] | None = None


class Source(Protocol):
    """A data set. It pickles, so that worker processes can read it.

    Attributes:
        spec: what it was opened from.
        fingerprint: changes when the data do.
        names: one name a sample (a relative path, a row).
        bad: samples that could not be read and were replaced: (name, reason), each once.
    """

    spec: str
    fingerprint: str

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
