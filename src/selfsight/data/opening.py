"""Open any data set by its name."""

import difflib
import glob as globbing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import cast

import numpy as np

from selfsight.core.errors import DataError, UsageError
from selfsight.data.listing import Listing, ListingSubset, display
from selfsight.data.readers.table import FILE_READERS, READERS
from selfsight.data.skipped import SkipsFiles, report_skipped
from selfsight.data.source import Source, Subset, readable, sample_rows
from selfsight.data.spec import Spec, nearest

__all__ = ["FORMS", "open_source", "parse", "scan_once", "typical_side"]

Progress = Callable[[int, int], object]
FORMS = "; ".join(entry.summary for entry in (*FILE_READERS.values(), *READERS.values()))
"""All kinds of data sets, for help texts."""


def parse(text: str) -> Spec:
    """Parse a spec. An existing file or folder is a path, even if its name contains ``:`` or ``?``."""
    if Path(text).exists():
        return Spec(text, "path", text, {})
    name, mark, tail = text.rpartition("?")
    options = dict(part.split("=", 1) for part in tail.split("&") if "=" in part) if mark and "=" in tail else {}
    name = name if options else text
    scheme, colon, rest = name.partition(":")
    if name in READERS:
        return Spec(text, name, "", options)
    return Spec(text, scheme, rest, options) if colon and scheme in READERS else Spec(text, "path", name, options)


def open_source(
    spec: str | Path,
    *,
    limit: int | None = None,
    seed: int = 0,
    size: int | None = None,
    cache: Path | None = None,
    truth: str | Path | None = None,
    where: str = "",
    replace_unreadable: bool = False,
    progress: Progress | None = None,
) -> Source:
    """Open a data set; unreadable files are left out and listed in ``bad``.

    Args:
        spec: a folder; a ``.tar`` or ``.parquet`` file or several by glob; ``digits``; ``photo:astronaut?count=10000``;
            ``torchvision:CIFAR10?root=DIR&train=true``; ``hf:OWNER/NAME?split=train``;
            ``world:shapes?preset=learnable&count=10000&size=32&seed=0&split=train``.
        limit: maximum number of items, sampled at random; all by default.
        seed: seed of that sample.
        size: training size in pixels. Files are packed with a longest side of 4/3 of it (299 by default); worlds are rendered in it.
        cache: folder of packs; by default ``$SELFSIGHT_CACHE`` or ``~/.cache/selfsight``.
        truth: ground truth of a folder or archive: a CSV table, COCO JSON, a folder of VOC XML, YOLO text or masks.
        where: keep items with these attributes, as ``licence=cc0|by,people=0``; also an option of the spec.
        replace_unreadable: for training: keep a sample for each unreadable file, with the pixels and annotations of the next readable one.
        progress: called with (done, all) while a pack is built.

    Raises:
        UsageError: the spec or an option is invalid.
        DataError: there is no such data set, or more than a tenth of its images cannot be read.
        MissingExtra: ``hf:`` without the package datasets.
        EnvironmentFault: the cache cannot be written.
    """
    parsed = parse(str(spec))
    if limit is not None and limit < 1:
        raise UsageError(f"A limit of {limit} items is not possible.", "Use 1 or more.")
    if parsed.scheme in READERS.having("generated"):
        return _made(parsed, size, limit, seed, annotated=truth is not None or bool(where))
    packed = _packed(_with_truth(_listing(parsed), truth, where or parsed.options.get("where", "")), size, limit, seed, cache, progress)
    return packed if replace_unreadable else readable(packed)


def _made(spec: Spec, size: int | None, limit: int | None, seed: int, *, annotated: bool) -> Source:
    """A source without files."""
    if annotated:
        raise UsageError(f"{spec.text} has its own ground truth.", "Use truth and where with folders and archives only.")
    source = _generated(spec, size)
    return source if limit is None or limit >= len(source) else Subset(source, sample_rows(len(source), limit, seed))


def _generated(spec: Spec, size: int | None) -> Source:
    return cast("Source", READERS.load(spec.scheme)(spec, size))


