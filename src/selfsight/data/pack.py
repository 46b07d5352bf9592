"""Packed cache: every image of a listing decoded once, downscaled, and stored consecutively in one memory-mapped file.

A pack is a folder: ``pixels.bin`` (raw RGB planes, or JPEG if raw pixels exceed the budget), ``table.npy`` (position, size, original size
and source row of each image) and ``pack.json``. It is built in a temporary folder and moved in one step, so an existing pack is complete;
it is checked when opened, and rebuilt if it is damaged.
"""

import io
import json
import os
import shutil
import tempfile
import time
import warnings
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from jaxtyping import Int
from PIL import Image

from selfsight.core.cache import cache_folder, digest
from selfsight.core.errors import DataError, EnvironmentFault
from selfsight.core.json_text import json_text
from selfsight.data.decode import Payload, Unreadable, decode, header
from selfsight.data.listing import Listing

__all__ = [
    "BUDGET",
    "COLUMNS",
    "DEFAULT_SIDE",
    "VERSION",
    "Pack",
    "Progress",
    "cache_folder",
    "decoding_version",
    "open_pack",
    "pack_side",
    "sample_sides",
]

VERSION = 1
BUDGET = 20 * 10**9
"""Maximum bytes on disk of the raw form of one pack."""

DEFAULT_SIDE = 299
COLUMNS = ("start", "length", "height", "width", "own height", "own width", "row")
SHOWN = 10
"""Unreadable files that are named when there are too many."""
LARGEST_SHARE_BROKEN = 0.1
Progress = Callable[[int, int], object]
Form = Literal["raw", "jpeg"]
Packed = tuple[bytes, int, int, int, int]


