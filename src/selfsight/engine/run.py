"""Run folder: its files, locking, and status."""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import Any

from selfsight.core.cache import remove_stale, write_atomically
from selfsight.core.clock import Clock
from selfsight.core.distribute import rank
from selfsight.core.errors import DataError, EnvironmentFault, Interrupted, Preempted, ResumeMismatch, UsageError
from selfsight.core.files import disk_fault, inside, is_disk_full, read_json, read_json_lines
from selfsight.core.json_text import json_text
from selfsight.core.origin import BITWISE
from selfsight.core.serialize import differences
from selfsight.engine.checkpoint import newest_checkpoint, save_checkpoint
from selfsight.engine.lock import Lock
from selfsight.engine.observe import StepEvent
from selfsight.engine.ownership import WRITTEN, delete_run, foreign_reason, holds_something
from selfsight.engine.signals import Signals

__all__ = ["RunFolder", "Saver", "Signals"]


class RunFolder:
    """A run on disk.

    Args:
        path: path of the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = Lock(path)

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    def read(self, name: str) -> dict[str, Any]:
        """Read a JSON file of the run.

        Raises:
            UsageError: it does not exist.
            DataError: it is damaged, or lies outside of the run's folder.
        """
        file = inside(self.path, name)
        if not file.is_file():
            raise UsageError(f"{self.path} is not a run: it has no {name}.", "Use the folder that selfsight learn wrote.")
        return read_json(file, "Restore the file from a copy, or choose another --out.")

    def write(self, name: str, content: object) -> None:
        """Write a JSON file of the run atomically.

        Args:
            name: name of the file.
            content: its content.
        """
        write_atomically(self.path / name, json_text(content, indent=1) + "\n")

    @property
    def exists(self) -> bool:
        """Whether there is a run."""
        return (self.path / "config.json").is_file()

    def is_complete(self) -> bool:
        """Whether all steps are done and the weights are exported."""
        ended = (self.path / "STATUS.json").is_file() and self.read("STATUS.json").get("status") in ("finished", "collapsed")
        return ended and (self.path / "export" / "model.safetensors").is_file() and (self.path / "export" / "config.json").is_file()

    def status(self, status: str, reason: str = "", facts: Mapping[str, Any] | None = None) -> None:
        """Write the status.

        Args:
            status: running, finished, preempted, diverged, collapsed or failed.
            reason: explanation.
            facts: further fields.
        """
        if rank():
            return
        try:
            self.write("STATUS.json", {"status": status, "reason": reason} | dict(facts or {}))
        except EnvironmentFault:  # a full disk: the earlier file has a block that can be written again
            with (self.path / "STATUS.json").open("r+b") as file:
                short = json_text({"status": status, "reason": reason[:1000]} | dict(facts or {})) + "\n"
                file.write(short.encode())
                file.truncate()

    def signals(self) -> Signals:
        """Signal handling of a training in this folder: the first signal is answered and recorded at once, the second one ends the process."""

        def first(number: signal.Signals) -> None:
            if rank() == 0:
                words = f"{number.name} received: the step is finished and saved; a second signal ends the run at its last checkpoint"
                sys.stderr.write(f"{words}\n")
                self.status(
                    "preempted", f"{number.name} was received; if no step was finished after it, the last checkpoint is the latest state"
                )

        def second(number: signal.Signals) -> None:
            if rank() == 0:
                sys.stderr.write(
                    f"error: Ended at once by {number.name}; the checkpoints in {self.path} are complete.\n  {again(self.path)}\n"
                )
                self.status(
                    "preempted", f"a second signal ({number.name}) ended the run within a step; the last checkpoint is the latest state"
                )
                self._lock.release()

        return Signals(first, second)

    @contextmanager
    def held(self, *, resume: bool, overwrite: bool, take_over: bool = False) -> Iterator[None]:
        """Make the folder if there is none, and lock it for this process, inside a ``with`` block; a folder that stays empty is removed.

        Args:
            resume: continue an existing run.
            overwrite: replace an existing run.
            take_over: replace the lock of a process that cannot be checked from here.

        Raises:
            UsageError: there is a run and neither ``resume`` nor ``overwrite`` is set, it is not a run, or another process writes to it.
            EnvironmentFault: the folder cannot be made or written to.
        """
        if rank():
            yield
            return
        self.refuse(resume=resume, overwrite=overwrite)
        made = self._make()
        try:
            try:
                self._lock.take(take_over=take_over)
            except OSError as error:
                raise self._unwritable(error) from error
            for folder in (self.path, self.checkpoints, self.path / "export"):
                remove_stale(folder, exclusive=True)
            yield
        finally:
            self._lock.release()
            for folder in made:
                if folder.is_dir() and not any(folder.iterdir()):
                    folder.rmdir()

    def _make(self) -> list[Path]:
        """Make the folder with its parents; returns those that did not exist, the innermost first."""
        missing = [place for place in (self.path, *self.path.parents) if not os.path.lexists(place)]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unwritable(error) from error
        return missing

    def _unwritable(self, error: OSError) -> EnvironmentFault:
        if is_disk_full(error):
            return disk_fault(str(self.path), self.path, 1, error)
        return EnvironmentFault(
            f"{self.path} cannot be written: {error.filename or self.path}: {error.strerror or error}.", "Choose another --out."
        )

    def refuse(self, *, resume: bool, overwrite: bool) -> None:
        """Check that there is no run, or that it may be changed.

        Args:
            resume: continue an existing run.
            overwrite: replace an existing run.

        Raises:
            UsageError: there is a run and neither is set, or something else would be replaced.
        """
        if self.exists and not (resume or overwrite):
            raise UsageError(
                f"{self.path} already contains a run ({self._standing()}).",
                "Use --resume to continue it, --overwrite to replace it, or another --out.",
            )
        foreign = foreign_reason(self.path)
        if overwrite and foreign:
            raise UsageError(f"{self.path} {foreign}; --overwrite replaces runs only.", "Choose another --out; nothing was deleted.")
        if not self.exists and (files := [name for name in WRITTEN if holds_something(self.path / name)]):
            raise UsageError(
                f"{self.path} is not a run, and contains {', '.join(files)}, which a run would replace.", "Choose another --out."
            )

    def _standing(self) -> str:
        file = self.path / "STATUS.json"
        try:
            return str(read_json(file).get("status", "without a status")) if file.is_file() else "without a status"
        except DataError:
            return "its STATUS.json is damaged"

    def begin(
        self,
        config: dict[str, Any],
        origin: dict[str, Any],
        *,
        saved: dict[str, Any] | None,
        overwrite: bool,
        progress: Callable[[str], None],
    ) -> Path | None:
        """Write the run's first files, or continue the run; the folder is ``held``.

        Args:
            config: options of the run.
            origin: versions and machine.
            saved: options of the existing run that is continued; None: begin a run.
            overwrite: replace an existing run.
            progress: called with messages.

        Returns:
            The checkpoint to continue from; None to start a new run.

        Raises:
            ResumeMismatch: the run has other options.
            DataError: a file of the run or every checkpoint is damaged.
        """
        if rank():
            return newest_checkpoint(self.checkpoints, progress) if saved and self.checkpoints.is_dir() else None
        if overwrite and self.exists:
            left = delete_run(self.path)
            if left:
                progress(f"left in {self.path}, because selfsight did not write it: {', '.join(left)}")
        if saved:
            return self._again(saved, config, origin, progress)
        for name in ("metrics.jsonl", "timing.jsonl"):
            (self.path / name).write_text("")
        self.write("config.json", config)
        self.write("origin.json", origin)
        return None

    def _again(self, saved: dict[str, Any], config: dict[str, Any], origin: dict[str, Any], progress: Callable[[str], None]) -> Path | None:
        changes = differences(saved, config)
        if changes:
            raise ResumeMismatch(
                f"{self.path} was made with other options:\n  " + "\n  ".join(changes),
                "Resume with the same options (selfsight learn --repeat), or choose another --out.",
            )
        before = self.read("origin.json") if (self.path / "origin.json").is_file() else {}
        self._note_data(before, origin)
        changed = [name for name in BITWISE if before.get(name) != origin.get(name)]
        if changed:
            progress(f"the continuation will not be bitwise identical: {', '.join(changed)} changed since the start of the run")
        return newest_checkpoint(self.checkpoints, progress) if self.checkpoints.is_dir() else None

    def _note_data(self, before: dict[str, Any], origin: dict[str, Any]) -> None:
        """Record the data that the run continues with, if they are others or were not recorded; the earlier ones are kept in a list."""
        facts = {name: origin[name] for name in ("data", "images") if name in origin}
        earlier = {name: before[name] for name in facts if name in before}
        if earlier != facts:
            history = [*before.get("earlier_data", []), *([earlier] if earlier else [])]
            self.write("origin.json", (before or origin) | facts | ({"earlier_data": history} if history else {}))

    def cut(self, done: int) -> list[dict[str, Any]]:
        """Remove the records after ``done`` steps, which will be written again; returns the remaining ones."""
        kept: list[dict[str, Any]] = []
        for name in ("metrics.jsonl", "timing.jsonl"):
            file = self.path / name
            valid = [line for line in read_json_lines(file) if isinstance(step := line.get("step"), int) and step < done]
            if rank() == 0:
                write_atomically(file, "".join(f"{json_text(line)}\n" for line in valid))
            kept = valid if name == "metrics.jsonl" else kept
        return kept


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
        error = Interrupted if self.signals.caught == signal.SIGINT else Preempted
        raise error(words, again(self.folder.path))


def again(run: Path) -> str:
    """The command that continues a run.

    Args:
        run: the run's folder.
    """
    return f"Continue with: selfsight learn --repeat {quote(str(run))} --resume"
