"""Overlays: where colours appear, and where the image stays grey."""

import numpy as np
import pytest

from selfsight.render.overlay import fitted, overlay_classes, overlay_heat, overlay_map, overlay_regions, upsampled
from selfsight.render.palette import COLOURS, PALETTE, class_colours, rgb

GREY = np.full((4, 4, 3), 128, np.uint8)
RED = np.zeros((4, 4, 3), np.uint8) + np.array([200, 10, 10], np.uint8)


def test_signs_have_colours_and_a_constant_map_has_none():
    signed = np.zeros((4, 4))
    signed[0, 0], signed[3, 3] = 1.0, -1.0
    found = overlay_map(GREY, signed)
    assert found[0, 0].tolist() == pytest.approx([213 / 255, 94 / 255, 0], abs=1e-3)
    assert found[3, 3].tolist() == pytest.approx([0, 114 / 255, 178 / 255], abs=1e-3)
    assert np.allclose(found[1, 1], 128 / 255 * 0.55 + 0.35)
    assert np.allclose(overlay_map(GREY, np.full((4, 4), 5.0)), found[1, 1])


def test_heat_keeps_the_image_where_it_is_high():
    found = overlay_heat(RED, np.eye(4))
    assert found[0, 0].tolist() == [214, 38, 8]
    assert len(set(found[0, 1].tolist())) == 1


def test_classes_have_their_colour_and_the_background_is_pale_grey():
    colours = class_colours(2)
    found = np.asarray(overlay_classes(RED, np.array([[0, 1], [2, 0]]), colours))
    assert found.shape == (160, 160, 3)
    mean = float(RED[0, 0].mean())
    for pixel, expected in ((found[0, 0], [0.35 * mean + 150] * 3), (found[0, -1], 0.45 * mean + 0.55 * colours[0].astype(float))):
        assert np.abs(pixel - np.array(expected)).max() <= 1
    assert found[-1, 0].tolist() != found[0, -1].tolist()


def test_regions_keep_their_pixels_and_have_a_box_in_their_colour():
    image = np.zeros((80, 160, 3), np.uint8) + RED[0, 0]
    numbers = np.zeros((80, 160), np.uint8)
    numbers[20:60, 40:120] = 1
    found = np.asarray(overlay_regions(image, numbers, [(40, 20, 120, 60)], (80, 160)))
    assert found.shape == image.shape
    assert found[40, 80].tolist() == RED[0, 0].tolist()
    assert len(set(found[5, 5].tolist())) == 1
    for row, column in ((20, 80), (59, 80), (40, 40), (40, 119)):
        assert tuple(found[row, column]) == COLOURS[0]


def test_grids_are_stretched_by_repetition():
    assert upsampled(np.array([[1, 2], [3, 4]]), (4, 2)).tolist() == [[1, 2], [1, 2], [3, 4], [3, 4]]
    assert fitted(np.zeros((10, 20, 3), np.uint8), 40).size == (40, 20)


def test_palette_has_distinct_colours():
    assert rgb("#0072b2") == (0, 114, 178)
    assert len(set(PALETTE)) == len(PALETTE)
    many = class_colours(40)
    assert many[: len(COLOURS)].tolist() == [list(colour) for colour in COLOURS]
    assert len({tuple(colour) for colour in many.tolist()}) == 40
    assert len(class_colours(3)) == 3
