"""Processes that read images may end or hang: they are started again once, and training never hangs."""

import itertools
import multiprocessing
import os
import signal

import numpy as np
import pytest
import torch

from selfsight.core.errors import EnvironmentFault
from selfsight.data import loader as loading
from selfsight.data.loader import Loader
from selfsight.data.readers.memory import ArraySource

pytestmark = pytest.mark.slow  # seconds each, in processes of their own


def batches(workers: int, steps: int = 12):
    images = np.arange(40 * 3 * 16, dtype=np.uint8).reshape(40, 3, 4, 4)
    return Loader(ArraySource(images), batch=4, seed=0, workers=workers).batches(0, steps)


def strike(number: int) -> None:
    """Send a signal to the first process that reads."""
    os.kill(min(child.pid or 0 for child in multiprocessing.active_children() if child.is_alive()), number)


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.slow)], ids=["killed", "stopped"])
def test_a_lost_process_is_replaced_at_the_same_step(monkeypatch, capfd, number):
    monkeypatch.setattr(loading, "_PATIENCE", 30.0)  # longer than the start of a process
    expected, reading = list(batches(0)), batches(2)
    found = list(itertools.islice(reading, 3))
    strike(number)
    found += list(reading)
    assert [batch.index.tolist() for batch in found] == [batch.index.tolist() for batch in expected]
    assert all(torch.equal(one.pixels, other.pixels) for one, other in zip(found, expected, strict=True))
    assert capfd.readouterr().err.count("all are started again") == 1


@pytest.mark.slow
def test_a_second_loss_ends_with_advice(capfd):
    reading = batches(2, 1000)
    next(reading)
    strike(signal.SIGKILL)

    def read_on() -> None:
        for step, _ in enumerate(reading):
            if step == 20:
                strike(signal.SIGKILL)

    with pytest.raises(EnvironmentFault, match="for the second time") as fault:
        read_on()
    assert fault.value.exit_code == 5
    assert "Use fewer workers" in fault.value.remedy
    assert capfd.readouterr().err.count("all are started again") == 1


@pytest.mark.timeout(120)
def test_a_process_that_is_lost_with_a_lock_is_replaced(monkeypatch, capfd):
    """torch's end of its processes would wait for the lock for ever."""
    expected, calls, wait = list(batches(0)), itertools.count(), loading._wait_for

    def lose(reading):
        if next(calls) == 3:
            reading._workers_done_event._cond.acquire()
            raise RuntimeError("DataLoader timed out: the process with the lock is gone")
        return wait(reading)

    monkeypatch.setattr(loading, "_wait_for", lose)
    found = list(batches(2))
    assert [batch.index.tolist() for batch in found] == [batch.index.tolist() for batch in expected]
    assert capfd.readouterr().err.count("all are started again") == 1
