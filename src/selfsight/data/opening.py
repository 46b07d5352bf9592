"""One function that opens any data set by what it is called."""

import difflib
import glob as globbing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from selfsight.core.errors import DataError, UsageError
from selfsight.data.listing import Listing, ListingSubset, display
from selfsight.data.source import Source, Subset, sample_rows

__all__ = ["SCHEMES", "Spec", "open_source", "parse", "scan_once", "typical_side"]

Progress = Callable[[int, int], object]
_FORMS = "a folder, a .tar, a .parquet, shards by glob, digits, photo:NAME, torchvision:NAME, hf:OWNER/NAME or world:NAME"


@dataclass(frozen=True)
class Spec:
    """A data set's name taken apart: ``scheme:name?option=value&option=value``. Paths have the scheme ``path``."""

    text: str
    scheme: str
    name: str
    options: dict[str, str]

    def allow(self, *known: str) -> None:
        """Refuse options that nobody reads.

        Raises:
            UsageError: naming the nearest known option.
        """
        for option in self.options:
            if option not in known:
                hint = nearest(option, known) or f"Known: {', '.join(known)}."
                raise UsageError(f"{self.text} has an unknown option {option!r}.", hint)

    def number(self, option: str, default: int) -> int:
        """An option as a whole number of 0 or more.

        Raises:
            UsageError: it is something else.
        """
        value = self.options.get(option, str(default))
        if not value.isdecimal():
            raise UsageError(f"{option}={value} in {self.text} is not a whole number.", f"Write for example {option}={default}.")
        return int(value)

    def flag(self, option: str, *, default: bool) -> bool:
        """An option as yes or no."""
        return self.options.get(option, str(default)).lower() in ("1", "true", "yes")


def parse(text: str) -> Spec:
    """Take a spec apart. What exists on disk is a path, whatever characters its name holds."""
    if Path(text).exists():
        return Spec(text, "path", text, {})
    name, mark, tail = text.rpartition("?")
    options = dict(part.split("=", 1) for part in tail.split("&") if "=" in part) if mark and "=" in tail else {}
    name = name if options else text
    scheme, colon, rest = name.partition(":")
    if name in SCHEMES:
        return Spec(text, name, "", options)
    return Spec(text, scheme, rest, options) if colon and scheme in SCHEMES else Spec(text, "path", name, options)


