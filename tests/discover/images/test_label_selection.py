"""Selection of images for labelling."""

import numpy as np

from selfsight.discover.images.label_selection import select_for_labelling


def clouds() -> tuple[np.ndarray, np.ndarray]:
    """Three clouds of 50, one image between the first two, one far from all."""
    rng, middles = np.random.default_rng(0), 5 * np.eye(3, 4)
    rows = np.concatenate(
        [middle + 0.3 * rng.normal(size=(50, 4)) for middle in middles] + [(middles[:1] + middles[1:2]) / 2, [[0, 0, 0, 9.0]]]
    )
    return rows.astype(np.float32), np.repeat([0, 1, 2, 0, 2], [50, 50, 50, 1, 1])


def test_each_reason_selects_its_images():
    rows, clusters = clouds()
    nearness = -np.linalg.norm(rows - np.stack([rows[clusters == kind].mean(0) for kind in clusters]), axis=1)
    twins = np.full(len(rows), np.nan)
    found = select_for_labelling(rows, clusters, nearness, twins, 9)
    why = dict(found)
    assert len(found) == len(why) == 9
    assert sorted(clusters[row] for row, reason in found if reason == "central") == [0, 1, 2]
    assert why[151] == "diverse"  # the one that is like none
    assert why.get(150) in ("doubtful", "diverse")  # the one between two
    assert found == select_for_labelling(rows, clusters, nearness, twins, 9)


def test_duplicates_are_interchangeable():
    rows, clusters = clouds()
    twins = np.full(len(rows), np.nan)
    twins[:40] = 3.0  # most of the first cloud is one picture
    found = select_for_labelling(rows, clusters, np.arange(len(rows), 0, -1.0), twins, 30)
    assert sum(row < 40 for row, _ in found) <= 1
    few = select_for_labelling(rows[:2], clusters[:2], np.ones(2), twins[40:42], 30)
    assert {row for row, _ in few} == {0, 1}
