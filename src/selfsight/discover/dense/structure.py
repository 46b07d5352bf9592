"""Whether an image shows anything: flat images and noise have no objects."""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["has_structure"]

BLOCKS = 4
"""Blocks per side in which energies are compared."""
FLAT = 1.5 / 255
"""Standard deviation of pixels below which an image is flat."""
OUTLIERS = 1 / 200
"""Fraction of the darkest, and of the brightest pixels that are clipped."""
LOWEST = 3.5
"""Upper bound of the lowest frequency band, in half cycles per shorter side."""
EXCESS, EXCESS_LOWEST, UNEVEN, STEEP = 5.5, 3.0, 8.0, 25.0
"""Excess at low and at the lowest frequencies, and unevenness of structure; fall of the power within an octave that shows a band limit."""


def has_structure(pixels: Float[Tensor, "batch channel height width"]) -> Bool[Tensor, " batch"]:
    """Whether an image is neither flat nor noise, also if it was resized or compressed by JPEG.

    Resized or compressed noise is white up to a band limit: its power per frequency is about constant below, and its energy is about the same
    everywhere. The mean power of a discrete cosine transform is computed in octaves, with bounds at 3.5, 7, 14, 28 … half cycles per shorter
    side. An image has structure if in any channel the standard deviation is above 1.5/255 and

    - the power below 7 is more than 5.5 times that from 7 to 14; if the next octave has less than 1/25 of that, the band limit may lie there,
      and the power below 3.5 has to be more than 3 times that from 3.5 to 7; or
    - the variance of the energies of 4 x 4 blocks is more than 8 times that of stationary noise with the same power P in each octave, which
      is ``2 · 16 / ν`` of the squared mean energy with ``ν = (Σ P)² / Σ P²`` degrees of freedom.

    The 0.5 % darkest and the 0.5 % brightest pixels are clipped first, so that a defective pixel is no structure.

    The bounds were chosen on noise of 12 to 600 pixels, resized and compressed, on rendered scenes, and on photographs, of which about 1 % each
    are mistaken, most of them noise and photographs of 32 pixels or fewer that are enlarged.

    Args:
        pixels: images in [0, 1], at least 8 pixels high and wide; smaller ones count as structured unless they are flat.
    """
    clipped = _clipped(pixels.cpu().double())
    varied = clipped.flatten(2).std(2, correction=0) > FLAT
    if min(pixels.shape[2:]) < 2 * BLOCKS:
        return varied.any(1).to(pixels.device)
    powers, counts = _octaves(clipped)
    lowest, second, third, fourth = powers[..., :4].unbind(2)
    both = (lowest * counts[0] + second * counts[1]) / (counts[0] + counts[1])
    excess = (both > EXCESS * third) & ((third < STEEP * fourth) | (lowest > EXCESS_LOWEST * second))
    freedom = (powers @ counts).square() / (powers.square() @ counts).clamp(min=1e-30)
    uneven = _unevenness(clipped) * freedom > UNEVEN * 2 * BLOCKS**2
    return (varied & (excess | uneven)).any(1).to(pixels.device)


def _clipped(pixels: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch channel height width"]:
    """Pixels minus their mean, with outliers clipped."""
    rows = pixels.flatten(2).sort(2).values
    margin = math.ceil(OUTLIERS * rows.shape[2])
    low, high = (rows[..., place, None, None] for place in (margin, -1 - margin))
    clipped = pixels.clamp(low, high)
    return clipped - clipped.mean((2, 3), keepdim=True)


def _octaves(pixels: Float[Tensor, "batch channel height width"]) -> tuple[Float[Tensor, "batch channel octave"], Float[Tensor, " octave"]]:
    """Mean power in each octave of frequency without the mean of the image, at least four octaves; and the number of coefficients in each."""
    height, width = pixels.shape[2:]
    power = (_cosines(height) @ pixels @ _cosines(width).T).square().flatten(2)[..., 1:]
    octave = _octave_of(height, width).flatten()[1:]
    counts = torch.bincount(octave, minlength=4).double()
    sums = torch.zeros(*power.shape[:2], len(counts), dtype=power.dtype).index_add_(2, octave, power)
    return sums / counts.clamp(min=1), counts


def _octave_of(height: int, width: int) -> Int[Tensor, "height width"]:
    """The octave of each coefficient of the discrete cosine transform."""
    frequency = torch.hypot(torch.arange(height)[:, None] / height, torch.arange(width) / width) * min(height, width)
    return (2 * frequency / LOWEST).clamp(min=1).log2().floor().long()


def _cosines(count: int) -> Float[Tensor, "count count2"]:
    """The orthonormal discrete cosine transform of type II (Ahmed et al. 1974) as a matrix."""
    numbers = torch.arange(count, dtype=torch.float64)
    matrix = ((numbers + 0.5) * numbers[:, None] * (math.pi / count)).cos() * (2 / count) ** 0.5
    matrix[0] /= 2**0.5
    return matrix


def _unevenness(pixels: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch channel"]:
    """Variance of the energies of blocks over their squared mean."""
    down, across = (side // BLOCKS for side in pixels.shape[2:])
    squares = pixels[:, :, : BLOCKS * down, : BLOCKS * across].square()
    energies = squares.unfold(2, down, down).unfold(3, across, across).flatten(4).mean(4).flatten(2)
    return energies.var(2) / energies.mean(2).square().clamp(min=1e-30)
