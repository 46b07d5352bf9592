import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from selfsight.core.clock import key
from selfsight.core.errors import DataError, UsageError
from selfsight.core.views import Images
from selfsight.data.loader import Loader, sequential
from selfsight.data.opening import open_source
from selfsight.data.readers.memory import ArraySource

from pictures import encoded, photograph


def source(n: int) -> ArraySource:
    return ArraySource(np.stack([photograph(seed, 8, 8).transpose(2, 0, 1) for seed in range(n)]))


def test_order_is_a_permutation_of_the_key():
    loader = Loader(source(23), batch=5, seed=4)
    assert loader.steps_per_epoch == 4
    expected = torch.randperm(23, generator=torch.Generator().manual_seed(key(4, 2)))[5:10]
    np.testing.assert_array_equal(loader.rows(9), expected.numpy())
    epoch = np.concatenate([loader.rows(step) for step in range(4)])
    assert len(set(epoch.tolist())) == 20
    assert (loader.rows(0) != loader.rows(4)).any()


def test_each_process_gets_its_chunk():
    loader = Loader(source(24), batch=8, seed=0)
    whole = list(loader.batches(1, 4))
    for rank in range(4):
        for batch, mine in zip(whole, loader.batches(1, 4, rank, 4), strict=True):
            torch.testing.assert_close(mine.pixels, batch.pixels.chunk(4)[rank], rtol=0, atol=0)
            assert mine.index.tolist() == batch.index.chunk(4)[rank].tolist()
    assert whole[0].pixels.is_contiguous()
    with pytest.raises(UsageError, match="multiple of 3"):
        loader.batches(0, 1, 0, 3)


def same(left: list[Images], right: list[Images]) -> bool:
    return all(torch.equal(a.pixels, b.pixels) and torch.equal(a.index, b.index) for a, b in zip(left, right, strict=True))


def test_workers_change_nothing(tmp_path):
    root = tmp_path / "p"
    root.mkdir()
    for number in range(20):
        (root / f"{number}.png").write_bytes(encoded(photograph(number, 8 + number % 3, 9)))
    packed = open_source(root, cache=tmp_path / "c")
    before = torch.get_rng_state()
    alone, helped = (list(Loader(packed, batch=6, seed=1, workers=workers).batches(2, 5)) for workers in (0, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert len(alone) == 5
    assert alone[0].extent is not None
    assert same(alone, helped)


READS = """
import multiprocessing, sys, time, numpy as np
from selfsight.data.loader import Loader
from selfsight.data.readers.memory import ArraySource
if __name__ == "__main__":
    batches = Loader(ArraySource(np.zeros((8, 3, 4, 4), np.uint8)), batch=2, seed=0, workers=2).batches(0, 1000)
    next(batches)
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    time.sleep(60)
"""


def test_workers_end_with_a_killed_process(tmp_path):
    (tmp_path / "reads.py").write_text(READS)
    with subprocess.Popen([sys.executable, tmp_path / "reads.py"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as reader:
        assert reader.stdout is not None
        workers = [int(word) for word in reader.stdout.readline().split()]
        assert len(workers) == 2
        assert all(Path(f"/proc/{worker}").exists() for worker in workers)
        reader.kill()
    ends = time.monotonic() + 20
    while any(Path(f"/proc/{worker}").exists() for worker in workers) and time.monotonic() < ends:
        time.sleep(0.05)
    assert not [worker for worker in workers if Path(f"/proc/{worker}").exists()]


def test_reading_thread_ends_with_the_iteration():
    def running() -> int:
        return sum(thread.name == "selfsight-loader" for thread in threading.enumerate())

    batches = Loader(source(20), batch=2, seed=0).batches(0, 1000)
    next(iter(batches))
    assert running() == 1
    batches.close()
    assert running() == 0


def test_failures_of_workers_are_raised():
    broken = source(10)
    broken.images = broken.images[:3]
    with pytest.raises(IndexError):
        list(Loader(ArraySourceOfTen(broken), batch=10, seed=0).batches(0, 1))


class ArraySourceOfTen(ArraySource):
    def __init__(self, other: ArraySource) -> None:
        super().__init__(other.images)

    def __len__(self) -> int:
        return 10


def test_small_sources():
    assert Loader(source(5), batch=256, seed=0).batch == 5
    with pytest.raises(DataError):
        Loader(source(1), batch=4, seed=0)
    with pytest.raises(UsageError):
        Loader(source(4), batch=1, seed=0)


def test_sequential_reads_each_once_in_order():
    data = source(11)
    assert [len(batch) for batch in sequential(data, 4)] == [4, 4, 3]
    halves = [torch.cat([batch.index for batch in sequential(data, 4, rank, 2)]) for rank in range(2)]
    assert torch.cat(halves).tolist() == list(range(11))
