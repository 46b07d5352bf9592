"""Files of a data set that are skipped: their kinds, and what would read them. Torch-free."""

import logging
from collections.abc import Mapping
from functools import lru_cache
from typing import Protocol, runtime_checkable

__all__ = ["SkipsFiles", "report_skipped"]

_REMEDIES = (
    ((".heic", ".heif"), "convert {} to JPEG, for example with heif-convert"),
    (
        (".cr2", ".cr3", ".nef", ".arw", ".dng", ".raf", ".orf", ".rw2", ".raw"),
        "develop {} to JPEG or TIFF, for example with rawtherapee-cli",
    ),
    ((".psd", ".xcf", ".exr", ".hdr", ".jxl", ".svg", ".eps", ".pdf", ".dcm"), "convert {} to PNG, for example with ImageMagick"),
    ((".mp4", ".mov", ".avi", ".mkv", ".webm"), "extract the frames of {}, for example with ffmpeg"),
    ((".zip", ".gz", ".7z", ".rar", ".bz2", ".xz"), "unpack {} first"),
    ((".tar", ".parquet"), "open {} by their own path or a pattern such as 'FOLDER/*.tar'"),
    ((".npy", ".npz", ".pt", ".h5", ".hdf5"), "load {} in Python and use selfsight.data.readers.memory.ArraySource"),
)
_SIDE_FILES = frozenset(
    (".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".md", ".html", ".yaml", ".yml", ".py", ".cls", ".db", ".ini", ".log", ".pth")
)
"""Annotations and notes that lie beside images; nobody expects them to be images."""


@runtime_checkable
class SkipsFiles(Protocol):
    """A listing that knows which files it skipped.

    Attributes:
        skipped: number of files by ending, such as ``.heic``, or by reason.
    """

    skipped: Mapping[str, int]


def report_skipped(spec: str, skipped: Mapping[str, int]) -> None:
    """Log a warning with the kinds and numbers of skipped files, and with what would read them.

    Args:
        spec: the user's name for the data set.
        skipped: number of files by ending or reason; annotation files, such as ``.json``, are not mentioned.
    """
    counts = {kind: count for kind, count in skipped.items() if kind not in _SIDE_FILES}
    if counts:
        _report(spec, tuple(sorted(counts.items())))


@lru_cache
def _report(spec: str, found: tuple[tuple[str, int], ...]) -> None:
    """Log the warning, once for files that are opened several times."""
    counts = dict(found)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in ordered[:8]) + (", …" if len(ordered) > 8 else "")
    remedies = []
    for endings, remedy in _REMEDIES:
        if present := [ending for ending in endings if ending in counts]:
            remedies.append(remedy.format(" and ".join(present)))
    total = sum(counts.values())
    text = f"{spec}: {total:,} {'file was' if total == 1 else 'files were'} skipped: {kinds}."
    if remedies:
        joined = "; ".join(remedies)
        text += f"\n{joined[0].upper()}{joined[1:]}."
    logging.getLogger("selfsight.data").warning("%s", text)
