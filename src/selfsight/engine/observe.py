"""Observers of training steps; they must not change anything."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, runtime_checkable

import torch
from torch.optim import Optimizer

from selfsight.core.cache import append_or_restore
from selfsight.core.clock import Clock
from selfsight.core.distribute import all_gather_with_grad, rank
from selfsight.core.json_text import json_text
from selfsight.core.method import Method
from selfsight.core.views import Images
from selfsight.engine.plan import StepResult
from selfsight.objectives.spread import effective_rank, embedding_spread

__all__ = ["Observer", "Progress", "Recorder", "StepEvent", "describe"]


@dataclass(frozen=True)
class StepEvent:
    """The end of a step.

    Attributes:
        clock: clock of the step.
        turns: one result per turn.
        batch: the images.
        method: the method in training.
        optimiser: its optimiser.
    """

    clock: Clock
    turns: tuple[StepResult, ...]
    batch: Images
    method: Method
    optimiser: Optimizer

    @property
    def losses(self) -> dict[str, float]:
        """Named loss terms of all turns."""
        return {name: float(value.detach()) for turn in self.turns for name, value in turn.outcome.losses.items()}

    @property
    def diagnostics(self) -> dict[str, torch.Tensor]:
        """Diagnostic values of all turns."""
        return {name: value for turn in self.turns for name, value in turn.outcome.diagnostics.items()}


@runtime_checkable
class Observer(Protocol):
    """Called after every step."""

    def on_step(self, event: StepEvent) -> None:
        """Called at the end of a step."""
        ...


def describe(event: StepEvent) -> dict[str, Any]:
    """A record of a step: numbers only, reproducible. Spread and rank are over all processes.

    The information of an assignment p is ``I = H(mean p) - mean H(p)``, the mutual information of image and cluster in nats (Bridle et al.
    1991): zero if all images have the same assignment, whether to one cluster or uniform.
    """
    clock, losses, diagnostics = event.clock, event.losses, event.diagnostics
    record: dict[str, Any] = {"step": clock.step, "epoch": clock.epoch, "loss": sum(losses.values()), **losses}
    record |= {"rate": event.turns[0].rate, "gradient_norm": event.turns[0].norm}
    record["skipped"] = sum(not turn.healthy for turn in event.turns)
    if "embedding" in diagnostics:
        rows = all_gather_with_grad(diagnostics["embedding"].float())
        rows = rows[:512]
        record |= {"spread": float(embedding_spread(rows)), "effective_rank": float(effective_rank(rows))}
    if "assignment" in diagnostics:
        assignments = all_gather_with_grad(diagnostics["assignment"].float())
        mean = assignments.mean(0)
        overall, mean_entropy = torch.special.entr(mean).sum(), torch.special.entr(assignments).sum(1).mean()
        record |= {
            "largest_share": float(mean.max()),
            "assignment_entropy": float(mean_entropy),
            "assignment_information": float(overall - mean_entropy),
            "clusters_used": float(overall.exp()),
        }
    record |= {name: float(diagnostics[name]) for name in ("accuracy", "chance") if name in diagnostics}
    return record


class Recorder:
    """Writes ``metrics.jsonl``, bitwise reproducible, and ``timing.jsonl``, which is not.

    After a failed write (a full disk) the run continues: lines are kept and written later, with one warning.

    Args:
        folder: folder of the files.
        every: steps between records.
        waited: returns seconds spent waiting for data since the last record.
        views: views per image.
    """

    def __init__(self, folder: Path, *, every: int = 10, waited: Callable[[], float] = lambda: 0.0, views: int = 2) -> None:
        self.folder, self.every, self.waited, self.views = folder, every, waited, views
        self._pending: dict[str, str] = {"metrics.jsonl": "", "timing.jsonl": ""}
        self._clock, self._images, self._warned = time.perf_counter(), 0, False
        self._listeners: list[Callable[[dict[str, Any], dict[str, Any]], None]] = []

    def subscribe(self, listener: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
        """Call a function with every record and its timing."""
        self._listeners.append(listener)

    def on_step(self, event: StepEvent) -> None:
        self._images += len(event.batch)
        step = event.clock.step
        if step % self.every and step != event.clock.steps - 1:
            return
        record = describe(event)  # on every process, because it communicates
        now = time.perf_counter()
        seconds = now - self._clock
        timing = {
            "step": step,
            "seconds": round(seconds, 4),
            "images_per_second": round(self._images / max(seconds, 1e-9), 1),
            "data_wait": round(self.waited() / max(seconds, 1e-9), 4),
            "memory_gib": round(_memory(), 3),
        }
        self._clock, self._images = now, 0
        if rank() == 0:
            self._write("metrics.jsonl", record)
            self._write("timing.jsonl", timing)
        for listener in self._listeners:
            listener(record, timing)

    def _write(self, name: str, line: dict[str, Any]) -> None:
        self._pending[name] += json_text(line) + "\n"
        try:
            append_or_restore(self.folder / name, self._pending[name])
            self._pending[name] = ""
        except OSError as error:
            if not self._warned:
                sys.stderr.write(f"warning: {name} could not be written ({error}); its lines are kept and written later\n")
            self._warned = True


def _memory() -> float:
    """Peak memory of this process (or its device) in GiB."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2 ** (30 if sys.platform == "darwin" else 20)


class Progress:
    """A progress line on standard error: rewritten on a terminal, otherwise a new line from time to time.

    Args:
        steps: number of steps.
        every_seconds: minimum interval between lines, unless on a terminal.
        stream: output stream.
    """

    def __init__(self, steps: int, *, every_seconds: float = 10.0, stream: IO[str] | None = None) -> None:
        self.steps = steps
        self.stream = stream or sys.stderr
        self.terminal = self.stream.isatty()
        self.every = 0.1 if self.terminal else every_seconds
        self._started, self._first, self._shown = time.perf_counter(), -1, 0.0

    def on_record(self, record: dict[str, Any], timing: dict[str, Any]) -> None:
        """Show a record.

        Args:
            record: record of a step.
            timing: timing of the same step.
        """
        now, step = time.perf_counter(), record["step"]
        if self._first < 0:
            self._started, self._first = now, step
        last = step == self.steps - 1
        if rank() or (now - self._shown < self.every and not last):
            return
        self._shown = now
        pace = (now - self._started) / max(step - self._first, 1)
        left = pace * (self.steps - 1 - step)
        words = [f"step {step + 1}/{self.steps}", f"loss {record['loss']:.4f}"]
        words += [f"accuracy {record['accuracy']:.3f}"] if "accuracy" in record else []
        words += [f"spread {record['spread']:.2f}"] if "spread" in record else []
        words += [f"{timing['images_per_second']:,.0f} images/s", f"data wait {timing['data_wait']:.0%}"]
        words += [f"{int(left // 60)}:{int(left % 60):02d} left"] if step > self._first else []
        line = " · ".join(words)
        self.stream.write(f"\r\x1b[2K{line}" + ("\n" if last else "") if self.terminal else f"{line}\n")
        self.stream.flush()
