"""Lock of a run's folder: one process writes to it."""

import json
import os
import socket
import time
from pathlib import Path
from typing import Any, Literal

from selfsight.core.errors import UsageError
from selfsight.core.json_text import json_text

__all__ = ["Lock"]

Standing = Literal["dead", "alive", "maybe", "reused", "elsewhere", "unknown"]
WAIT = 2.0
"""Seconds that a lock without content is waited for: another process may be writing it."""


class Lock:
    """The file ``.lock`` with the process that writes to a folder: number, host and start time.

    Args:
        folder: the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / ".lock"
        self._content = ""

    def take(self, *, take_over: bool = False) -> None:
        """Create the lock; that of a dead process of this host is replaced.

        Args:
            take_over: also replace the lock of a process that cannot be checked from here.

        Raises:
            UsageError: another process has it, or may have it.
        """
        content = json_text(_here())
        while not self._created(content):
            found = self._read()
            if found is None:
                continue  # released meanwhile
            standing = _standing(_parsed(found))
            if standing == "alive" or not (take_over or standing == "dead"):
                raise self._refusal(_parsed(found), standing)
            self._remove(found)
        self._content = content

    def release(self) -> None:
        """Remove the lock, if this object created it."""
        if self._content and self._read() == self._content:
            self.file.unlink(missing_ok=True)
        self._content = ""

    def _created(self, content: str) -> bool:
        try:
            handle = os.open(self.file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        try:
            os.write(handle, content.encode())
        except OSError:
            self.file.unlink(missing_ok=True)
            raise
        finally:
            os.close(handle)
        return True

    def _read(self) -> str | None:
        """Content of the lock; None if there is none."""
        ends = time.monotonic() + WAIT
        while True:
            try:
                content = self.file.read_bytes().decode("utf-8", "replace")
            except FileNotFoundError:
                return None
            if content or time.monotonic() > ends:
                return content
            time.sleep(0.05)

    def _remove(self, expected: str) -> None:
        """Remove a lock with this content; one that another process has created meanwhile stays."""
        aside = self.file.with_name(f".lock-{os.getpid()}")
        try:
            self.file.rename(aside)
        except FileNotFoundError:
            return
        if aside.read_bytes().decode("utf-8", "replace") != expected:
            aside.rename(self.file)
            return
        aside.unlink()

    def _refusal(self, holder: dict[str, Any], standing: Standing) -> UsageError:
        folder, option = self.file.parent, "If it has ended, take the lock over with --take-over; otherwise wait, or choose another --out."
        if standing == "unknown":
            return UsageError(f"{folder} has a lock ({self.file.name}) that names no process.", option)
        who = f"process {holder['pid']} on {holder['host']}"
        if standing == "elsewhere":
            return UsageError(f"{folder} is locked by {who}, which cannot be checked from {socket.gethostname()}.", option)
        if standing == "reused":
            return UsageError(f"{folder} is locked by {who}, and this number now belongs to another program.", option)
        return UsageError(
            f"{folder} is being written by {who}.", "Wait for it, or choose another --out." if standing == "alive" else option
        )


def _here() -> dict[str, Any]:
    return {"pid": os.getpid(), "host": socket.gethostname(), "start": _start(os.getpid())}


def _start(pid: int) -> str | None:
    """When a process started, as the kernel counts it; None if that is not known, empty if the process has ended without being waited for."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    return "" if fields[0] in "ZX" else f"{boot} {fields[19]}"  # fields 3 and 22 of proc(5)


def _parsed(content: str) -> dict[str, Any]:
    """The holder that a lock names; empty if it names none."""
    try:
        holder = json.loads(content)
        found = {"start": None} | holder | {"pid": int(holder["pid"]), "host": str(holder["host"])}
        return found if found["pid"] > 0 else {}
    except (ValueError, KeyError, TypeError):
        return {}


def _standing(holder: dict[str, Any]) -> Standing:
    """What is known about the holder of a lock; maybe: there is such a process, and the lock does not tell when its own started."""
    if not holder:
        return "unknown"
    if holder["host"] != socket.gethostname():
        return "elsewhere"
    try:
        os.kill(holder["pid"], 0)
    except (ProcessLookupError, OverflowError):
        return "dead"
    except PermissionError:
        pass
    start = _start(holder["pid"])
    if start == "":
        return "dead"
    if holder["start"] is None or start is None:
        return "maybe"
    return "alive" if holder["start"] == start else "reused"
