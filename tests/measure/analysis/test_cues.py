"""Cues with known values, and images whose colours must not change."""

import numpy as np
import pytest
import torch

from selfsight.core.errors import DataError, UsageError
from selfsight.data.worlds import outlines, textures
from selfsight.data.worlds.shapes import PRESETS
from selfsight.measure.analysis.cues import (
    averaged,
    colour_histogram,
    cue_conflict,
    cue_images,
    global_statistics,
    neighbour_agreement,
    same_colours,
    shape_bias,
    shuffled,
)


def test_shape_bias_of_known_predictions():
    shape = np.array([0, 0, 1, 1, 2, 2, 2, 0])
    texture = np.array([1, 1, 0, 2, 0, 1, 2, 2])  # the last but one agrees and does not count
    given = np.array([0, 1, 1, 1, 1, 2, 2, 1])  # shape, texture, shape, shape, neither, shape, -, neither
    told = shape_bias(given, shape, texture)
    assert told.bias.value == pytest.approx(4 / 5)
    assert told.coverage.value == pytest.approx(5 / 7)
    assert (told.shape, told.texture) == (pytest.approx(4 / 7), pytest.approx(1 / 7))
    np.testing.assert_allclose(told.by_class, [1 / 2, 1, 1])


def test_undefined_bias_is_rejected():
    same = np.array([0, 1])
    with pytest.raises(DataError, match="same class"):
        shape_bias(same, same, same)
    with pytest.raises(DataError, match="no bias"):
        shape_bias(np.array([2, 2]), same, same[::-1].copy())


def test_fine_classes_are_averaged_and_not_summed():
    fine = np.array([[0.3, 0.3, 0.4, 0.0]])
    np.testing.assert_allclose(averaged(fine, np.array([0, 0, 1, -1])), [[0.3, 0.4]])


def test_cues_agree_conflict_or_are_independent():
    agree, conflict, free = (cue_images(600, cues=cues, size=16, classes=6) for cues in ("agree", "conflict", "free"))
    assert (agree.shape == agree.texture).all()
    assert (conflict.shape != conflict.texture).all()
    assert (free.shape == free.texture).mean() == pytest.approx(1 / 6, abs=0.05)
    assert np.bincount(conflict.texture, minlength=6).min() > 60
    assert set(agree.shape.tolist()) == set(range(6))
    assert not torch.equal(agree.images, conflict.images)
    np.testing.assert_array_equal(agree.shape, conflict.shape)  # the same scenes in another texture
    assert len(textures.NAMES) >= len(outlines.NAMES)
    with pytest.raises(UsageError):
        cue_images(2, classes=11)


def test_bias_of_shape_only_and_texture_only_features():
    """Image averages depend more on the texture's contrast than on the outline; bias is reported with its coverage."""
    told = cue_conflict(lambda shown: shown.flatten(1), count=200, size=16, classes=4).values
    assert 0 <= told["shape_bias"].low <= told["shape_bias"].value <= told["shape_bias"].high <= 1
    assert 0 < told["coverage"].value <= 1


def pictures(count: int, size: int = 24) -> np.ndarray:
    return (cue_images(count, size=size, preset=PRESETS["coloured"]).images * 255).round().to(torch.uint8).numpy()


@pytest.mark.parametrize("tiles", [2, 3])
def test_shuffled_images_have_exactly_the_same_colours(tiles):
    whole = pictures(12)
    for move in (True, False):
        made = shuffled(whole, tiles=tiles, move=move)
        assert same_colours(whole, made).all()
        assert (colour_histogram(whole) == colour_histogram(made)).all()
        assert (made != whole).any()
    other = whole.copy()
    other[0, 0, 0, 0] ^= 1
    assert same_colours(whole, other).tolist() == [False] + [True] * 11


def test_every_tile_moves_and_is_unchanged_away_from_seams():
    whole = pictures(8)
    made = shuffled(whole, tiles=2, band=0)
    for before, after in zip(whole, made, strict=True):
        old, new = ([one[:, r : r + 12, c : c + 12] for r in (0, 12) for c in (0, 12)] for one in (before, after))
        found = [next(place for place, tile in enumerate(old) if np.array_equal(tile, each)) for each in new]
        assert sorted(found) == [0, 1, 2, 3]
        assert all(place != stays for place, stays in enumerate(found))
    banded = shuffled(whole, tiles=2, band=2)
    np.testing.assert_array_equal(banded[:, :, :10, :10], made[:, :, :10, :10])


def test_seams_are_smoother_than_they_were():
    whole = pictures(16)
    steps = [np.abs(np.diff(shuffled(whole, band=band).astype(float), axis=3))[..., 11].mean() for band in (0, 2)]
    assert steps[1] < 0.6 * steps[0]


def test_histograms_are_at_chance_and_spatial_features_are_not():
    rows = pictures(160, size=16)
    bright = rows // 2 + (np.arange(16) * 8).astype(np.uint8)[None, None, :, None]  # brighter below: where it is tells
    told = global_statistics(lambda shown: shown.flatten(1), bright[:100], bright[100:]).values
    assert told["histogram"].value == 0.5
    assert told["features"].value > 0.8


def test_invalid_tiles_are_rejected():
    with pytest.raises(UsageError, match="tiles"):
        shuffled(pictures(1), tiles=5)
    with pytest.raises(UsageError, match="tiles"):
        shuffled(pictures(1), tiles=3, band=5)


def test_neighbours_share_the_factors_of_the_features():
    rng = np.random.default_rng(0)
    kind, other = np.arange(400) % 4, rng.integers(0, 2, 400)
    rows = np.eye(4)[kind] + 0.05 * rng.standard_normal((400, 4))
    factors = {"kind": kind, "other": other.astype(object), "span": kind + 0.01 * rng.random(400)}
    told = neighbour_agreement(rows, factors, bins=4)
    assert told["kind"].value.value == 1
    assert told["kind"].chance == pytest.approx(0.25, abs=0.02)
    assert told["other"].value.value == pytest.approx(told["other"].chance, abs=0.05)
    assert told["span"].value.value > 0.9
