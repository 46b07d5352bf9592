"""Run folder: its files, locking, and status."""

import json
import os
import shutil
import signal
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from selfsight.core.cache import write_atomically
from selfsight.core.clock import Clock
from selfsight.core.distribute import any_process, rank
from selfsight.core.errors import Interrupted, Preempted, ResumeMismatch, UsageError
from selfsight.core.origin import BITWISE
from selfsight.core.serialize import differences, from_json, to_json
from selfsight.engine.checkpoint import newest_checkpoint, save_checkpoint
from selfsight.engine.observe import StepEvent

__all__ = ["RunFolder", "Saver", "Signals"]


class RunFolder:
    """A run on disk.

    Args:
        path: path of the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._locked = False

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    def read(self, name: str) -> dict[str, Any]:
        """Read a JSON file of the run.

        Raises:
            UsageError: it does not exist.
        """
        file = self.path / name
        if not file.is_file():
            raise UsageError(f"{self.path} is not a run: it has no {name}.", "Use the folder that selfsight learn wrote.")
        return json.loads(file.read_text())

    def write(self, name: str, content: object) -> None:
        """Write a JSON file of the run atomically.

        Args:
            name: name of the file.
            content: its content.
        """
        write_atomically(self.path / name, json.dumps(content, indent=1) + "\n")

    @property
    def exists(self) -> bool:
        """Whether there is a run."""
        return (self.path / "config.json").is_file()

    def status(self, status: str, reason: str = "", facts: Mapping[str, Any] | None = None) -> None:
        """Write the status.

        Args:
            status: running, finished, preempted, diverged, collapsed or failed.
            reason: explanation.
            facts: further fields.
        """
        if rank() == 0:
            self.write("STATUS.json", {"status": status, "reason": reason} | dict(facts or {}))

    def begin(
        self, config: dict[str, Any], origin: dict[str, Any], *, resume: bool, overwrite: bool, progress: Callable[[str], None]
    ) -> Path | None:
        """Create the run's folder, or continue the run.

        Args:
            config: options of the run.
            origin: versions and machine.
            resume: continue an existing run.
            overwrite: replace an existing run.
            progress: called with messages.

        Returns:
            The checkpoint to continue from; None to start a new run.

        Raises:
            UsageError: there is a run and neither ``resume`` nor ``overwrite`` is set, or another process writes to it.
            ResumeMismatch: the run has other options.
        """
        if rank():
            return newest_checkpoint(self.checkpoints, progress) if resume and self.checkpoints.is_dir() else None
        self.refuse(resume=resume, overwrite=overwrite)
        if overwrite and self.path.exists():
            self._refuse_held()
            self._clear()
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock()
        if resume and self.exists:
            return self._again(config, origin, progress)
        for name in ("metrics.jsonl", "timing.jsonl"):
            (self.path / name).write_text("")
        self.write("config.json", config)
        self.write("origin.json", origin)
        return None

    def refuse(self, *, resume: bool, overwrite: bool) -> None:
        """Check that there is no run, or that it may be changed.

        Args:
            resume: continue an existing run.
            overwrite: replace an existing run.

        Raises:
            UsageError: there is a run and neither is set.
        """
        if self.exists and not (resume or overwrite):
            raise UsageError(
                f"{self.path} already contains a run ({self._standing()}).",
                "Use --resume to continue it, --overwrite to replace it, or another --out.",
            )

    def _standing(self) -> str:
        file = self.path / "STATUS.json"
        return json.loads(file.read_text())["status"] if file.is_file() else "without a status"

    def _clear(self) -> None:
        """Delete a run; a folder that is not a run is never deleted."""
        if any(self.path.iterdir()) and not self.exists:
            raise UsageError(f"{self.path} is not empty and not a run.", "Choose another --out; nothing was deleted.")
        shutil.rmtree(self.path)

    def _again(self, config: dict[str, Any], origin: dict[str, Any], progress: Callable[[str], None]) -> Path | None:
        changes = differences(to_json(from_json(self.read("config.json"))), config)
        if changes:
            raise ResumeMismatch(
                f"{self.path} was made with other options:\n  " + "\n  ".join(changes),
                "Resume with the same options (selfsight learn --repeat), or choose another --out.",
            )
        before = self.read("origin.json")
        changed = [name for name in BITWISE if before.get(name) != origin.get(name)]
        if changed:
            progress(f"the continuation will not be bitwise identical: {', '.join(changed)} changed since the start of the run")
        return newest_checkpoint(self.checkpoints, progress) if self.checkpoints.is_dir() else None

    def cut(self, done: int) -> list[dict[str, Any]]:
        """Remove the records after ``done`` steps, which will be written again; returns the remaining ones."""
        kept: list[dict[str, Any]] = []
        for name in ("metrics.jsonl", "timing.jsonl"):
            file = self.path / name
            lines = file.read_text().splitlines() if file.is_file() else []
            valid = [line for line in lines if line.endswith("}") and json.loads(line)["step"] < done]
            if rank() == 0:
                write_atomically(file, "".join(f"{line}\n" for line in valid))
            kept = [json.loads(line) for line in valid] if name == "metrics.jsonl" else kept
        return kept

    def _lock(self) -> None:
        """Lock the run for this process; a lock of a dead process on this host is replaced.

        Raises:
            UsageError: another process has it.
        """
        self._refuse_held()
        write_atomically(self.path / ".lock", json.dumps(_here()))
        self._locked = True

    def _refuse_held(self) -> None:
        lock = self.path / ".lock"
        holder = json.loads(lock.read_text() or "{}") if lock.is_file() else {}
        if holder and holder != _here() and _alive(holder):
            raise UsageError(
                f"{self.path} is being written by process {holder['pid']} on {holder['host']}.",
                "Wait for it, or choose another --out.",
            )

    def release(self) -> None:
        """Remove the lock."""
        if self._locked:
            (self.path / ".lock").unlink(missing_ok=True)


def _here() -> dict[str, Any]:
    return {"pid": os.getpid(), "host": socket.gethostname()}


def _alive(holder: dict[str, Any]) -> bool:
    if holder.get("host") != socket.gethostname():
        return True  # unknown
    try:
        os.kill(int(holder["pid"]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class Signals:
    """Turns SIGTERM and Ctrl-C into a flag that is read between steps; a second signal ends the process at once."""

    def __init__(self) -> None:
        self.caught: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Signals":
        for name in (signal.SIGTERM, signal.SIGINT):
            try:
                self._before[name] = signal.signal(name, self._catch)
            except ValueError:  # only the main thread can handle signals
                break
        return self

    def __exit__(self, *_: object) -> None:
        for name, handler in self._before.items():
            signal.signal(name, handler)

    def _catch(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.caught = signal.Signals(number)
        for name in self._before:
            signal.signal(name, signal.SIG_DFL)

    def received(self) -> bool:
        """Whether any process received a signal; the same on all processes, so that all stop after the same step."""
        return any_process(self.caught is not None)


class Saver:
    """Writes checkpoints at intervals, and one when a signal stops the run.

    Args:
        folder: the run.
        signals: signal flags.
        every: steps between checkpoints.
        keep: number of checkpoints to keep.
    """

    def __init__(self, folder: RunFolder, signals: Signals, *, every: int, keep: int = 2) -> None:
        self.folder, self.signals, self.every, self.keep = folder, signals, every, keep

    def on_step(self, event: StepEvent) -> None:
        """Save a checkpoint if due.

        Raises:
            Preempted: SIGTERM was received.
            Interrupted: Ctrl-C was received.
        """
        done = event.clock.step + 1
        stop = self.signals.received()
        if (stop or done % self.every == 0 or done == event.clock.steps) and rank() == 0:
            save_checkpoint(self.folder.checkpoints, event.method, event.optimiser, event.clock, keep=self.keep)
        if stop and done < event.clock.steps:
            self._stop(event.clock)

    def _stop(self, clock: Clock) -> None:
        words = f"Stopped after step {clock.step + 1} of {clock.steps}; everything is saved in {self.folder.path}."
        again = f"Continue with: selfsight learn --repeat {self.folder.path} --resume"
        if self.signals.caught == signal.SIGINT:
            raise Interrupted(words, again)
        raise Preempted(words, again)
