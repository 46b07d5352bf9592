"""The run directory: what is in it, who may write to it, and how it stands."""

import json
import os
import shutil
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from selfsight.core.clock import Clock
from selfsight.core.distribute import any_process, rank
from selfsight.core.errors import Interrupted, Preempted, ResumeMismatch, UsageError
from selfsight.core.origin import BITWISE
from selfsight.core.serialize import differences, from_json, to_json
from selfsight.engine.checkpoint import newest_checkpoint, save_checkpoint, write_atomically
from selfsight.engine.observe import StepEvent

__all__ = ["RunFolder", "Saver", "Signals"]


class RunFolder:
    """A run on disk. Every path in it is relative to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._locked = False

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / "checkpoints"

    def read(self, name: str) -> dict[str, Any]:
        """A JSON file of the run.

        Raises:
            UsageError: it is not there.
        """
        file = self.path / name
        if not file.is_file():
            raise UsageError(f"{self.path} is not a run: it has no {name}.", "Give the folder that selfsight learn wrote.")
        return json.loads(file.read_text())

    def write(self, name: str, content: object) -> None:
        """Write a JSON file of the run, whole or not at all."""
        write_atomically(self.path / name, json.dumps(content, indent=1) + "\n")

    @property
    def exists(self) -> bool:
        """Whether there is a run."""
        return (self.path / "config.json").is_file()

    def status(self, status: str, reason: str = "", **more: Any) -> None:
        """Say how the run stands: running, finished, preempted, diverged, collapsed or failed."""
        if rank() == 0:
            self.write("STATUS.json", {"status": status, "reason": reason} | more)

    def begin(
        self, config: dict[str, Any], origin: dict[str, Any], *, resume: bool, overwrite: bool, progress: Callable[[str], None]
    ) -> Path | None:
        """Make the run's folder, or go on with it; return the checkpoint to go on from, if there is one.

        Raises:
            UsageError: there is a run and neither ``resume`` nor ``overwrite`` was asked for, or another process writes to it.
            ResumeMismatch: the run was made with other options.
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
        """Refuse to touch a run that is there, unless that was asked for.

        Raises:
            UsageError: it was not.
        """
        if self.exists and not (resume or overwrite):
            raise UsageError(
                f"{self.path} holds a run already ({self._standing()}).",
                "Use --resume to go on with it, --overwrite to replace it, or another --out.",
            )

    def _standing(self) -> str:
        file = self.path / "STATUS.json"
        return json.loads(file.read_text())["status"] if file.is_file() else "without a status"

    def _clear(self) -> None:
        """Delete a run, and nothing that is not one."""
        if any(self.path.iterdir()) and not self.exists:
            raise UsageError(f"{self.path} is not empty and not a run.", "Choose another --out; nothing was deleted.")
        shutil.rmtree(self.path)

    def _again(self, config: dict[str, Any], origin: dict[str, Any], progress: Callable[[str], None]) -> Path | None:
        changes = differences(to_json(from_json(self.read("config.json"))), config)
        if changes:
            raise ResumeMismatch(
                f"{self.path} was made with other options:\n  " + "\n  ".join(changes),
                "Resume with the same options (selfsight learn --again), or choose another --out.",
            )
        before = self.read("origin.json")
        changed = [name for name in BITWISE if before.get(name) != origin.get(name)]
        if changed:
            progress(f"the continuation will not be identical to the bit: {', '.join(changed)} changed since the run began")
        return newest_checkpoint(self.checkpoints, progress) if self.checkpoints.is_dir() else None

    def cut(self, done: int) -> list[dict[str, Any]]:
        """Cut the records after ``done`` steps, which are going to be written again; return those that stay."""
        kept: list[dict[str, Any]] = []
        for name in ("metrics.jsonl", "timing.jsonl"):
            file = self.path / name
            lines = file.read_text().splitlines() if file.is_file() else []
            whole = [line for line in lines if line.endswith("}") and json.loads(line)["step"] < done]
            if rank() == 0:
                write_atomically(file, "".join(f"{line}\n" for line in whole))
            kept = [json.loads(line) for line in whole] if name == "metrics.jsonl" else kept
        return kept

    def _lock(self) -> None:
        """Take the run for this process; a lock of a dead process on this host is taken over.

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
        """Let the run go."""
        if self._locked:
            (self.path / ".lock").unlink(missing_ok=True)


def _here() -> dict[str, Any]:
    return {"pid": os.getpid(), "host": socket.gethostname()}


def _alive(holder: dict[str, Any]) -> bool:
    if holder.get("host") != socket.gethostname():
        return True  # it cannot be asked
    try:
        os.kill(int(holder["pid"]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class Signals:
    """Turns SIGTERM and Ctrl-C into a flag that is read between steps; a second one ends at once."""

    def __init__(self) -> None:
        self.caught: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Signals":
        for name in (signal.SIGTERM, signal.SIGINT):
            try:
                self._before[name] = signal.signal(name, self._catch)
            except ValueError:  # not the main thread: signals are somebody else's affair
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
        """Whether any process was told to stop: asked of all of them, so that all stop after the same step."""
        return any_process(self.caught is not None)


class Saver:
    """Writes checkpoints as steps go by, and one more when a signal asks the run to stop."""

    def __init__(self, folder: RunFolder, signals: Signals, *, every: int, keep: int = 2) -> None:
        self.folder, self.signals, self.every, self.keep = folder, signals, every, keep

    def on_step(self, moment: StepEvent) -> None:
        """Save if it is time to.

        Raises:
            Preempted: SIGTERM came.
            Interrupted: Ctrl-C came.
        """
        done = moment.clock.step + 1
        stop = self.signals.received()
        if (stop or done % self.every == 0 or done == moment.clock.steps) and rank() == 0:
            save_checkpoint(self.folder.checkpoints, moment.method, moment.optimiser, moment.clock, keep=self.keep)
        if stop:
            self._stop(moment.clock)

    def _stop(self, clock: Clock) -> None:
        words = f"Stopped after step {clock.step + 1} of {clock.steps}; everything is saved in {self.folder.path}."
        again = f"Go on with: selfsight learn --again {self.folder.path} --resume"
        if self.signals.caught == signal.SIGINT:
            raise Interrupted(words, again)
        raise Preempted(words, again)