def pack_side(size: int | None) -> int:
    """Longest side in pixels of packed images for a training size: four thirds of it, or 299 without one."""
    return DEFAULT_SIDE if size is None else -(-size * 4 // 3)


class Pack:
    """An open pack; it is pickled as its path.

    Args:
        folder: folder of the pack.

    Attributes:
        table: one row per image; for the columns see ``COLUMNS``.
        form: raw or jpeg.
        bad: (name, reason) of the unreadable images.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open()

    def _open(self) -> None:
        about = json.loads((self.folder / "pack.json").read_text())
        self.form: Form = about["form"]
        self.bad: list[tuple[str, str]] = [(name, reason) for name, reason in about["bad"]]
        self.table: Int[np.ndarray, "sample 7"] = np.load(self.folder / "table.npy", allow_pickle=False)
        self.bytes = np.memmap(self.folder / "pixels.bin", dtype=np.uint8, mode="r")
        if about["version"] != VERSION or about["bytes"] != len(self.bytes) or about["check"] != _check(self.table, self.bytes):
            raise ValueError("the pack is damaged")
        self.shape: tuple[int, int] = (int(self.table[:, 2].max()), int(self.table[:, 3].max()))
        self.uniform = bool((self.table[:, 2:4] == self.shape).all())

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Images of these rows (row x 3 x H x W), padded with zeros on the right and below."""
        entries = self.table[rows]
        if self.form == "raw" and self.uniform:
            size = 3 * self.shape[0] * self.shape[1]
            return self.bytes.reshape(-1, 3, *self.shape)[entries[:, 0] // size]
        out = np.zeros((len(rows), 3, *self.shape), dtype=np.uint8)
        for index, (start, length, height, width, *_) in enumerate(entries.tolist()):
            encoded = self.bytes[start : start + length]
            pixels = encoded.reshape(3, height, width) if self.form == "raw" else decode(encoded.tobytes())[0]
            out[index, :, :height, :width] = pixels
        return out

    def __getstate__(self) -> dict[str, Path]:
        return {"folder": self.folder}

    def __setstate__(self, state: dict[str, Path]) -> None:
        self.folder = state["folder"]
        self._open()


def _check(table: np.ndarray, content: np.ndarray) -> int:
    """A cheap checksum of the table and of 64 blocks spread over the pixels; it detects holes and truncation."""
    state = zlib.crc32(np.ascontiguousarray(table).tobytes())
    for start in np.linspace(0, max(len(content) - 65536, 0), 64, dtype=np.int64):
        state = zlib.crc32(content[start : start + 65536].tobytes(), state)
    return state


def open_pack(listing: Listing, side: int, *, cache: Path | None = None, budget: int = BUDGET, progress: Progress | None = None) -> Pack:
    """The pack of a listing, built if it is missing or damaged.

    Args:
        listing: images to pack.
        side: longest side in pixels; smaller images keep their exact pixels.
        cache: see ``cache_folder``.
        budget: maximum bytes of the raw form; above it images are stored as JPEG.
        progress: called with (images done, images) from time to time.

    Raises:
        DataError: more than a tenth of the images cannot be read.
        EnvironmentFault: the cache cannot be written.
    """
    folder = cache_folder(cache) / "packs" / digest((listing.fingerprint, f"{side} {decoding_version(listing)} {budget}"))
    if pack := _open_intact(folder):
        return pack
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _sweep(folder.parent)
        building = Path(tempfile.mkdtemp(prefix="building-", dir=folder.parent))
        try:
            _build(listing, side, building, budget, progress)
            return _move(building, folder)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    except OSError as problem:
        raise EnvironmentFault(
            f"The packed cache cannot be written below {folder.parent}: {problem.strerror or problem}.",
            "Free disk space, or set another folder with SELFSIGHT_CACHE.",
        ) from problem


def decoding_version(listing: Listing) -> int:
    """Version of the decoder that made the pixels of a data set, as a part of its fingerprint.

    Version 1 turned TIFF files with an orientation tag twice; all other files are read as before, and keep their packs, banks and runs.

    Args:
        listing: the images.
    """
    return 2 if any(name.lower().endswith((".tif", ".tiff")) for name in listing.names) else 1


def _open_intact(folder: Path) -> Pack | None:
    try:
        return Pack(folder)
    except (OSError, ValueError, KeyError, TypeError, IndexError, EOFError):
        return None


def _move(building: Path, folder: Path) -> Pack:
    """Move a finished pack to its folder; another process may have been faster, or a damaged pack may be there."""
    if folder.exists() and (pack := _open_intact(folder)):
        return pack
    if folder.exists():
        folder.rename(building.with_name(f"{building.name}-damaged"))
        shutil.rmtree(building.with_name(f"{building.name}-damaged"), ignore_errors=True)
    try:
        building.replace(folder)
    except OSError:
        if not _open_intact(folder):
            raise
    return Pack(folder)


def _sweep(folder: Path) -> None:
    """Remove temporary folders of builders that were killed more than a day ago."""
    for leftover in folder.glob("building-*"):
        if time.time() - leftover.stat().st_mtime > 86_400:
            shutil.rmtree(leftover, ignore_errors=True)


def sample_sides(listing: Listing, count: int = 64) -> Int[np.ndarray, "image 2"]:
    """Upright height and width (N, 2) in pixels of a sample of images, from their headers; unreadable ones are omitted.

    Args:
        listing: the images.
        count: maximum size of the sample, evenly spaced over the listing.
    """
    rows = np.unique(np.linspace(0, len(listing.names) - 1, count).astype(np.int64))
    found = []
    with _quiet():
        for payload in listing.payloads(rows):
            try:
                if not isinstance(payload, Unreadable):
                    image, size = header(payload)
                    found.append(size)
                    if image is not payload:
                        image.close()
            except Unreadable:
                continue
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def _quiet() -> warnings.catch_warnings:
    """Suppress Pillow's warnings: errors are recorded in ``bad``, and decompression bombs are rejected."""
    return warnings.catch_warnings(action="ignore")


def _form(listing: Listing, side: int, budget: int) -> Form:
    sizes = sample_sides(listing)
    if not len(sizes):
        return "raw"
    shrink = np.minimum(1.0, side / sizes.max(axis=1))
    return "raw" if len(listing.names) * float((3 * sizes.prod(axis=1) * shrink**2).mean()) <= budget else "jpeg"


def _build(listing: Listing, side: int, folder: Path, budget: int, progress: Progress | None) -> None:
    count = len(listing.names)
    form = _form(listing, side, budget)
    table = np.zeros((count, len(COLUMNS)), dtype=np.int64)
    bad: dict[int, str] = {}
    start = 0
    with _quiet(), (folder / "pixels.bin").open("wb") as file:
        for row, packed in enumerate(_decoded(listing, side, form)):
            if isinstance(packed, Unreadable):
                bad[row] = str(packed)
                if len(bad) >= SHOWN:
                    _refuse_many(listing, bad)
            else:
                content, *sizes = packed
                table[row] = (start, len(content), *sizes, row)
                start += len(content)
                file.write(content)
            if progress and (row % 64 == 63 or row == count - 1):
                progress(row + 1, count)
        _refuse_many(listing, bad)
        _flush(file)
    for row in sorted(bad, reverse=True):  # descending: consecutive bad rows take the next readable one
        table[row] = table[(row + 1) % count] if row + 1 < count else table[min(set(range(count)) - set(bad))]
    _describe(folder, table, form, [(listing.names[row], reason) for row, reason in sorted(bad.items())])


def _describe(folder: Path, table: np.ndarray, form: Form, bad: list[tuple[str, str]]) -> None:
    content = np.memmap(folder / "pixels.bin", dtype=np.uint8, mode="r")
    with (folder / "table.npy").open("wb") as file:
        np.save(file, table)
        _flush(file)
    about: dict[str, Any] = {"version": VERSION, "form": form, "bytes": len(content), "check": _check(table, content), "bad": bad}
    (folder / "pack.json").write_text(json_text(about))


def _flush(file: BinaryIO | io.BufferedWriter) -> None:
    file.flush()
    os.fsync(file.fileno())


def _refuse_many(listing: Listing, bad: dict[int, str]) -> None:
    count = len(listing.names)
    if len(bad) <= LARGEST_SHARE_BROKEN * count:
        return
    lines = "\n".join(f"  {listing.names[row]!r}: {reason}" for row, reason in sorted(bad.items())[:SHOWN])
    raise DataError(
        f"More than a tenth of the {count} images in {listing.spec} cannot be read; the first {min(len(bad), SHOWN)}:\n{lines}",
        "Remove or repair them.",
    )


def _decoded(listing: Listing, side: int, form: Form) -> Iterator[Packed | Unreadable]:
    """Every image in order, decoded by two threads that stay a few images ahead."""
    ahead: deque[Future[Packed | Unreadable]] = deque()
    with ThreadPoolExecutor(2, thread_name_prefix="decode") as pool:
        try:
            for payload in listing.payloads(np.arange(len(listing.names))):
                ahead.append(pool.submit(_decode_one, payload, side, form))
                if len(ahead) >= 16:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for waiting in ahead:
                waiting.cancel()


def _decode_one(payload: Payload | Unreadable, side: int, form: Form) -> Packed | Unreadable:
    if isinstance(payload, Unreadable):
        return payload
    try:
        pixels, own = decode(payload, side)
    except Unreadable as problem:
        return problem
    _, height, width = pixels.shape
    if form == "raw":
        return pixels.tobytes(), height, width, *own
    buffer = io.BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0)).save(buffer, "JPEG", quality=92)
    return buffer.getvalue(), height, width, *own
