"""User edits of items and clusters: tags, notes, names. Stored in SQLite with a history, so that every edit can be undone."""

import json
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

from selfsight.core.errors import UsageError

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

    def _open(self) -> sqlite3.Connection:
        if self._base is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._base = sqlite3.connect(self.path, check_same_thread=False)
            self._base.executescript(TABLES)
        return self._base

    def values(self, kind: str) -> dict[int, str]:
        """Values by subject (row of an item, or index of a cluster)."""
        _check(kind)
        with self._lock:
            if self._base is None and not self.path.is_file():
                return {}
            return {
                int(subject): value for subject, value in self._open().execute("select subject, value from said where kind = ?", (kind,))
            }

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
        with self._lock, self._open() as base:
            before = {one: self._value(base, kind, one) for one in subjects}
            self._set(base, kind, dict.fromkeys(subjects, value))
            change = json.dumps({"before": list(before.items()), "value": value})
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
        with self._lock, self._open() as base:
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
        with self._lock:
            if self._base is None and not self.path.is_file():
                return []
            rows = self._open().execute("select number, at, kind, change, undone from history order by number desc limit ?", (most,))
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


def _check(kind: str) -> None:
    if kind not in KINDS:
        raise UsageError(f"There is no kind of edit {kind!r}.", f"Kinds are: {', '.join(KINDS)}.")
