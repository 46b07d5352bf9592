import pickle

import numpy as np
import pytest

from selfsight.core.errors import UsageError
from selfsight.data.opening import open_source
from selfsight.data.worlds import outlines
from selfsight.data.worlds.shapes import PRESETS
from selfsight.data.worlds.world import ShapesWorld

ROWS = np.arange(40)


def world(preset: str, **options) -> ShapesWorld:
    return ShapesWorld(PRESETS[preset], **({"count": 100, "size": 48} | options))


@pytest.mark.parametrize("preset", list(PRESETS))
def test_a_scene_depends_on_its_row_only(preset: str):
    first = world(preset).read(ROWS).images
    assert first.shape == (40, 3, 48, 48)
    np.testing.assert_array_equal(world(preset, count=57).read(ROWS[::-1]).images, first[::-1])
    np.testing.assert_array_equal(world(preset).render(ROWS[7:8]), first[7:8])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(world(preset))).read(ROWS).images, first)


def test_splits_and_seeds_differ():
    images = [world("learnable", **options).read(ROWS).images for options in ({}, {"split": "test"}, {"seed": 1})]
    for left, right in ((0, 1), (0, 2), (1, 2)):
        assert not (images[left] == images[right]).all(axis=(1, 2, 3)).any()
    assert world("learnable").fingerprint != world("learnable", seed=1).fingerprint


@pytest.mark.parametrize("preset", list(PRESETS))
def test_ground_truth_is_consistent(preset: str):
    truth = world(preset).truth(ROWS)
    assert truth.labels is not None
    assert truth.boxes is not None
    assert truth.masks is not None
    assert truth.parts is not None
    assert truth.keypoints is not None
    for row in ROWS:
        mask, parts, boxes, points = truth.masks[row], truth.parts[row], truth.boxes[row], truth.keypoints[row]
        assert boxes[0, 4] == truth.labels[row]
        assert len(boxes) == truth.attributes["objects"][row]
        np.testing.assert_array_equal((parts + 1) // 2, mask)
        for number, (left, top, right, bottom, _) in enumerate(boxes, 1):
            down, across = np.nonzero(mask == number)
            if len(down):
                assert (left, top, right, bottom) == (across.min(), down.min(), across.max() + 1, down.max() + 1)
                assert len(down) / ((right - left) * (bottom - top)) > 0.15 or PRESETS[preset].occluder
        seen = points[points[:, 2] == 1]
        assert (mask[seen[:, 1].astype(int), seen[:, 0].astype(int)] > 0).all()
        if not PRESETS[preset].occluder:
            assert points[:, 2].mean() > 0.9  # landmarks of small objects lie within a pixel of their edge
            assert set(np.unique(parts)) >= {1, 2}


def test_pose_matches_the_object():
    made = world("learnable", size=96)
    truth = made.truth(ROWS)
    assert truth.masks is not None
    assert truth.labels is not None
    for row in ROWS:
        if outlines.NAMES[truth.labels[row]] in ("disc", "square", "cross", "ring"):
            down, across = np.nonzero(truth.masks[row])
            np.testing.assert_allclose(across.mean() + 0.5, truth.attributes["x"][row], atol=0.8)
            np.testing.assert_allclose(down.mean() + 0.5, truth.attributes["y"][row], atol=0.8)


def test_size_changes_the_sampling_and_not_the_scene():
    small, large = (world("learnable", size=size) for size in (32, 64))
    halved = large.read(ROWS).images.astype(float).reshape(40, 3, 32, 2, 32, 2).mean(axis=(3, 5))
    assert np.abs(halved - small.read(ROWS).images).mean() < 6
    left, right = small.truth(ROWS).boxes, large.truth(ROWS).boxes
    assert left is not None
    assert right is not None
    assert max(np.abs(2 * a[:, :4] - b[:, :4]).max() for a, b in zip(left, right, strict=True)) <= 3


def test_cue_is_absent_in_the_decorrelated_split():
    rows = np.arange(1500)
    shares = []
    for split in ("train", "test", "decorrelated"):
        truth = open_source(f"world:shapes?preset=shortcut&count=1500&split={split}").truth(rows)
        shares.append((truth.attributes["background"] == truth.labels).mean())
    assert min(shares[:2]) > 0.9
    assert shares[2] < 0.15


def test_classes_are_even():
    labels = open_source("world:shapes?count=5000").truth(np.arange(5000)).labels
    assert labels is not None
    assert np.bincount(labels, minlength=10).min() > 400


def test_invalid_worlds_are_rejected():
    with pytest.raises(UsageError, match="split"):
        open_source("world:shapes?split=decorrelated")
    with pytest.raises(UsageError, match="scenes"):
        open_source("world:shapes?size=4")
    assert len(open_source("world:shapes?split=test")) == 2000
    assert open_source("world:shapes", size=64).shape == (64, 64)
