"""Jobs (attributions, inversions, synthetic images) in a worker process: a queue, progress, cancellation, and results cached on disk."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selfsight.core.cache import AtomicFolder, digest, remove_stale, write_atomically
from selfsight.core.errors import DataError, SelfsightError
from selfsight.core.files import inside, read_json
from selfsight.core.json_text import json_text

__all__ = ["WAITING", "Job", "Jobs", "QueueFull", "read_result"]

WAITING, KEPT = 16, 500
"""Maximum number of waiting jobs; of jobs in memory."""
PATIENT = {"OMP_WAIT_POLICY": "passive"}
"""Worker threads sleep while they wait for each other. Spinning is 1.5 times as fast on an idle machine, but next to a training run on two
cores a maximised image took over two minutes with it, and 6 seconds without."""


def read_result(folder: Path, key: str) -> dict[str, Any] | None:
    """The stored result of a job; None if it is missing, incomplete or damaged: the job is then computed again.

    Args:
        folder: folder of results.
        key: name of the job's folder.

    Raises:
        DataError: the result, or a file that it names, is not in the job's folder.
    """
    file = inside(folder, Path(key) / "found.json")
    try:
        found = read_json(file) if file.is_file() else None
    except DataError:
        return None
    files = [] if found is None else found.get("files", [])
    present = [inside(folder / key, name).is_file() for name in (files if isinstance(files, list) else [files])]
    return found if all(present) else None


class QueueFull(Exception):
    """Too many jobs are waiting."""


@dataclass
class Job:
    """A job of the worker.

    Attributes:
        key: digest of the request, and name of the job's folder.
        kind: kind of job.
        given: arguments of the job.
        also: further state that the result depends on.
        state: waiting, running, done, failed or cancelled.
        words: progress, or the reason of a failure.
        found: the result.
        files: files that the worker reads, by name; deleted when the job is over.
    """

    key: str
    kind: str
    given: Mapping[str, Any]
    also: str = ""
    state: str = "waiting"
    words: str = ""
    found: dict[str, Any] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    def to_json(self, place: int = 0) -> dict[str, Any]:
        """For JSON; ``place`` is the position in the queue."""
        return {"job": self.key, "kind": self.kind, "state": self.state, "words": self.words, "found": self.found, "before": place}


class Jobs:
    """A queue of jobs and the worker process.

    Args:
        folder: folder of results, with a folder per job.
        worker: arguments of the Python interpreter that starts the worker: it reads a job as a line of JSON and answers in lines of JSON.
        about: state that all results depend on, such as the weights.
    """

    def __init__(self, folder: Path, worker: list[str], about: str = "") -> None:
        self.folder, self.worker, self.about = folder, worker, about
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._queue: list[str] = []
        self._change = threading.Condition()
        self._process: subprocess.Popen[str] | None = None
        self._closed = False
        remove_stale(folder)
        shutil.rmtree(folder / "uploads", ignore_errors=True)  # where version 0.1 left uploads
        self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)
        self._thread.start()

    def submit(self, kind: str, given: Mapping[str, Any], also: str = "", files: Mapping[str, bytes] | None = None) -> dict[str, Any]:
        """Submit a job, or find the job of an earlier identical request.

        Args:
            kind: kind of job.
            given: arguments of the job.
            also: further state that the result depends on.
            files: files that the worker reads, by name; they are kept in memory until the job begins, and deleted when it is over.

        Raises:
            QueueFull: too many jobs are waiting.
            DataError: the stored result is a link to a file outside of the folder, or names one.
        """
        key = digest((json_text([self.about, kind, given, also], sort_keys=True),), separated=False, length=24)
        with self._change:
            job = self._jobs.get(key)
            if job is None or job.state in ("failed", "cancelled"):
                job = Job(key, kind, given, also, files=files or {})
                if (stored := read_result(self.folder, key)) is not None:
                    job.state, job.found, job.files = "done", stored, {}
                else:
                    if len(self._queue) >= WAITING:
                        raise QueueFull
                    self._queue.append(key)
                self._jobs[key] = job
                forgotten = [key for key, one in self._jobs.items() if one.state not in ("waiting", "running")][
                    : max(len(self._jobs) - KEPT, 0)
                ]
                for old in forgotten:
                    del self._jobs[old]
                self._change.notify_all()
            return self._plain(job)

    def status(self, key: str) -> dict[str, Any] | None:
        """State of a job; ``None`` if it does not exist."""
        with self._change:
            job = self._jobs.get(key)
            return None if job is None else self._plain(job)

    def cancel(self, key: str) -> dict[str, Any] | None:
        """Cancel a job; if it is running, the worker process is killed, and restarted for the next job."""
        with self._change:
            job = self._jobs.get(key)
            if job is not None and job.state in ("waiting", "running"):
                running = job.state == "running"
                job.state, job.words, job.files = "cancelled", "", {}
                if key in self._queue:
                    self._queue.remove(key)
                if running and self._process is not None:
                    self._process.kill()
            return None if job is None else self._plain(job)

    def file(self, key: str, name: str) -> Path | None:
        """A file that a job wrote; only files listed in the result are served.

        Raises:
            DataError: it is a link to a file outside of the folder.
        """
        with self._change:
            job = self._jobs.get(key)
            files = job.found.get("files", []) if job is not None else []
        return inside(self.folder, Path(key) / name) if name in files else None

    def close(self) -> None:
        """Stop the worker process."""
        with self._change:
            self._closed = True
            if self._process is not None:
                self._process.kill()
            self._change.notify_all()
        self._thread.join(timeout=5)
        self._stop_process()

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
                job.state, job.words = "running", "starting the worker" if self._process is None else ""
            self._run(job)

    def _run(self, job: Job) -> None:
        """Run a job in a folder that is moved to its place when the job is done, and deleted otherwise."""
        try:
            with AtomicFolder(self.folder / job.key) as results:
                for name, content in job.files.items():
                    inside(results.partial, name).write_bytes(content)
                self._exchange(job, results)
        except SelfsightError as problem:
            self._over(job, f"{problem.cause} {problem.remedy}")
        except OSError as problem:
            self._over(job, f"the result cannot be stored in {self.folder}: {problem.strerror or problem}")
        finally:
            with self._change:
                job.files = {}

    def _exchange(self, job: Job, results: AtomicFolder) -> None:
        """Send a job to the worker process and read its answers."""
        try:
            process = self._started()
            if job.state != "running":  # cancelled meanwhile
                return
            assert process.stdin is not None and process.stdout is not None  # noqa: PT018
            process.stdin.write(json_text({"kind": job.kind, "given": job.given, "out": str(results.partial)}) + "\n")
            process.stdin.flush()
            for line in process.stdout:
                message = json.loads(line)
                if "found" in message or "failed" in message:
                    break
                with self._change:
                    job.words = str(message.get("words", job.words)) if job.state == "running" else ""
            else:
                raise EOFError("the worker ended without a result")
        except (OSError, ValueError, EOFError) as problem:
            ended = isinstance(problem, EOFError)
            self._over(job, str(problem) if ended else f"the connection to the worker failed: {problem}")
            with self._change:
                self._stop_process()
            return
        self._finish(job, message, results)

    def _finish(self, job: Job, message: Mapping[str, Any], results: AtomicFolder) -> None:
        """Store a result, unless the job failed or was cancelled."""
        if "failed" in message:
            self._over(job, str(message["failed"]))
            return
        with self._change:
            if job.state != "running":
                return
            for name in job.files:
                (results.partial / name).unlink(missing_ok=True)
            request = {"kind": job.kind, "given": job.given, "of": [self.about, job.also]}
            write_atomically(results.partial / "asked.json", json_text(request) + "\n")
            write_atomically(results.partial / "found.json", json_text(message["found"]) + "\n")
            results.commit()
            job.state, job.found, job.words = "done", message["found"], ""

    def _over(self, job: Job, words: str) -> None:
        with self._change:
            if job.state == "running":
                job.state, job.words = "failed", words

    def _stop_process(self) -> None:
        """Kill the process and close its pipes."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            try:
                if pipe is not None:
                    pipe.close()
            except BrokenPipeError:  # unread output
                continue

    def _started(self) -> "subprocess.Popen[str]":
        with self._change:
            if self._process is not None and self._process.poll() is not None:
                self._stop_process()
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
