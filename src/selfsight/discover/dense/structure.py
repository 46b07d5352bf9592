"""Whether an image shows anything: flat images and noise have no objects."""

from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["has_structure"]

BLOCKS = 8
"""Blocks per side."""
FLAT = 1.5 / 255
"""Standard deviation of pixels below which an image is flat."""


def has_structure(pixels: Float[Tensor, "batch channel height width"]) -> Bool[Tensor, " batch"]:
    """Whether an image is neither flat nor white noise.

    The image is divided into 8 x 8 blocks of n pixels. In white noise of standard deviation σ the means of the blocks have the standard
    deviation σ/√n, and their variances the relative standard deviation √(2/n) or less; an image has structure if one of the two is at least
    twice as large, and σ is above 1.5/255.

    Args:
        pixels: images in [0, 1], at least 16 pixels high and wide; smaller ones count as structured unless they are flat.
    """
    height, width = pixels.shape[2:]
    deviation = pixels.flatten(2).std(2).amax(1)
    if min(height, width) < 2 * BLOCKS:
        return deviation > FLAT
    down, across = height // BLOCKS, width // BLOCKS
    blocks = pixels[:, :, : BLOCKS * down, : BLOCKS * across].unfold(2, down, down).unfold(3, across, across).flatten(4).double()
    variances = blocks.var(4).flatten(2)
    typical = variances.mean(2)
    means = blocks.mean(4).flatten(2).var(2) * (down * across)
    uneven = variances.var(2) / typical.square().clamp(min=1e-12) * (down * across / 2)
    structured = ((means > 4 * typical) | ((uneven > 4) & (typical.sqrt() > FLAT))).any(1)
    return (deviation > FLAT) & structured
