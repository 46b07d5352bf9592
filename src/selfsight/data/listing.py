"""Listings: names, encoded bytes and ground truth of a data set before decoding."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

from selfsight.core.cache import digest
from selfsight.data.decode import Payload, Unreadable
from selfsight.data.source import LazySequence, Rows, Truth

__all__ = ["Annotations", "Listing", "ListingSubset", "display"]


@dataclass(frozen=True)
class Annotations:
    """Ground truth of a listing.

    Attributes:
        truth: in pixels of the original images.
        fractions: whether boxes are fractions of the image's width and height instead of pixels (YOLO).
    """

    truth: Truth = field(default_factory=Truth)
    fractions: bool = False

    def take(self, rows: Rows) -> "Annotations":
        """The annotations of these rows."""
        return replace(self, truth=self.truth.take(rows))


@runtime_checkable
class Listing(Protocol):
    """Encoded images in a fixed order. It can be pickled."""

    spec: str
    fingerprint: str
    annotations: Annotations

    @property
    def names(self) -> Sequence[str]: ...

    def payloads(self, rows: Rows) -> Iterator[Payload | Unreadable]:
        """Data to decode for these rows, in their order; ascending rows are read fastest."""
        ...


class ListingSubset:
    """Some rows of a listing, as a listing.

    Args:
        listing: the full listing.
        rows: its rows.
        annotations: annotations of the full listing, if not its own.
    """

    def __init__(self, listing: Listing, rows: Rows, annotations: Annotations | None = None) -> None:
        self.listing, self.rows, self.spec = listing, rows, listing.spec
        self.annotations = (annotations or listing.annotations).take(rows)
        self.fingerprint = digest((listing.fingerprint, rows.tobytes()))

    @property
    def names(self) -> Sequence[str]:
        return LazySequence(self.listing.names.__getitem__, self.rows)

    def payloads(self, rows: Rows) -> Iterator[Payload | Unreadable]:
        return self.listing.payloads(self.rows[rows])


def display(name: str) -> str:
    r"""A file name as valid UTF-8: bytes of another encoding are written ``\xff``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
