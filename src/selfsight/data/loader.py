"""The order in which pictures are learnt from, as a pure function of the seed, and their delivery ahead of need."""

import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from multiprocessing import parent_process
from multiprocessing.process import BaseProcess
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Int
from torch.utils.data import DataLoader, Dataset

from selfsight.core.clock import key
from selfsight.core.errors import DataError, EnvironmentFault, UsageError
from selfsight.core.views import Images
from selfsight.data.source import Rows, Source

__all__ = ["Loader", "load_images", "sequential"]

Item = TypeVar("Item")
_AHEAD = 2
_PATIENCE = 300.0


def load_images(source: Source, rows: Rows) -> Images:
    """Pictures of these rows as tensors on the CPU."""
    batch = source.read(rows)
    extent = None if batch.extent is None else torch.from_numpy(np.ascontiguousarray(batch.extent))
    return Images(torch.from_numpy(np.ascontiguousarray(batch.images)), torch.from_numpy(batch.index), extent)


class Loader:
    """Batches of a source, each epoch in an order of its own. The last images of an epoch that fill no batch are left out.

    Args:
        source: the data set.
        batch: images in the global batch (all processes together); a smaller source makes it smaller.
        seed: of the order.
        workers: processes that read; 0: one thread of this process. The batches are the same.

    Attributes:
        batch: images in the global batch, as it came out.
        steps_per_epoch: whole batches in the source.

    Raises:
        DataError: the source has fewer than two images.
        UsageError: the batch is smaller than two, or workers are negative.
    """

    def __init__(self, source: Source, *, batch: int, seed: int, workers: int = 0) -> None:
        if batch < 2 or workers < 0:
            raise UsageError(f"A batch of {batch} with {workers} workers cannot be meant.", "Give a batch of 2 or more.")
        if len(source) < 2:
            raise DataError(f"{source.spec} has {len(source)} image.", "Learning needs 2 or more; one alone is photo:PATH.")
        self.source, self.seed, self.workers = source, seed, workers
        self.batch = min(batch, len(source))
        self.steps_per_epoch = len(source) // self.batch

    def rows(self, step: int) -> Int[np.ndarray, "batch"]:
        """The rows of the global batch at a step: a slice of ``randperm(n, key(seed, epoch))``."""
        epoch, place = divmod(step, self.steps_per_epoch)
        return _order(len(self.source), self.seed, epoch)[place * self.batch : (place + 1) * self.batch]

    def batches(self, start: int, steps: int, rank: int = 0, world: int = 1) -> Iterator[Images]:
        """One process's share of the global batches ``start`` to ``start + steps``, in order, read ahead.

        Process ``rank`` of ``world`` gets the chunk that ``torch.chunk`` would give it.

        Raises:
            UsageError: the global batch is no multiple of the number of processes.
        """
        if self.batch % world:
            raise UsageError(f"A batch of {self.batch} does not divide among {world} processes.", f"Give a multiple of {world}.")
        reads = _Steps(self, rank, world)
        if self.workers:
            return _by_workers(reads, range(start, start + steps), self.workers)
        return _ahead(reads.__getitem__, range(start, start + steps))


@lru_cache(maxsize=4)
def _order(n: int, seed: int, epoch: int) -> np.ndarray:
    return torch.randperm(n, generator=torch.Generator().manual_seed(key(seed, epoch))).numpy()


class _Steps(Dataset[Images]):
    """One process's share of each global batch, by step."""

    def __init__(self, loader: Loader, rank: int, world: int) -> None:
        self.loader, self.rank, self.world = loader, rank, world

    def __getitem__(self, index: int) -> Images:
        share = self.loader.batch // self.world
        return load_images(self.loader.source, self.loader.rows(index)[self.rank * share : (self.rank + 1) * share])


def sequential(source: Source, batch: int, rank: int = 0, world: int = 1) -> Iterator[Images]:
    """All images once, in order, read ahead; process ``rank`` of ``world`` gets the ``rank``-th of equal contiguous parts."""
    own_rows = np.array_split(np.arange(len(source)), world)[rank]
    return _ahead(lambda start: load_images(source, own_rows[start : start + batch]), range(0, len(own_rows), batch))


def _ahead(read: Callable[[int], Item], order: Iterable[int]) -> Iterator[Item]:
    """What ``read`` makes of each number, made by one thread that stays two ahead and ends with the iteration."""
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
        except BaseException as problem:  # noqa: BLE001 - handed to the thread that waits, which raises it
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
    """One thread for a process that reads; and it ends when the one that it reads for has ended, even by SIGKILL."""
    torch.set_num_threads(1)
    parent = parent_process()
    assert parent is not None
    threading.Thread(target=_end_after, args=(parent,), name="selfsight-watch", daemon=True).start()


def _end_after(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)  # no clean-up: what would be cleaned up belonged to the dead process


def _by_workers(reads: _Steps, order: range, workers: int) -> Iterator[Images]:
    """The same, read by processes that are forked from a clean server, so that no thread's lock is copied."""
    loader = DataLoader(
        reads,
        batch_size=None,
        sampler=order,
        num_workers=workers,
        multiprocessing_context="forkserver",
        prefetch_factor=_AHEAD,
        timeout=_PATIENCE,
        worker_init_fn=_init_worker,
        generator=torch.Generator().manual_seed(0),  # workers' own seeds are not used; the global generator stays untouched
    )
    try:
        yield from loader
    except RuntimeError as problem:
        if "DataLoader" not in str(problem):
            raise
        raise EnvironmentFault(
            f"A process that reads images died or went silent: {str(problem).splitlines()[0]}",
            "Try fewer workers (0 reads in a thread), or a machine with more memory.",
        ) from problem