def _packed(listing: Listing, size: int | None, limit: int | None, seed: int, cache: Path | None, progress: Progress | None) -> Source:
    """A listing, or a sample of it, with its pack."""
    from selfsight.data.pack import pack_side
    from selfsight.data.packed import PackedSource

    if limit is not None and limit < len(listing.names):
        listing = ListingSubset(listing, sample_rows(len(listing.names), limit, seed))
    return PackedSource(listing, pack_side(size), cache=cache, progress=progress)


def typical_side(spec: str | Path) -> int:
    """Median shorter side in pixels of a data set's images, from a sample of headers; used to choose a training size.

    Raises:
        UsageError: the spec is invalid.
        DataError: there is no such data set.
    """
    parsed = parse(str(spec))
    if parsed.scheme in READERS.having("generated"):
        return min(_generated(parsed, None).shape)
    from selfsight.data.pack import sample_sides

    sides = sample_sides(_listing(parsed))
    return int(np.median(sides.min(axis=1))) if len(sides) else 224


def _with_truth(listing: Listing, truth: str | Path | None, where: str) -> Listing:
    """The listing with the ground truth of a file, without the rows that the filter rejects."""
    if truth is None and not where:
        return listing
    from selfsight.data.truth import kept_rows, read_truth

    annotations = listing.annotations if truth is None else read_truth(Path(truth), list(listing.names), listing.annotations)
    rows = np.arange(len(listing.names))
    if where:
        rows = kept_rows(annotations.truth, where, len(rows))
        if not len(rows):
            raise DataError(f"No image of {listing.spec} fulfils {where!r}.", "Use a less strict filter.")
    return ListingSubset(listing, rows, annotations)


_SCANS: ContextVar[dict[str, Listing] | None] = ContextVar("_SCANS", default=None)


@contextmanager
def scan_once() -> Iterator[None]:
    """Inside a ``with`` block, scan each folder, archive or hub once, even if it is opened several times by the same name."""
    outer = _SCANS.get()
    mark = _SCANS.set({} if outer is None else outer)
    try:
        yield
    finally:
        _SCANS.reset(mark)


def _listing(spec: Spec) -> Listing:
    """The listing of a data set, cached inside ``scan_once``."""
    scans = _SCANS.get()
    if scans is None:
        return _scan(spec)
    if spec.text not in scans:
        scans[spec.text] = _scan(spec)
    return scans[spec.text]


def _scan(spec: Spec) -> Listing:
    if spec.scheme in READERS:
        return cast("Listing", READERS.load(spec.scheme)(spec, None))
    spec.allow("where")
    path = Path(spec.name).expanduser()
    if path.is_dir():
        return _reported(FILE_READERS.load("folder")(spec, [path]))
    paths = [path] if path.is_file() else sorted(Path(found) for found in globbing.glob(str(path), recursive=True))  # noqa: PTH207 - absolute patterns too
    if not paths:
        raise _unknown(spec, path)
    endings = {path.suffix.lower() for path in paths}
    for name, entry in FILE_READERS.items():
        if entry.traits and endings.issubset(entry.traits):
            return _reported(FILE_READERS.load(name)(spec, paths))
    raise UsageError(
        f"{spec.text} matches files that are not a data set: {', '.join(sorted(ending or 'no extension' for ending in endings))}.",
        f"Use {'; '.join(entry.summary for entry in FILE_READERS.values())}; for a single image use photo:PATH.",
    )


def _reported(listing: Listing) -> Listing:
    if isinstance(listing, SkipsFiles):
        report_skipped(listing.spec, listing.skipped)
    return listing


def _unknown(spec: Spec, path: Path) -> DataError | UsageError:
    scheme, colon, rest = spec.name.partition(":")
    if colon and scheme.isalpha() and len(scheme) > 1:
        hint = difflib.get_close_matches(scheme, list(READERS), n=1, cutoff=0.5)
        return UsageError(
            f"{spec.text} has an unknown scheme, {scheme!r}.",
            f"Did you mean {hint[0]}:{rest}?" if hint else f"Give {FORMS}.",
        )
    siblings = [display(entry.name) for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    return DataError(
        f"There is no {display(spec.name)}.", nearest(path.name, siblings) or nearest(spec.name, tuple(READERS)) or f"Give {FORMS}."
    )
