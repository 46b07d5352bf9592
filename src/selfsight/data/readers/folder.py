"""A folder of pictures, nested as it likes; sub-folders of the first level are classes if every picture lies in one."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

import numpy as np

from selfsight.core.errors import DataError
from selfsight.data.decode import Payload, Unreadable
from selfsight.data.listing import Annotations, digest, display
from selfsight.data.source import Rows, Truth

__all__ = ["IMAGE_SUFFIXES", "FolderListing", "class_folders"]

IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".jp2", ".avif", ".ico")
)
"""Endings of files that are tried; whether they are pictures is decided by their content."""

_TEXTS = (".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".md", ".html", ".yaml", ".yml", ".py", ".cls", ".svg", ".pdf")
_OTHERS = frozenset((*_TEXTS, ".npy", ".npz", ".pt", ".pth", ".zip", ".gz", ".tar", ".parquet", ".mp4", ".wav"))
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*")

Found = tuple[str, int, int]


class FolderListing:
    """All pictures below a folder, in the order of their paths.

    Args:
        root: the folder.
        spec: what the user called it.

    Raises:
        DataError: there is no picture; the message counts what there was instead.
    """

    def __init__(self, root: Path, spec: str) -> None:
        self.root, self.spec = os.path.realpath(root), spec
        skipped: Counter[str] = Counter()
        found = sorted(_scan(self.root, skipped))
        if not found:
            raise DataError(f"There is no picture in {display(str(root))}.", _reasons(skipped))
        self.skipped = dict(skipped)
        self._paths = [path for path, _, _ in found]
        self._names = [display(path) for path in self._paths]
        self.fingerprint = digest(f"{path}\0{size}\0{changed}" for path, size, changed in found)
        self.annotations = Annotations(class_folders(self._names))

    @property
    def names(self) -> Sequence[str]:
        return self._names

    def payloads(self, rows: Rows) -> Iterator[Payload | Unreadable]:
        for row in rows:
            yield Path(self.root, self._paths[row])


def _scan(root: str, skipped: Counter[str]) -> Iterator[Found]:
    """Relative path, size and time of every candidate. A folder is entered once, however many links lead to it."""
    waiting, seen = [""], set()
    while waiting:
        here = waiting.pop()
        try:
            state = os.stat(os.path.join(root, here))  # noqa: PTH116, PTH118 - a million entries: strings, not Paths
            if (state.st_dev, state.st_ino) in seen:
                skipped["links to a folder seen before"] += 1
                continue
            seen.add((state.st_dev, state.st_ino))
            with os.scandir(os.path.join(root, here)) as entries:  # noqa: PTH118
                ordered = sorted(entries, key=lambda entry: entry.name)
        except OSError as problem:
            skipped[f"unreadable folders ({problem.strerror or problem})"] += 1
            continue
        for entry in ordered:
            relative = f"{here}/{entry.name}" if here else entry.name
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                skipped["hidden files"] += 1
            elif _is_folder(entry):
                waiting.append(relative)
            elif found := _file(entry, relative, skipped):
                yield found


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _file(entry: os.DirEntry[str], relative: str, skipped: Counter[str]) -> Found | None:
    extension = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122
    try:
        if not entry.is_file():
            skipped["broken links and special files"] += 1
            return None
        if extension not in IMAGE_SUFFIXES and (extension in _OTHERS or not _looks_like_image(entry.path)):
            skipped[f"files that are no pictures ({extension or 'no extension'})"] += 1
            return None
        state = entry.stat()
    except OSError as problem:
        skipped[f"unreadable files ({problem.strerror or problem})"] += 1
        return None
    return relative, state.st_size, state.st_mtime_ns


def _looks_like_image(path: str) -> bool:
    with open(path, "rb") as file:  # noqa: PTH123
        return file.read(4).startswith(_MAGIC)


def _reasons(skipped: Counter[str]) -> str:
    if not skipped:
        return "The folder is empty: give a folder with pictures in it or below it."
    return "Found instead: " + ", ".join(f"{count} {reason}" for reason, count in skipped.most_common(8)) + "."


def class_folders(names: Sequence[str]) -> Truth:
    """Labels from the first part of each path, if every picture lies in a sub-folder and there are two or more of them."""
    firsts = [PurePath(name).parts[0] if "/" in name else "" for name in names]
    classes = sorted(set(firsts))
    if len(classes) < 2 or "" in classes:
        return Truth()
    number = {name: place for place, name in enumerate(classes)}
    return Truth(labels=np.array([number[first] for first in firsts], dtype=np.int64), classes=tuple(classes))
