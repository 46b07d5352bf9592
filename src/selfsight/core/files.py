"""Reading of JSON files with errors that name the file, paths that stay in their folder, and errors of a full disk."""

import errno
import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selfsight.core.errors import DataError, EnvironmentFault

__all__ = ["disk_fault", "free_bytes", "inside", "is_disk_full", "nearest_existing", "parsing", "read_json", "read_json_lines"]

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers of a full disk, an exhausted quota, and a file above the limit of the process."""
FULL_WORDS = ("No space left", "Disk quota exceeded", "File too large", "inline_container", "requested and", "os error 28", "os error 27")
"""How torch, safetensors, numpy and the operating system name these errors in their messages."""


def is_disk_full(error: BaseException) -> bool:
    """Whether an error of the operating system, torch, safetensors or numpy means that no more bytes can be written."""
    return getattr(error, "errno", None) in FULL or any(words in str(error) for words in FULL_WORDS)


def free_bytes(folder: Path) -> int:
    """Bytes that can be written below a folder, which need not exist yet."""
    return shutil.disk_usage(nearest_existing(folder)).free


def nearest_existing(path: Path) -> Path:
    """A path itself, or the nearest folder above it that exists.

    Args:
        path: a file or folder.
    """
    return next(place for place in (path.absolute(), *path.absolute().parents) if _exists(place))


def _exists(place: Path) -> bool:
    try:
        return place.exists()
    except OSError:  # a name that is too long
        return False


def disk_fault(what: str, folder: Path, needed: int, error: BaseException, remedy: str = "") -> EnvironmentFault:
    """An error with the bytes that a file needs and those that are free.

    Args:
        what: what could not be written.
        folder: folder of the file, or below which it is to be made.
        needed: bytes of the file.
        error: the error of the writing function.
        remedy: what to do; by default to free disk space.
    """
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return EnvironmentFault(
        f"{what} could not be written: {reason}; it needs {needed:,} bytes, and {free_bytes(folder):,} are free below {folder}.",
        remedy or "Free disk space (or raise the quota), and repeat the command.",
    )


def inside(folder: Path, name: object, *, links: bool = False) -> Path:
    """The path of a file in a folder; neither ``..``, an absolute path nor a symbolic link leads out of it.

    For paths in a folder that somebody else may have written, such as a run: its files may name, or be links to, any file of this machine,
    whose content would then be shown or exported.

    Args:
        folder: the folder; it may itself be a symbolic link.
        name: path relative to the folder, as stored in a file; the file need not exist.
        links: allow symbolic links that lead out of the folder.

    Raises:
        DataError: the path leaves the folder, or is not a path.
    """
    try:
        if not isinstance(name, str | Path):
            raise TypeError  # of a damaged JSON file
        path = folder / name
        base, target = (Path(os.path.abspath(one)) for one in (folder, path)) if links else (folder.resolve(), path.resolve())  # noqa: PTH100
        if target.is_relative_to(base):
            return path
    except (OSError, RuntimeError, TypeError, ValueError):  # a loop of links, a name that is no text, a null byte
        pass
    raise DataError(
        f"{folder} refers to {str(name)[:200]!r}, which is outside of this folder or no path.",
        "It is not read. Copy the file into the folder in place of the link, or delete what refers to it.",
    )


def read_json(file: Path, remedy: str = "") -> dict[str, Any]:
    """The object in a JSON file.

    Args:
        file: path of the file.
        remedy: what to do if it is damaged.

    Raises:
        DataError: it is not UTF-8, not JSON, or not an object.
        OSError: it cannot be read.
    """
    try:
        content = json.loads(file.read_bytes().decode("utf-8"))
    except (ValueError, RecursionError) as error:  # JSON and UTF-8
        raise DataError(f"{file} is damaged: {error}.", remedy or "Restore it from a copy, or make it again.") from error
    if not isinstance(content, dict):
        raise DataError(f"{file} is damaged: it has no object, but {type(content).__name__}.", remedy or "Restore it from a copy.")
    return content


@contextmanager
def parsing(file: Path, remedy: str = "") -> Iterator[None]:
    """Turn errors that a file's unexpected content causes into one that names the file, inside a ``with`` block.

    Args:
        file: path of the file.
        remedy: what to do if it is damaged.

    Raises:
        DataError: a value is missing or of another kind.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, EOFError, ArithmeticError, zipfile.BadZipFile) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error).partition("\n")[0] or type(error).__name__
        raise DataError(f"{file} is damaged: {reason}.", remedy or "Restore it from a copy, or make it again.") from error


def read_json_lines(file: Path) -> list[dict[str, Any]]:
    """The objects in a file with one per line; empty without the file. Damaged lines are omitted, such as the last one of a killed process.

    Args:
        file: path of the file.
    """
    found = []
    for line in file.read_bytes().splitlines() if file.is_file() else ():
        try:
            content = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError):
            continue
        if isinstance(content, dict):
            found.append(content)
    return found