def nearest(word: str, known: tuple[str, ...] | list[str]) -> str:
    """A question that offers the known word that looks most like this one; empty if none does."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"Did you mean {close[0]}?" if close else ""


def open_source(
    spec: str | Path,
    *,
    limit: int | None = None,
    seed: int = 0,
    size: int | None = None,
    cache: Path | None = None,
    truth: str | Path | None = None,
    where: str = "",
    progress: Progress | None = None,
) -> Source:
    """Open a data set.

    Args:
        spec: a folder; a ``.tar`` or ``.parquet`` file or several by glob; ``digits``; ``photo:astronaut?count=10000``;
            ``torchvision:CIFAR10?root=DIR&train=true``; ``hf:OWNER/NAME?split=train``;
            ``world:shapes?preset=learnable&count=10000&size=32&seed=0&split=train``.
        limit: draw this many items at random by the seed.
        seed: of that draw.
        size: training size in pixels. Files are packed with a longest side of 4/3 of it (299 without it); worlds have it.
        cache: where pictures are packed; ``$SELFSIGHT_CACHE`` or ``~/.cache/selfsight`` without it.
        truth: what is known of a folder's or archive's pictures: a CSV table, COCO JSON, a folder of VOC XML, YOLO text or masks.
        where: keep items with these attributes, as ``licence=cc0|by,people=0``; also an option of the spec.
        progress: called with (done, all) while a cache is built.

    Raises:
        UsageError: the spec or an option cannot be meant.
        DataError: there is nothing there, or more than a tenth of it cannot be read.
        MissingExtra: ``hf:`` without the package datasets.
        EnvironmentFault: the cache cannot be written.
    """
    parsed = parse(str(spec))
    if limit is not None and limit < 1:
        raise UsageError(f"A limit of {limit} items leaves nothing.", "Give 1 or more.")
    if parsed.scheme in _MADE:
        return _made(parsed, size, limit, seed, told=truth is not None or bool(where))
    listing = _with_truth(_listing(parsed), truth, where or parsed.options.get("where", ""))
    return _packed(listing, size, limit, seed, cache, progress)


def _made(spec: Spec, size: int | None, limit: int | None, seed: int, *, told: bool) -> Source:
    """A source that needs no files."""
    if told:
        raise UsageError(f"{spec.text} brings its own truth.", "Give truth and where for folders and archives only.")
    source = _MADE[spec.scheme](spec, size)
    return source if limit is None or limit >= len(source) else Subset(source, sample_rows(len(source), limit, seed))


def _packed(listing: Listing, size: int | None, limit: int | None, seed: int, cache: Path | None, progress: Progress | None) -> Source:
    """A listing, or a sample of it, with its pack."""
    from selfsight.data.pack import pack_side
    from selfsight.data.packed import PackedSource

    if limit is not None and limit < len(listing.names):
        listing = ListingSubset(listing, sample_rows(len(listing.names), limit, seed))
    return PackedSource(listing, pack_side(size), cache=cache, progress=progress)


def typical_side(spec: str | Path) -> int:
    """The median shorter side in pixels of a data set's pictures, from a few headers: what a training size is chosen by.

    Raises:
        UsageError: the spec cannot be meant.
        DataError: there is nothing there.
    """
    parsed = parse(str(spec))
    if parsed.scheme in _MADE:
        return min(_MADE[parsed.scheme](parsed, None).shape)
    from selfsight.data.pack import sample_sides

    sides = sample_sides(_listing(parsed))
    return int(np.median(sides.min(axis=1))) if len(sides) else 224


def _with_truth(listing: Listing, truth: str | Path | None, where: str) -> Listing:
    """The listing with the truth of a file beside it, without the rows that the filter drops."""
    if truth is None and not where:
        return listing
    from selfsight.data.truth import kept_rows, read_truth

    annotations = listing.annotations if truth is None else read_truth(Path(truth), list(listing.names), listing.annotations)
    rows = np.arange(len(listing.names))
    if where:
        rows = kept_rows(annotations.truth, where, len(rows))
        if not len(rows):
            raise DataError(f"No picture of {listing.spec} fulfils {where!r}.", "Loosen the filter.")
    return ListingSubset(listing, rows, annotations)


_SCANS: ContextVar[dict[str, Listing] | None] = ContextVar("_SCANS", default=None)


@contextmanager
def scan_once() -> Iterator[None]:
    """Inside a ``with``, what a folder, an archive or a hub holds is listed once, however often it is opened by the same name."""
    outer = _SCANS.get()
    mark = _SCANS.set({} if outer is None else outer)
    try:
        yield
    finally:
        _SCANS.reset(mark)


def _listing(spec: Spec) -> Listing:
    """What a data set holds, before anything is decoded."""
    scans = _SCANS.get()
    if scans is None:
        return _scan(spec)
    if spec.text not in scans:
        scans[spec.text] = _scan(spec)
    return scans[spec.text]


def _scan(spec: Spec) -> Listing:
    if spec.scheme == "hf":
        from selfsight.data.readers.hub import hub_listing

        return hub_listing(spec)
    if spec.scheme == "torchvision":
        from selfsight.data.readers.hub import torchvision_listing

        return torchvision_listing(spec)
    spec.allow("where")
    path = Path(spec.name).expanduser()
    if path.is_dir():
        from selfsight.data.readers.folder import FolderListing

        return FolderListing(path, spec.text)
    paths = [path] if path.is_file() else sorted(Path(found) for found in globbing.glob(str(path), recursive=True))  # noqa: PTH207 - absolute patterns too
    if not paths:
        raise _unknown(spec, path)
    return _archive(paths, spec)


def _archive(paths: list[Path], spec: Spec) -> Listing:
    from selfsight.data.readers.archive import ParquetListing, TarListing

    endings = {path.suffix.lower() for path in paths}
    if endings == {".tar"}:
        return TarListing(paths, spec.text)
    if endings <= {".parquet", ".pq"}:
        return ParquetListing(paths, spec.text)
    raise UsageError(
        f"{spec.text} names files that are no data set: {', '.join(sorted(ending or 'no extension' for ending in endings))}.",
        "Give a folder, .tar or .parquet files; one picture alone is photo:PATH.",
    )


def _unknown(spec: Spec, path: Path) -> DataError | UsageError:
    scheme, colon, rest = spec.name.partition(":")
    if colon and scheme.isalpha() and len(scheme) > 1:
        hint = difflib.get_close_matches(scheme, list(SCHEMES), n=1, cutoff=0.5)
        return UsageError(
            f"{spec.text} names an unknown kind of data, {scheme!r}.",
            f"Did you mean {hint[0]}:{rest}?" if hint else f"Give {_FORMS}.",
        )
    beside = [display(entry.name) for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    return DataError(f"There is no {display(spec.name)}.", nearest(path.name, beside) or nearest(spec.name, SCHEMES) or f"Give {_FORMS}.")


def _digits(spec: Spec, _: int | None) -> Source:
    from selfsight.data.readers.photo import digits

    return digits(spec)


def _photo(spec: Spec, size: int | None) -> Source:
    from selfsight.data.readers.photo import PhotoSource

    spec.allow("count", "size", "seed", "crop")
    name, count, side = spec.name, spec.number("count", 10_000), spec.number("size", size or 64)
    return PhotoSource(name, count=count, size=side, seed=spec.number("seed", 0), crop=spec.flag("crop", default=True), spec=spec.text)


def _world(spec: Spec, size: int | None) -> Source:
    from selfsight.data.worlds.shapes import PRESETS, ShapesWorld

    if spec.name != "shapes":
        raise UsageError(f"There is no world {spec.name!r}.", "Did you mean world:shapes?")
    spec.allow("preset", "count", "size", "seed", "split")
    preset, split = spec.options.get("preset", "learnable"), spec.options.get("split", "train")
    if preset not in PRESETS:
        raise UsageError(f"world:shapes has no preset {preset!r}.", nearest(preset, list(PRESETS)) or f"Known: {', '.join(PRESETS)}.")
    count, side = spec.number("count", 10_000 if split == "train" else 2_000), spec.number("size", size or 32)
    return ShapesWorld(PRESETS[preset], count=count, size=side, seed=spec.number("seed", 0), split=split, spec=spec.text)


_MADE: dict[str, Callable[[Spec, int | None], Source]] = {"digits": _digits, "photo": _photo, "world": _world}
SCHEMES = ("digits", "hf", "photo", "torchvision", "world")
"""What may stand before the colon."""
