"""Digests, atomic writes, and a disk cache of values computed for batches of images."""

import os
import shutil
import socket
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from selfsight.core.files import disk_fault, is_disk_full

__all__ = [
    "Arrays",
    "AtomicFolder",
    "DiskCache",
    "append_or_restore",
    "cache_folder",
    "cache_key",
    "digest",
    "digest_of",
    "flush_to_disk",
    "remove_stale",
    "temporary_prefix",
    "write_atomically",
]

Arrays = Mapping[str, np.ndarray]
VERSION = 2
"""To be incremented when cached values are computed or stored differently, so that old ones are ignored."""


def digest(parts: Iterable[str | bytes], *, separated: bool = True, length: int = 16) -> str:
    """Hexadecimal digest (SHA-256) that changes when a part does.

    Args:
        parts: text or bytes.
        separated: whether boundaries between parts count; False for keys that version 0.1 wrote without them.
        length: number of hexadecimal digits, at most 64.
    """
    state = sha256()
    for part in parts:
        encoded = part if isinstance(part, bytes) else part.encode("utf-8", "surrogateescape")
        if separated:
            state.update(len(encoded).to_bytes(8, "little"))
        state.update(encoded)
    return state.hexdigest()[:length]


def digest_of(value: object, *, length: int = 16) -> str:
    """Hexadecimal digest of a value's ``repr``.

    Args:
        value: made of numbers, text and containers.
        length: number of hexadecimal digits, at most 64.
    """
    return digest((repr(value),), separated=False, length=length)


def cache_folder(cache: Path | None = None) -> Path:
    """Folder of everything that can be computed again: the argument, else ``$SELFSIGHT_CACHE``, else ``~/.cache/selfsight``."""
    return cache or Path(os.environ.get("SELFSIGHT_CACHE") or Path.home() / ".cache" / "selfsight")


def cache_key(*values: Any) -> str:
    """Key of a cached value: a digest of the arguments' ``repr`` and of the version of the cache."""
    return digest_of((VERSION, *values), length=20)


def temporary_prefix(pid: int | None = None) -> str:
    """Beginning of the name of a temporary file or folder, by which ``remove_stale`` recognises it.

    Args:
        pid: number of a process of this machine; None: this process.
    """
    return f".partial-{digest((socket.gethostname(),), length=8)}-{os.getpid() if pid is None else pid}-"


def remove_stale(folder: Path, *, exclusive: bool = False) -> None:
    """Delete temporary files and folders that killed processes left in a folder.

    Args:
        folder: the folder; it need not exist.
        exclusive: this process alone may write there, so that those of other machines are deleted as well.
    """
    try:
        found = sorted(folder.glob(".partial-*"))
    except OSError:
        return  # such as a folder that may not be listed; the files are left
    for path in found:
        pid = path.name.split("-")[2] if path.name.count("-") > 2 else ""
        dead = pid.isdecimal() and path.name.startswith(temporary_prefix(int(pid))) and not _runs(int(pid))
        if not (dead or exclusive):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):  # of a read-only folder
                path.unlink()


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def flush_to_disk(path: Path) -> None:
    """Wait until a file or folder is on the disk (fsync)."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that readers see either the old or the new content.

    Args:
        path: path of the file; its folder is created.
        content: text (UTF-8) or bytes.

    Raises:
        EnvironmentFault: the disk is full; an earlier file is unchanged.
        OSError: the file cannot be written for another reason.
    """
    encoded = content if isinstance(content, bytes) else content.encode()
    try:
        _replace(path, encoded)
    except OSError as error:
        if is_disk_full(error):
            raise disk_fault(str(path), path.parent, len(encoded), error) from error
        raise
    flush_to_disk(path.parent)


def _replace(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{temporary_prefix()}{path.name[:100]}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)  # only present after a failure


def append_or_restore(path: Path, text: str) -> None:
    """Append to a file, which keeps its earlier content if not all of the text can be written.

    Args:
        path: path of the file.
        text: what to append (UTF-8).

    Raises:
        OSError: the text could not be written.
    """
    with path.open("ab", buffering=0) as file:
        before, left = file.tell(), memoryview(text.encode())
        try:
            while left:
                left = left[file.write(left) :]
        except OSError:
            with suppress(OSError):  # a device has no length
                file.truncate(before)
            raise


class AtomicFolder:
    """A folder that is written under a temporary name next to its destination and moved there when complete; an earlier one is replaced.

    Used as ``with AtomicFolder(path) as folder: …; folder.commit()``; without ``commit`` nothing is left. What a killed process left next to
    the destination is deleted.

    Args:
        path: path of the folder; its parent is created.

    Attributes:
        partial: the folder to write to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_stale(path.parent)
        self.partial = Path(tempfile.mkdtemp(dir=path.parent, prefix=temporary_prefix()))

    def __enter__(self) -> "AtomicFolder":
        return self

    def commit(self, *, flush: bool = False) -> Path:
        """Move the folder to its destination, which is returned.

        Args:
            flush: wait until the files are on the disk, so that the folder is complete even after a loss of power.
        """
        for file in self.partial.rglob("*") if flush else ():
            flush_to_disk(file)
        self.partial.chmod(0o755)
        shutil.rmtree(self.path, ignore_errors=True)
        self.partial.replace(self.path)
        if flush:
            flush_to_disk(self.path.parent)
        return self.path

    def discard(self) -> None:
        """Delete what was not committed."""
        shutil.rmtree(self.partial, ignore_errors=True)

    def __exit__(self, *_: object) -> None:
        self.discard()


@dataclass(frozen=True)
class DiskCache:
    """A folder with one ``.npz`` file per batch of images and value, each written atomically.

    Attributes:
        folder: folder of one representation, data set and setting.
    """

    folder: Path

    def file(self, name: str, rows: tuple[int, ...]) -> Path:
        """Path of a cached value.

        Args:
            name: name of the value.
            rows: rows of the batch.
        """
        return self.folder / f"{name}-{rows[0]:08d}-{cache_key(rows)[:12]}.npz"

    def read(self, name: str, rows: tuple[int, ...]) -> Arrays | None:
        """A cached value; None if there is none, or its file is damaged.

        Args:
            name: name of the value.
            rows: rows of the batch.
        """
        file = self.file(name, rows)
        if not file.is_file():
            return None
        try:
            with np.load(file, allow_pickle=False) as found:
                return dict(found)
        except (ValueError, EOFError, KeyError, zipfile.BadZipFile):
            return None

    def get_or_compute(
        self, name: str, rows: tuple[int, ...], make: Callable[[], Arrays], *, fits: Callable[[Arrays], bool] = bool
    ) -> Arrays:
        """A cached value; computed and stored if there is none.

        Args:
            name: name of the value.
            rows: rows of the batch.
            make: computes the value.
            fits: whether a cached value is usable; by default if it is not empty.
        """
        found = self.read(name, rows)
        if found is not None and fits(found):
            return found
        computed, file = make(), self.file(name, rows)
        buffer = BytesIO()
        np.savez(buffer, allow_pickle=False, **computed)
        write_atomically(file, buffer.getvalue())
        return computed
