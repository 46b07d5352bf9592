"""Heavy work (an attribution, an inversion, a unit's picture) in a process of its own: a queue, progress, cancel, and results kept on disk."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["WAITING", "Job", "Jobs", "QueueFull"]

WAITING, KEPT = 16, 500
"""Jobs that may wait; jobs that are remembered."""
PATIENT = {"OMP_WAIT_POLICY": "passive"}
"""Threads of the worker sleep while they wait for each other. Spinning is 1.5 times as fast on an idle machine; beside a training run on two
cores a maximised picture took 6 seconds so, and spinning over two minutes."""


class QueueFull(Exception):
    """Too many jobs wait."""


@dataclass
class Job:
    """Something that is worked out.

    Attributes:
        key: a digest of what was asked, which is its folder's name too.
        kind, given: what was asked.
        also: what it depends on beside that.
        state: waiting, running, done, failed or cancelled.
        words: what is being done, or why it failed.
        found: what came out, once it is done.
    """

    key: str
    kind: str
    given: Mapping[str, Any]
    also: str = ""
    state: str = "waiting"
    words: str = ""
    found: dict[str, Any] = field(default_factory=dict)

    def to_json(self, place: int = 0) -> dict[str, Any]:
        """As JSON; ``place``: how many are before it."""
        return {"job": self.key, "kind": self.kind, "state": self.state, "words": self.words, "found": self.found, "before": place}


class Jobs:
    """A queue of jobs and the one process that works on them.

    Args:
        folder: where results are kept, a folder for each job.
        worker: arguments of the Python that works (after the interpreter): it reads a job as a line of JSON and answers in lines of JSON.
        about: what results depend on beside what was asked, such as the weights.
    """

    def __init__(self, folder: Path, worker: list[str], about: str = "") -> None:
        self.folder, self.worker, self.about = folder, worker, about
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._queue: list[str] = []
        self._change = threading.Condition()
        self._process: subprocess.Popen[str] | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)
        self._thread.start()

    def submit(self, kind: str, given: Mapping[str, Any], also: str = "") -> dict[str, Any]:
        """Ask for a job, or find it where it was asked for before; ``also``: what this one depends on beside what was asked.

        Raises:
            QueueFull: too many wait.
        """
        key = hashlib.sha256(json.dumps([self.about, kind, given, also], sort_keys=True).encode()).hexdigest()[:24]
        with self._change:
            job = self._jobs.get(key)
            if job is None or job.state in ("failed", "cancelled"):
                job = Job(key, kind, given, also)
                kept = self.folder / key / "found.json"
                if kept.is_file():
                    job.state, job.found = "done", json.loads(kept.read_text())
                else:
                    if len(self._queue) >= WAITING:
                        raise QueueFull
                    self._queue.append(key)
                self._jobs[key] = job
                over = [key for key, one in self._jobs.items() if one.state not in ("waiting", "running")][: max(len(self._jobs) - KEPT, 0)]
                for old in over:
                    del self._jobs[old]
                self._change.notify_all()
            return self._plain(job)

    def status(self, key: str) -> dict[str, Any] | None:
        """How a job stands."""
        with self._change:
            job = self._jobs.get(key)
            return None if job is None else self._plain(job)

    def cancel(self, key: str) -> dict[str, Any] | None:
        """Stop a job: one that runs loses its process, which is started again for the next."""
        with self._change:
            job = self._jobs.get(key)
            if job is not None and job.state in ("waiting", "running"):
                running = job.state == "running"
                job.state, job.words = "cancelled", ""
                if key in self._queue:
                    self._queue.remove(key)
                if running and self._process is not None:
                    self._process.kill()
            return None if job is None else self._plain(job)

    def file(self, key: str, name: str) -> Path | None:
        """A file that a job wrote; only names that it told are served."""
        with self._change:
            job = self._jobs.get(key)
            told = job.found.get("files", []) if job is not None else []
        return self.folder / key / name if name in told else None

    def close(self) -> None:
        """End the process."""
        with self._change:
            self._closed = True
            if self._process is not None:
                self._process.kill()
            self._change.notify_all()
        self._thread.join(timeout=5)
        self._let_go()

    def _plain(self, job: Job) -> dict[str, Any]:
        return job.to_json(self._queue.index(job.key) + 1 if job.key in self._queue else 0)

    def _work(self) -> None:
        while True:
            with self._change:
                while not self._queue and not self._closed:
                    self._change.wait()
                if self._closed:
                    return
                job = self._jobs[self._queue.pop(0)]
                job.state, job.words = "running", "the worker starts" if self._process is None else ""
            self._run(job)

    def _run(self, job: Job) -> None:
        """Hand a job to the process and listen until it is done."""
        process = self._started()
        out = self.folder / job.key
        out.mkdir(parents=True, exist_ok=True)
        assert process.stdin is not None and process.stdout is not None  # noqa: PT018
        try:
            process.stdin.write(json.dumps({"kind": job.kind, "given": job.given, "out": str(out)}) + "\n")
            process.stdin.flush()
            for line in process.stdout:
                if self._heard(job, json.loads(line), out):
                    return
        except (OSError, ValueError) as problem:
            self._ended(job, f"the worker cannot be spoken to: {problem}")
            return
        self._ended(job, "the worker ended without a result")

    def _heard(self, job: Job, told: dict[str, Any], out: Path) -> bool:
        """Take in a line of the process; whether the job is over."""
        with self._change:
            if job.state == "cancelled":
                return "found" in told or "failed" in told
            job.words = str(told.get("words", job.words))
            if "found" in told:
                (out / "asked.json").write_text(json.dumps({"kind": job.kind, "given": job.given, "of": [self.about, job.also]}) + "\n")
                (out / "found.json").write_text(json.dumps(told["found"]) + "\n")
                job.state, job.found, job.words = "done", told["found"], ""
            elif "failed" in told:
                job.state, job.words = "failed", str(told["failed"])
            return job.state in ("done", "failed")

    def _ended(self, job: Job, words: str) -> None:
        with self._change:
            if job.state == "running":
                job.state, job.words = "failed", words
            self._let_go()

    def _let_go(self) -> None:
        """End the process and close what it was spoken to through."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            try:
                if pipe is not None:
                    pipe.close()
            except BrokenPipeError:  # what was not read any more
                continue

    def _started(self) -> "subprocess.Popen[str]":
        with self._change:
            if self._process is not None and self._process.poll() is not None:
                self._let_go()
            if self._process is None:
                self._process = subprocess.Popen(
                    [sys.executable, *self.worker],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    encoding="utf-8",
                    env={**PATIENT, **os.environ},
                )
            return self._process
