"""What a user says of items and clusters: tags, notes, names. Kept in SQLite with its history, so that every edit can be undone."""

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
"""Of a value; items at once."""
TABLES = """
create table if not exists said (kind text not null, subject integer not null, value text not null, primary key (kind, subject));
create table if not exists history (number integer primary key autoincrement, at real not null, kind text not null, change text not null,
    undone integer not null default 0);
"""


class Edits:
    """The edits of one data set.

    Args:
        path: of the file; it is made when something is said first.
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
        """What is said of each subject (an item's row, a cluster's number)."""
        _check(kind)
        with self._lock:
            if self._base is None and not self.path.is_file():
                return {}
            return {
                int(subject): value for subject, value in self._open().execute("select subject, value from said where kind = ?", (kind,))
            }

    def set(self, kind: str, subjects: list[int], value: str) -> int:
        """Say one thing of some subjects; an empty value takes back what was said. Returns the edit's number.

        Raises:
            UsageError: the kind, a subject or the value cannot be meant.
        """
        _check(kind)
        if (
            not subjects
            or len(subjects) > SUBJECTS
            or any(isinstance(one, bool) or not isinstance(one, int) or one < 0 for one in subjects)
        ):
            raise UsageError("It is not told of what this is said.", "Give rows of items, or numbers of clusters.")
        if len(value) > LETTERS or "\x00" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
            raise UsageError("This text is too long, or is none.", f"Write {LETTERS} letters or fewer.")
        with self._lock, self._open() as base:
            before = {one: self._value(base, kind, one) for one in subjects}
            self._set(base, kind, dict.fromkeys(subjects, value))
            change = json.dumps({"before": list(before.items()), "value": value})
            base.execute("delete from history where undone = 1")  # what was undone before a new edit cannot be done again
            done = base.execute("insert into history (at, kind, change) values (?, ?, ?)", (time.time(), kind, change))
            return int(done.lastrowid or 0)

    def undo(self) -> str | None:
        """Take the last edit back; its kind, or ``None`` where there is none."""
        return self._turn("select number, kind, change from history where undone = 0 order by number desc limit 1", undone=True)

    def redo(self) -> str | None:
        """Make the last edit that was taken back again."""
        return self._turn("select number, kind, change from history where undone = 1 order by number limit 1", undone=False)

    def _turn(self, query: str, *, undone: bool) -> str | None:
        with self._lock, self._open() as base:
            found = base.execute(query).fetchone()
            if found is None:
                return None
            number, kind, change = found
            read = json.loads(change)
            values = {subject: value if undone else read["value"] for subject, value in read["before"]}
            self._set(base, kind, values)
            base.execute("update history set undone = ? where number = ?", (int(undone), number))
            return str(kind)

    def history(self, most: int = 50) -> list[dict[str, Any]]:
        """The last edits, the newest first."""
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
        """Let the file go."""
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
        raise UsageError(f"Nothing is said by {kind!r}.", f"Kinds are: {', '.join(KINDS)}.")
