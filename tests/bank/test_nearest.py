"""Blockwise nearest-neighbour search equals the full one."""

import numpy as np
import pytest

from selfsight.bank import nearest as module
from selfsight.bank.nearest import nearest


@pytest.mark.parametrize("exclude_self", [True, False])
def test_blocks_equal_a_full_sort(monkeypatch, exclude_self):
    rows = np.random.default_rng(0).normal(size=(97, 12)).astype(np.float32)
    unit = rows.astype(np.float64) / np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    cosines = unit @ unit.T
    if exclude_self:
        np.fill_diagonal(cosines, -np.inf)
    order = np.argsort(-cosines, axis=1)[:, :5]
    for block in (1000, 31, 4):
        monkeypatch.setattr(module, "BLOCK", block)
        values, places = nearest(rows, rows, 5, exclude_self=exclude_self, chunk=10)
        assert np.array_equal(places, order)
        np.testing.assert_allclose(values, np.take_along_axis(cosines, order, 1), atol=1e-6)


def test_a_memory_map_is_searched_without_a_copy_of_the_whole(monkeypatch, tmp_path):
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32))
    rows = np.load(tmp_path / "rows.npy", mmap_mode="r")
    monkeypatch.setattr(module, "BLOCK", 16)
    copied = list[int]()
    plain = np.array
    monkeypatch.setattr(module.np, "array", lambda some, **more: copied.append(len(some)) or plain(some, **more))
    nearest(rows[:8], rows, 3)
    assert max(copied) == 16
