"""The colours of all figures, distinguishable with colour blindness (after Okabe and Ito 2002)."""

import colorsys

import numpy as np
from jaxtyping import UInt8

__all__ = ["BLUE", "COLOURS", "GREY", "PALETTE", "VERMILION", "class_colours", "rgb"]

BLUE, VERMILION, GREY = "#0072b2", "#d55e00", "#9a9a9a"
PALETTE = (BLUE, VERMILION, "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d1f", "#6a51a3", "#b3446c", "#4d4d4d")
"""Lines, bars and points on white."""


def rgb(colour: str) -> tuple[int, int, int]:
    """Red, green and blue (0 to 255) of a colour ``#rrggbb``."""
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue


COLOURS = tuple(map(rgb, ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#cc79a7", "#d55e00")))
"""Regions and classes on images: light colours first."""


def class_colours(count: int) -> UInt8[np.ndarray, "count 3"]:
    """Colours for ``count`` classes on images: ``COLOURS``, then golden-angle steps of the hue."""
    wheel = [colorsys.hsv_to_rgb(index * 0.618034 % 1, 0.55 + 0.35 * (index % 2), 0.95 - 0.25 * (index % 3 == 2)) for index in range(count)]
    further = [(np.array(colour) * 255).astype(int).tolist() for colour in wheel[len(COLOURS) :]]
    return np.array([*COLOURS, *further][:count], dtype=np.uint8)
