"""Images that occur in two data sets, by their decoded pixels. Torch-free."""

import hashlib
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt64

from selfsight.core.cache import digest, write_atomically
from selfsight.data.source import Source

__all__ = ["content_digests", "overlapping_rows", "truth_digest"]

_BLOCK = 256


def content_digests(source: Source, cache: Path | None = None) -> UInt64[np.ndarray, " sample"]:
    """A 64-bit digest of each sample's pixels and shape without padding (BLAKE2b); 0 for unreadable files.

    Equal images at one training size have equal digests; two different ones have the same with a probability of 2^-64.

    Args:
        source: the data set.
        cache: folder of saved digests by fingerprint; None: computed anew.
    """
    file = cache / "contents" / f"{digest((source.fingerprint,))}.npy" if cache else None
    if file and file.is_file():
        saved = np.load(file, allow_pickle=False)
        if saved.shape == (len(source),) and saved.dtype == np.uint64:
            return saved
    found = np.zeros(len(source), dtype=np.uint64)
    unreadable = {name for name, _ in source.bad}
    for start in range(0, len(source), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(source)))
        batch = source.read(rows)
        for place, row in enumerate(rows):
            if unreadable and source.names[int(row)] in unreadable:
                continue
            hashed = hashlib.blake2b(digest_size=8)
            for name, values in batch.streams.items():
                content = values[place]
                if batch.extent is not None and name == "image":
                    height, width = batch.extent[place]
                    content = content[:, :height, :width]
                hashed.update(f"{name} {content.shape} {content.dtype}".encode() + np.ascontiguousarray(content).tobytes())
            found[row] = int.from_bytes(hashed.digest(), "little")
    if file:
        write_atomically(file, _encoded(found))
    return found


def _encoded(values: np.ndarray) -> bytes:
    from io import BytesIO

    buffer = BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def overlapping_rows(train: Source, test: Source, cache: Path | None = None) -> Int[np.ndarray, " row"]:
    """Rows of the test data whose pixels are those of a training sample.

    Args:
        train: the training data.
        test: the test data.
        cache: folder of saved digests; see ``content_digests``.
    """
    if train.fingerprint == test.fingerprint:
        return np.arange(len(test))
    ours, theirs = content_digests(train, cache), content_digests(test, cache)
    return np.flatnonzero(np.isin(theirs, ours) & (theirs != 0))


def truth_digest(source: Source) -> str:
    """A digest of the annotations of a data set: its fingerprint is that of the images alone.

    Of masks and part maps, at most 32 evenly spaced ones are included.

    Args:
        source: the data set.
    """
    truth = source.truth(np.arange(len(source)))
    arrays = [truth.labels, truth.groups, *(truth.boxes or ()), *(truth.crowds or ()), *(truth.keypoints or ())]
    for maps in (truth.masks, truth.parts):
        arrays += [] if maps is None else [np.asarray(maps[int(row)]) for row in np.unique(np.linspace(0, len(maps) - 1, 32).astype(int))]
    pieces: list[str | bytes] = [repr(truth.classes)]
    for values in arrays:
        pieces += ["-"] if values is None else [f"{values.shape} {values.dtype}", np.ascontiguousarray(values).tobytes()]
    for name, column in truth.attributes.items():
        pieces += [f"{name} {column.dtype}", repr(column.tolist()) if column.dtype == object else np.ascontiguousarray(column).tobytes()]
    return digest(pieces)
