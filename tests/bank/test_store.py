"""Pages of memory-mapped banks."""

import numpy as np

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
