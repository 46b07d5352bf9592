"""Pages of memory-mapped banks."""

import re
from pathlib import Path

import numpy as np
import pytest

from selfsight.bank.store import release_pages


def test_released_pages_are_read_again_and_private_changes_are_kept(tmp_path):
    values = np.random.default_rng(0).normal(size=(5000, 64)).astype(np.float32)
    np.save(tmp_path / "rows.npy", values)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    assert mapped.sum() == values.sum()
    for array in (mapped, np.asarray(mapped)[10:], values[3:]):
        release_pages(array)
    np.testing.assert_array_equal(mapped, values)
    changed = np.load(tmp_path / "rows.npy", mmap_mode="c")
    changed[:] = 1
    release_pages(changed)
    assert (changed == 1).all()


@pytest.mark.skipif(not Path("/proc/self/smaps").is_file(), reason="the resident pages of a file are read from /proc")
def test_released_pages_are_no_longer_resident(tmp_path):
    np.save(tmp_path / "rows.npy", np.ones((20_000, 128), dtype=np.float32))
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    assert mapped.sum() == mapped.size
    before = resident(tmp_path / "rows.npy")
    release_pages(mapped)
    assert before > 9000
    assert resident(tmp_path / "rows.npy") < 100


def resident(file: Path) -> int:
    """Resident KiB of the mapping of a file."""
    blocks = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text(), flags=re.MULTILINE)
    return sum(int(re.findall(r"^Rss: +(\d+)", block, flags=re.MULTILINE)[0]) for block in blocks if str(file) in block)
