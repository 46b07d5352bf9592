"""Selective search on images with known segments."""

import numpy as np
import pytest

from selfsight.regions.proposals import joined_boxes, selective_search

PIECES = np.zeros((12, 16), dtype=np.int64)
PIECES[2:8, 3:6], PIECES[2:8, 6:9], PIECES[9:11, 12:15] = 1, 2, 3


def picture() -> np.ndarray:
    """Dark background, two adjacent red segments, a separate blue one."""
    colours = np.array([[0.1, 0.1, 0.1], [0.9, 0.1, 0.1], [0.8, 0.1, 0.1], [0.1, 0.1, 0.9]])
    return colours[PIECES]


def test_boxes_of_all_segments_with_the_most_similar_merged_first():
    boxes = joined_boxes(picture(), PIECES).tolist()
    assert len(boxes) == 2 * 4 - 1
    assert boxes[0] == [0, 0, 16, 12]
    assert boxes[3:] == [[12, 9, 15, 11], [6, 2, 9, 8], [3, 2, 6, 8], [0, 0, 16, 12]]  # the pieces themselves come last
    assert [3, 2, 9, 8] in boxes  # both red ones
    assert boxes[2] == [3, 2, 9, 8]


def test_one_segment_is_one_box():
    assert joined_boxes(np.zeros((4, 5, 3)), np.zeros((4, 5), dtype=np.int64)).tolist() == [[0, 0, 5, 4]]


@pytest.mark.parametrize("seed", [0, 1])
def test_proposals_contain_the_object_and_are_unique(seed):
    large = np.kron(picture(), np.ones((8, 8, 1)))
    found = selective_search(large, seed)
    assert (found == selective_search(large, seed)).all()
    assert len(np.unique(found, axis=0)) == len(found)
    assert (found[:, :2] < found[:, 2:]).all()
    assert (found[:, 2:] <= (128, 96)).all()
    overlaps = [_overlap(box, np.array([24, 16, 72, 64])) for box in found]
    assert max(overlaps) > 0.8


def _overlap(left: np.ndarray, right: np.ndarray) -> float:
    shared = (np.minimum(left[2:], right[2:]) - np.maximum(left[:2], right[:2])).clip(0).prod()
    return shared / ((left[2:] - left[:2]).prod() + (right[2:] - right[:2]).prod() - shared)
