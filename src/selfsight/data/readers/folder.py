"""A folder of images, nested to any depth; sub-folders of the first level are classes if every image lies in one."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

import numpy as np

from selfsight.core.cache import digest
from selfsight.core.errors import DataError
from selfsight.data.decode import Payload, Unreadable
from selfsight.data.listing import Annotations, display
from selfsight.data.source import Rows, Truth

__all__ = ["IMAGE_SUFFIXES", "FolderListing", "class_folders"]

IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".jp2", ".avif", ".ico")
)
"""Suffixes of candidate files; whether they are images is decided by their content."""

_TEXTS = (".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".md", ".html", ".yaml", ".yml", ".py", ".cls", ".svg", ".pdf")
_OTHERS = frozenset((*_TEXTS, ".npy", ".npz", ".pt", ".pth", ".zip", ".gz", ".tar", ".parquet", ".mp4", ".wav"))
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*")

_HIDDEN = "hidden files"

Found = tuple[str, int, int]


class FolderListing:
    """All images below a folder, sorted by path.

    Args:
        root: the folder.
        spec: the user's name for it.

    Raises:
        DataError: there are no images; the message counts what was found instead.
    """

    def __init__(self, root: Path, spec: str) -> None:
        self.root, self.spec = os.path.realpath(root), spec
        skipped: Counter[str] = Counter()
        found = sorted(_scan(self.root, skipped))
        if not found:
            raise DataError(f"There are no images in {display(str(root))}.", _reasons(skipped))
        self.skipped = {kind: count for kind, count in skipped.items() if kind != _HIDDEN}
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
    """Relative path, size and time of every candidate file. A folder is visited once, even if several links lead to it."""
    pending, seen = [""], set()
    while pending:
        folder = pending.pop()
        try:
            state = os.stat(os.path.join(root, folder))  # noqa: PTH116, PTH118 - a million entries: strings, not Paths
            if (state.st_dev, state.st_ino) in seen:
                skipped["links to a folder seen before"] += 1
                continue
            seen.add((state.st_dev, state.st_ino))
            with os.scandir(os.path.join(root, folder)) as entries:  # noqa: PTH118
                ordered = sorted(entries, key=lambda entry: entry.name)
        except OSError as problem:
            skipped[f"unreadable folders ({problem.strerror or problem})"] += 1
            continue
        for entry in ordered:
            relative = f"{folder}/{entry.name}" if folder else entry.name
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                skipped[_HIDDEN] += 1
            elif _is_folder(entry):
                pending.append(relative)
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
            skipped[extension or "files without an ending"] += 1
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
        return "The folder is empty: use a folder with images in it or below it."
    return "Found instead: " + ", ".join(f"{count} {_kind(reason)}" for reason, count in skipped.most_common(8)) + "."


def _kind(reason: str) -> str:
    return f"files that are not images ({reason})" if reason.startswith(".") else reason


def class_folders(names: Sequence[str]) -> Truth:
    """Labels from the first part of each path, if every image lies in a sub-folder and there are at least two."""
    folders = [PurePath(name).parts[0] if "/" in name else "" for name in names]
    classes = sorted(set(folders))
    if len(classes) < 2 or "" in classes:
        return Truth()
    number = {name: index for index, name in enumerate(classes)}
    return Truth(labels=np.array([number[folder] for folder in folders], dtype=np.int64), classes=tuple(classes))
