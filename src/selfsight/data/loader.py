"""Order of training images, as a pure function of the seed, and prefetching."""

import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from multiprocessing import parent_process
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch.multiprocessing import set_sharing_strategy
from torch.utils.data import DataLoader, Dataset
from torch.utils.data._utils import signal_handling

from selfsight.core.clock import key
from selfsight.core.errors import DataError, EnvironmentFault, UsageError
from selfsight.core.views import Images
from selfsight.data.source import Rows, Source

__all__ = ["Loader", "load_images", "sequential"]

Item = TypeVar("Item")
_AHEAD = 2
_PATIENCE = 300.0
"""Seconds after which a reading process that gives no batch is taken for lost."""
_CHECK = 2.0
"""Seconds between checks that the reading processes are alive."""
_LOST = ("exited unexpectedly", "DataLoader timed out", "is killed by signal", "Pin memory thread exited", "shared memory")
"""How torch reports a process that has ended or does not respond."""


def load_images(source: Source, rows: Rows | Sequence[int]) -> Images:
    """Samples as tensors on the CPU.

    uint16 becomes floating point in [0, 1]; all else keeps its type.

    Args:
        source: the data set.
        rows: row numbers.
    """
    batch = source.read(np.asarray(rows, dtype=np.int64))
    extent = None if batch.extent is None else torch.from_numpy(np.ascontiguousarray(batch.extent))
    pixels, *others = (_tensor(values) for values in batch.streams.values())
    names = list(batch.streams)[1:]
    return Images(pixels, torch.from_numpy(batch.index), extent, dict(zip(names, others, strict=True)), batch.modality)


def _tensor(values: np.ndarray) -> Tensor:
    if values.dtype == np.uint16:
        values = values.astype(np.float32) / 65_535
    return torch.from_numpy(np.ascontiguousarray(values))


class Loader:
    """Shuffled batches of a source. The last images of an epoch that do not fill a batch are omitted.

    Args:
        source: the data set.
        batch: images in the global batch (all processes together); reduced to the size of a smaller source.
        seed: seed of the order.
        workers: reading processes; 0: one thread of this process. The batches are the same.

    Attributes:
        batch: images in the global batch after reduction.
        steps_per_epoch: full batches in the source.

    Raises:
        DataError: the source has fewer than two images.
        UsageError: the batch is smaller than two, or workers is negative.
    """

    def __init__(self, source: Source, *, batch: int, seed: int, workers: int = 0) -> None:
        if batch < 2 or workers < 0:
            raise UsageError(
                f"A batch of {batch} with {workers} workers is not possible.", "Use a batch of 2 or more, and 0 or more workers."
            )
        if len(source) < 2:
            raise DataError(f"{source.spec} has {len(source)} image.", "Training needs 2 or more; use photo:PATH for a single image.")
        self.source, self.seed, self.workers = source, seed, workers
        self.batch = min(batch, len(source))
        self.steps_per_epoch = len(source) // self.batch

    def rows(self, step: int) -> Int[np.ndarray, "batch"]:
        """Rows of the global batch at a step: a slice of ``randperm(n, key(seed, epoch))``."""
        epoch, position = divmod(step, self.steps_per_epoch)
        return _order(len(self.source), self.seed, epoch)[position * self.batch : (position + 1) * self.batch]

    def batches(self, start: int, steps: int, rank: int = 0, world: int = 1) -> Iterator[Images]:
        """One process's parts of the global batches, in order, with prefetching.

        Args:
            start: first step.
            steps: number of steps.
            rank: number of this process; it gets the chunk that ``torch.chunk`` would give it.
            world: number of processes.

        Raises:
            UsageError: the global batch is not a multiple of the number of processes.
        """
        if self.batch % world:
            raise UsageError(f"A batch of {self.batch} cannot be divided among {world} processes.", f"Use a multiple of {world}.")
        reads = _Steps(self, rank, world)
        if self.workers:
            return _by_workers(reads, range(start, start + steps), self.workers)
        return _ahead(reads.__getitem__, range(start, start + steps))


@lru_cache(maxsize=4)
def _order(n: int, seed: int, epoch: int) -> np.ndarray:
    return torch.randperm(n, generator=torch.Generator().manual_seed(key(seed, epoch))).numpy()


class _Steps(Dataset[Images]):
    """One process's part of each global batch, by step."""

    def __init__(self, loader: Loader, rank: int, world: int) -> None:
        self.loader, self.rank, self.world = loader, rank, world

    def __getitem__(self, index: int) -> Images:
        part = self.loader.batch // self.world
        return load_images(self.loader.source, self.loader.rows(index)[self.rank * part : (self.rank + 1) * part])


