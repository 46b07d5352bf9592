"""Mask propagation through frames."""

import numpy as np
import pytest
import torch

from selfsight.backbones.table import build_backbone
from selfsight.core.errors import UsageError
from selfsight.core.representation import Representation
from selfsight.discover.dense.features import FeatureSpec
from selfsight.discover.dense.propagate import propagate, propagate_labels, window
from selfsight.measure.metrics.overlap import contour_score, overlap


def _cnn() -> Representation:
    torch.manual_seed(0)
    return Representation(build_backbone("resnet_tiny", size=32), mean=(0.5,) * 3, std=(0.5,) * 3, size=32)


def test_a_still_video_keeps_the_first_mask() -> None:
    frame = torch.randint(0, 256, (3, 64, 64), generator=torch.Generator().manual_seed(0)).float()
    first = np.zeros((64, 64), dtype=np.int64)
    first[16:48, 24:56] = 1
    found = list(propagate(_cnn(), [frame] * 4, first, feature_spec=FeatureSpec(64), most=1))
    assert np.array_equal(found[0], first)
    assert min(overlap(one > 0, first > 0) for one in found) > 0.9


def test_labels_come_from_similar_locations_within_the_radius() -> None:
    keys = torch.eye(4)
    labels = torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 1.0, 1.0]])
    everywhere = torch.ones(4, 4, dtype=torch.bool)
    moved = propagate_labels(keys[:, [1, 0, 2, 3]], [keys], [labels], everywhere, most=1)
    assert moved[0].tolist() == [0, 1, 0, 0]
    near = torch.eye(4, dtype=torch.bool)
    assert propagate_labels(keys[:, [1, 0, 2, 3]], [keys], [labels], near, most=1)[0].tolist() == [1, 0, 0, 0]
    both = propagate_labels(keys[:, :1], [keys], [labels], everywhere[:1], most=2, temperature=1.0)
    assert float(both[0]) == pytest.approx(np.e / (np.e + 1))


def test_the_radius_is_a_square_around_each_location() -> None:
    assert window(3, 4, 1).sum(1).tolist() == [4, 6, 6, 4, 6, 9, 9, 6, 4, 6, 6, 4]


def test_empty_masks_and_other_sizes_are_rejected() -> None:
    frame = torch.zeros(3, 32, 32)
    with pytest.raises(UsageError, match="empty"):
        next(propagate(_cnn(), [frame], np.zeros((32, 32), dtype=np.int64)))
    with pytest.raises(UsageError, match="does not fit"):
        next(propagate(_cnn(), [frame], np.ones((16, 16), dtype=np.int64)))


def test_contours() -> None:
    truth = np.zeros((480, 854), dtype=bool)
    truth[100:300, 200:500] = True
    empty = np.zeros_like(truth)
    assert contour_score(truth, truth) == 1.0
    assert contour_score(empty, empty) == 1.0
    assert contour_score(truth, empty) == contour_score(empty, truth) == 0.0
    assert contour_score(np.roll(truth, 8, 1), truth) == 1.0  # the reach is 8 px at this size
    assert contour_score(np.roll(truth, 12, 1), truth) < 0.75
