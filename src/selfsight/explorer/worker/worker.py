"""The worker of the explorer: jobs as lines of JSON; ``python -m selfsight.explorer.worker.worker FOLDER`` with a prepared data set."""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from selfsight.backbones.loading import load_representation
from selfsight.bank.store import Bank
from selfsight.core.errors import DataError, SelfsightError
from selfsight.core.files import free_bytes, is_disk_full
from selfsight.core.json_text import json_text
from selfsight.core.progress import ProgressCallback
from selfsight.core.representation import Representation
from selfsight.data.source import Source
from selfsight.engine.hardware import find_device
from selfsight.explorer.prepare.build import open_selection, untrained_reference
from selfsight.explorer.server.job_table import JOBS
from selfsight.explorer.server.opening import DataSelection
from selfsight.explorer.server.pack import Pack, network_folders
from selfsight.explorer.worker.request import JobContext, JobRequest

__all__ = ["Worker", "serve_jobs"]


@dataclass(frozen=True)
class LoadedNetwork:
    """A representation in memory.

    Attributes:
        phi: the representation.
        path: the folder of its run, with its readouts; the untrained network has a separate folder.
    """

    phi: Representation
    path: Path


class Worker:
    """Runs jobs on one prepared data set; networks are loaded on first use.

    Args:
        folder: the prepared data set.
    """

    def __init__(self, folder: Path) -> None:
        self.pack = Pack(folder)
        self.known = {one["name"]: one for one in self.pack.about["networks"]}
        self.folders = {name: network_folders(folder, one) for name, one in self.known.items()}
        self.runs = {name: run for name, (_, run) in self.folders.items() if run is not None}
        self.folder, self._runs = folder, dict[str, LoadedNetwork]()

    def run(self, name: str) -> LoadedNetwork:
        """A network and the folder of its run; the untrained network has a separate folder, so that it never uses a trained probe."""
        if name not in self._runs:
            path = self.runs.get(name, next(iter(self.runs.values())))
            phi = load_representation(path)
            phi.backbone.to(find_device("auto"))
            if name not in self.runs:
                phi, path = untrained_reference(phi, self.source), self.folder.parent / f"{self.folder.name}.untrained"
            self._runs[name] = LoadedNetwork(phi, path)
        return self._runs[name]

    @cached_property
    def source(self) -> Source:
        """The data set."""
        about = self.pack.about
        source = open_selection(DataSelection(about["data"], about["limit"], about["seed"]), about["size"])
        if source.fingerprint != about.get("fingerprint", source.fingerprint):
            raise DataError("The data have changed since they were prepared.", "Prepare them again: selfsight explore … --rebuild")
        return source

    def vectors(self, network: str, layer: str = "") -> Float[np.ndarray, "item dim"]:
        """Features of every image.

        Args:
            network: name of the network.
            layer: name of a layer; empty: the output.
        """
        return Bank(self.folders[network][0]).pooled(layer or None)

    def run_job(self, kind: str, given: Mapping[str, Any], out: Path, progress: ProgressCallback) -> dict[str, Any]:
        """Run a job.

        Args:
            kind: a name in ``JOBS``.
            given: the fields of a ``JobRequest`` as JSON.
            out: the folder of the job's files.
            progress: called with a line per step.

        Returns:
            ``files``: names of the files written; and the result, as JSON.
        """
        progress("loading the network")
        request = JobRequest.from_json(given)
        return JOBS.load(kind)(JobContext(self, self.run(request.network), request, out, progress))


def serve_jobs(folder: Path) -> None:
    """Run jobs from lines of JSON on standard input, and answer in lines of JSON, until the input ends."""
    if hasattr(os, "nice"):
        os.nice(5)  # lower priority than the server
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # output of libraries must not mix with answers

    def tell(**words: Any) -> None:
        answers.write(json_text(words) + "\n")
        answers.flush()

    worker = Worker(folder)
    for line in sys.stdin:
        job = json.loads(line)
        try:
            tell(found=worker.run_job(job["kind"], job["given"], Path(job["out"]), lambda words: tell(words=words)))
        except BrokenPipeError:
            return  # the server has ended
        except OSError as problem:
            cause = f"The result could not be written: {problem.strerror or problem}." if is_disk_full(problem) else f"{problem}."
            tell(failed=f"{cause} {free_bytes(folder):,} bytes are free below {folder}.")
        except SelfsightError as problem:
            tell(failed=f"{problem.cause} {problem.remedy}")
        except Exception as problem:  # noqa: BLE001  reported as the answer of the job
            tell(failed=f"{type(problem).__name__}: {problem}")


if __name__ == "__main__":
    serve_jobs(Path(sys.argv[1]))