def sequential(source: Source, batch: int, rank: int = 0, world: int = 1) -> Iterator[Images]:
    """All images once, in order, with prefetching.

    Args:
        source: the data set.
        batch: images per batch.
        rank: number of this process; it gets the ``rank``-th of equal contiguous parts.
        world: number of processes.
    """
    own_rows = np.array_split(np.arange(len(source)), world)[rank]
    return _ahead(lambda start: load_images(source, own_rows[start : start + batch]), range(0, len(own_rows), batch))


def _ahead(read: Callable[[int], Item], order: Iterable[int]) -> Iterator[Item]:
    """Results of ``read`` for each number, computed by a thread that stays two ahead and ends with the iteration."""
    ready: queue.Queue[tuple[Item | None, BaseException | None] | None] = queue.Queue(_AHEAD)
    stop = threading.Event()

    def put(entry: tuple[Item | None, BaseException | None] | None) -> None:
        while not stop.is_set():
            try:
                ready.put(entry, timeout=0.1)
                return
            except queue.Full:
                continue

    def work() -> None:
        try:
            for number in order:
                if stop.is_set():
                    return
                put((read(number), None))
        except BaseException as problem:  # noqa: BLE001 - passed to the waiting thread, which raises it
            put((None, problem))
        put(None)

    thread = threading.Thread(target=work, name="selfsight-loader", daemon=True)
    thread.start()
    try:
        while (entry := ready.get()) is not None:
            item, problem = entry
            if problem is not None:
                raise problem
            yield item  # pyright: ignore[reportReturnType]
    finally:
        stop.set()
        thread.join()


def _init_worker(_: int) -> None:
    """Use one thread in a reading process, share its memory by name, and end the process when its parent has ended, even by SIGKILL."""
    torch.set_num_threads(1)
    set_sharing_strategy("file_system")  # with the other one, a batch cannot be received once its process has ended or was stopped
    parent = parent_process()
    assert parent is not None
    threading.Thread(target=_end_after, args=(parent,), name="selfsight-watch", daemon=True).start()


def _end_after(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)  # no clean-up: the resources belonged to the dead process


def _by_workers(reads: _Steps, order: range, workers: int) -> Iterator[Images]:
    """As ``_ahead``, with processes that are forked from a clean server, so that no thread's lock is copied.

    If one of them ends or does not respond, all are started again, once, at the same step.

    Raises:
        EnvironmentFault: a process ended or did not respond again.
    """
    given, restarted = 0, False
    while True:
        try:
            for item in _worker_batches(reads, order[given:], workers):
                yield item
                given += 1
            return
        except (RuntimeError, OSError, EOFError) as problem:
            if not _lost(problem):
                raise
            reason = (str(problem).splitlines() or [type(problem).__name__])[0]
            if restarted:
                raise EnvironmentFault(
                    f"A process that reads images ended or does not respond, for the second time: {reason}",
                    "Use fewer workers (0 reads in a thread), or a machine with more memory.",
                ) from problem
        restarted = True
        sys.stderr.write(f"warning: a process that reads images ended or does not respond ({reason}); all are started again\n")


def _wait_for(batches: Iterator[Images]) -> Images:
    """The next batch. torch notices a process that has ended only when a wait is over, so that it waits for seconds, and here repeatedly."""
    ends = time.monotonic() + _PATIENCE
    while True:
        try:
            return next(batches)
        except RuntimeError as problem:
            if "DataLoader timed out" not in str(problem):
                raise
            if time.monotonic() > ends:
                raise RuntimeError(f"DataLoader timed out: no batch within {_PATIENCE:.0f} seconds") from problem


def _lost(problem: Exception) -> bool:
    """Whether a reading process has ended or does not respond; an error inside of one says so in its message, and is another matter.

    The tensors of a process that has ended can be gone before they are received.
    """
    if "in DataLoader worker process" in str(problem):
        return False
    return isinstance(problem, OSError | EOFError) or any(words in str(problem) for words in _LOST)


def _worker_batches(reads: _Steps, order: range, workers: int) -> Iterator[Images]:
    loader = DataLoader(
        reads,
        batch_size=None,
        sampler=order,
        num_workers=workers,
        multiprocessing_context="forkserver",
        prefetch_factor=_AHEAD,
        timeout=_CHECK,
        worker_init_fn=_init_worker,
        generator=torch.Generator().manual_seed(0),  # workers' seeds are not used; this keeps the global generator unchanged
    )
    batches = iter(loader)
    try:
        for _ in order:
            yield _wait_for(batches)
    except (RuntimeError, OSError, EOFError):
        _abandon(batches)
        raise


def _abandon(batches: Any) -> None:
    """Kill reading processes without torch's own end: it waits for ever for a lock that a process held when it was killed or stopped."""
    for process in getattr(batches, "_workers", ()):
        process.kill()  # one that does not respond ignores the request to end, too
        process.join(10)
    batches._shutdown = True
    signal_handling._remove_worker_pids(id(batches))
    for orders in getattr(batches, "_index_queues", ()):
        orders.cancel_join_thread()
        orders.close()
