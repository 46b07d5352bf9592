"""User edits of items and clusters: tags, notes, names. Stored in SQLite with a history, so that every edit can be undone."""

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selfsight.core.errors import DataError, EnvironmentFault, SelfsightError, UsageError
from selfsight.core.files import free_bytes, is_disk_full
from selfsight.core.json_text import json_text

__all__ = ["Edits"]

KINDS = ("tag", "note", "cluster_name", "cluster_merge")
LETTERS, SUBJECTS = 2000, 1_000_000
"""Maximum length of a value; maximum number of items per edit."""
TABLES = """
create table if not exists said (kind text not null, subject integer not null, value text not null, primary key (kind, subject));
create table if not exists history (number integer primary key autoincrement, at real not null, kind text not null, change text not null,
    undone integer not null default 0);
"""


class Edits:
    """The edits of one data set.

    Args:
        path: the file; it is created by the first edit.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._lock = path, threading.Lock()
        self._base: sqlite3.Connection | None = None

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """The database in a transaction, which is undone by an error.

        Raises:
            EnvironmentFault: the disk is full, the file cannot be written or read, or another process uses it.
            DataError: the file is damaged.
        """
        with self._lock:
            try:
                if self._base is None:
                    self.path.parent.mkdir(parents=True, exist_ok=True)
                    self._base = sqlite3.connect(self.path, check_same_thread=False)
                    self._base.executescript(TABLES)
                with self._base as base:
                    yield base
            except (sqlite3.Error, OSError) as error:
                self.close()  # it is opened again by the next edit
                raise _fault(self.path, error) from error

    @property
    def _empty(self) -> bool:
        return self._base is None and not self.path.is_file()

    def values(self, kind: str) -> dict[int, str]:
        """Values by subject (row of an item, or index of a cluster)."""
        _check(kind)
        if self._empty:
            return {}
        with self._opened() as base:
            return {int(subject): value for subject, value in base.execute("select subject, value from said where kind = ?", (kind,))}

    def set(self, kind: str, subjects: list[int], value: str) -> int:
        """Set a value for some subjects; an empty value removes it.

        Args:
            kind: kind of edit.
            subjects: rows of items or indices of clusters.
            value: the text.

        Returns:
            The number of the edit.

        Raises:
            UsageError: the kind, a subject or the value is invalid.
            EnvironmentFault: it cannot be stored; earlier edits are unchanged.
        """
        _check(kind)
        if (
            not subjects
            or len(subjects) > SUBJECTS
            or any(isinstance(one, bool) or not isinstance(one, int) or one < 0 for one in subjects)
        ):
            raise UsageError("The subjects of the edit are missing.", "Give rows of items, or numbers of clusters.")
        if len(value) > LETTERS or "\x00" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
            raise UsageError("The text is too long or invalid.", f"Use at most {LETTERS} characters.")
        with self._opened() as base:
            before = {one: self._value(base, kind, one) for one in subjects}
            self._set(base, kind, dict.fromkeys(subjects, value))
            change = json_text({"before": list(before.items()), "value": value})
            base.execute("delete from history where undone = 1")  # a new edit discards undone edits
            done = base.execute("insert into history (at, kind, change) values (?, ?, ?)", (time.time(), kind, change))
            return int(done.lastrowid or 0)

    def undo(self) -> str | None:
        """Undo the last edit; returns its kind, or ``None`` if there is none."""
        return self._apply("select number, kind, change from history where undone = 0 order by number desc limit 1", undone=True)

    def redo(self) -> str | None:
        """Redo the last undone edit; returns its kind, or ``None``."""
        return self._apply("select number, kind, change from history where undone = 1 order by number limit 1", undone=False)

    def _apply(self, query: str, *, undone: bool) -> str | None:
        with self._opened() as base:
            found = base.execute(query).fetchone()
            if found is None:
                return None
            number, kind, change = found
            content = json.loads(change)
            values = {subject: value if undone else content["value"] for subject, value in content["before"]}
            self._set(base, kind, values)
            base.execute("update history set undone = ? where number = ?", (int(undone), number))
            return str(kind)

    def history(self, most: int = 50) -> list[dict[str, Any]]:
        """The last edits, newest first."""
        if self._empty:
            return []
        with self._opened() as base:
            rows = base.execute("select number, at, kind, change, undone from history order by number desc limit ?", (most,)).fetchall()
        return [
            {
                "number": number,
                "at": at,
                "kind": kind,
                "value": json.loads(change)["value"],
                "of": len(json.loads(change)["before"]),
                "undone": bool(undone),
            }
            for number, at, kind, change, undone in rows
        ]

    def close(self) -> None:
        """Close the file."""
        if self._base is not None:
            self._base.close()
            self._base = None

    @staticmethod
    def _value(base: sqlite3.Connection, kind: str, subject: int) -> str:
        found = base.execute("select value from said where kind = ? and subject = ?", (kind, subject)).fetchone()
        return found[0] if found else ""

    @staticmethod
    def _set(base: sqlite3.Connection, kind: str, values: dict[int, str]) -> None:
        base.executemany("delete from said where kind = ? and subject = ?", [(kind, subject) for subject in values])
        given = [(kind, subject, value) for subject, value in values.items() if value]
        base.executemany("insert into said (kind, subject, value) values (?, ?, ?)", given)


def _fault(path: Path, error: sqlite3.Error | OSError) -> SelfsightError:
    """An error of the database in words."""
    name = str(getattr(error, "sqlite_errorname", "")).removeprefix("SQLITE_")
    if name.startswith(("CORRUPT", "NOTADB")):
        return DataError(
            f"The edits in {path} cannot be read: {error}.", "Restore the file from a copy, or move it away to begin without edits."
        )
    if name.startswith(("BUSY", "LOCKED")):
        return EnvironmentFault(f"The edits in {path} are in use by another process.", "Try again, or stop the other explorer.")
    if name.startswith(("FULL", "IOERR")) or is_disk_full(error):
        cause = f"The edit cannot be stored in {path}: {error}; {free_bytes(path.parent):,} bytes are free."
        return EnvironmentFault(cause, "Free disk space, and repeat the edit; earlier edits are kept.")
    return EnvironmentFault(
        f"The edits in {path} cannot be read or stored: {error}.", "Allow this user to write to the folder; earlier edits are kept."
    )


def _check(kind: str) -> None:
    if kind not in KINDS:
        raise UsageError(f"There is no kind of edit {kind!r}.", f"Kinds are: {', '.join(KINDS)}.")
