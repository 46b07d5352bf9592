"""Natural-image priors: smoothness, bounded range, magnitude spectrum, decorrelated colours.

The smoothness and range priors are those of Mahendran & Vedaldi 2016 (arXiv:1512.02017). Both are of order 1 for a smooth photograph (10
for one of high contrast), so that they enter a loss with weight 1 and only the data term needs a weight. Images are centred at their mean
colour, in levels of 256.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from selfsight.core.clock import key
from selfsight.core.errors import UsageError

__all__ = ["BOUND", "Spectrum", "bounded_range", "decorrelated_colours", "estimate_spectrum", "natural_noise", "project", "total_variation"]

BOUND = 80.0
"""Typical distance of a colour from the mean, in levels of 256; the maximum is twice this."""
SLOPE = BOUND / 6.5
"""Typical difference of neighbouring pixels, in levels."""
COLOURS = ((0.5628, 0.1948, 0.0433), (0.5845, 0.0, -0.1082), (0.5845, -0.1948, 0.0649))
"""Rows: red, green, blue; columns: scaled principal directions of the colours of photographs
(Olah et al. 2017, doi:10.23915/distill.00007)."""


def total_variation(images: Float[Tensor, "batch channel height width"], beta: float = 2.0) -> Float[Tensor, " batch"]:
    """``1/HW Σ ((Δ_x² + Δ_y²) / V²)^(β/2)`` over pixels and channels, V the typical difference; differences past the border are zero.

    Args:
        images: centred images ``(B, C, H, W)`` in levels of 256.
        beta: the exponent β.
    """
    down, across = torch.zeros_like(images), torch.zeros_like(images)
    down[:, :, :-1], across[:, :, :, :-1] = images.diff(dim=2), images.diff(dim=3)
    square = (down.square() + across.square()) / SLOPE**2
    if beta != 2:
        square = square.clamp(min=1e-6 / SLOPE**2) ** (beta / 2)  # keeps the gradient bounded at zero
    return square.sum((1, 2, 3)) / images[0, 0].numel()


def bounded_range(images: Float[Tensor, "batch channel height width"], alpha: float = 6.0) -> Float[Tensor, " batch"]:
    """``1/HW Σ (|x(u)| / B)^α`` over pixels, |x(u)| the norm of a colour.

    Args:
        images: centred images ``(B, C, H, W)`` in levels of 256.
        alpha: the exponent α.
    """
    return (images.square().sum(1).clamp(min=1e-12).sqrt() / BOUND).pow(alpha).mean((1, 2))


def project(images: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch channel height width"]:
    """Scale down colours that are further from the mean than twice the typical distance."""
    length = images.square().sum(1, keepdim=True).sqrt()
    return images * (2 * BOUND / length.clamp(min=2 * BOUND))


def natural_noise(shape: tuple[int, ...], seed: int) -> Float[Tensor, "batch channel height width"]:
    """Initial image of an inversion: uniform noise whose 0.95 quantile (0.9 of its range) is the typical distance of one channel.

    Args:
        shape: shape of the images ``(B, C, H, W)``.
        seed: seed of the noise.
    """
    noise = torch.rand(*shape, generator=torch.Generator().manual_seed(key(seed, 0x1247))) * 2 - 1
    return noise / 0.9 * BOUND / 3**0.5


@dataclass(frozen=True)
class Spectrum:
    """Mean magnitude of the Fourier transform of images, in decorrelated colours.

    Attributes:
        magnitude: at a square size (channel, side, side // 2 + 1), with ``norm="ortho"``.
    """

    magnitude: Float[Tensor, "channel rows columns"]

    def sized(self, height: int, width: int) -> Float[Tensor, "channel height half"]:
        """The spectrum at another image size: the magnitude at each frequency (cycles per pixel), interpolated bilinearly.

        Args:
            height: height in pixels.
            width: width in pixels.
        """
        side = self.magnitude.shape[1]
        rows = torch.fft.fftfreq(height) * side % side
        columns = torch.fft.rfftfreq(width) * side
        table = torch.cat([self.magnitude, self.magnitude[:, :1]], 1)  # frequencies are periodic
        low_row, low_column = rows.floor().long(), columns.floor().long().clamp(max=table.shape[2] - 2)
        fraction_row, fraction_column = (rows - low_row)[:, None], columns - low_column
        magnitude = 0
        for row, weight_row in ((low_row, 1 - fraction_row), (low_row + 1, fraction_row)):
            for column, weight_column in ((low_column, 1 - fraction_column), (low_column + 1, fraction_column)):
                magnitude = magnitude + table[:, row][:, :, column] * weight_row * weight_column
        assert isinstance(magnitude, Tensor)
        return magnitude


def estimate_spectrum(images: Float[Tensor, "batch 3 height width"]) -> Spectrum:
    """Mean magnitude spectrum of images in [0, 1], in decorrelated colours, as MACO uses it (Fel et al. 2023, arXiv:2306.06805).

    Raises:
        UsageError: the images are not square, or do not have three channels.
    """
    if images.shape[1] != 3 or images.shape[2] != images.shape[3]:
        raise UsageError(f"The spectrum of images of shape {tuple(images.shape[1:])} cannot be estimated.", "Use square colour images.")
    mixing = torch.tensor(COLOURS).to(images)
    levels = torch.logit(images.clamp(0.02, 0.98))
    independent = torch.einsum("dc,bchw->bdhw", torch.linalg.inv(mixing), levels)
    return Spectrum(torch.fft.rfft2(independent, norm="ortho").abs().mean(0))


def decorrelated_colours(independent: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 height width"]:
    """Images in [0, 1] from decorrelated colours: a linear mixture, then a sigmoid."""
    return torch.einsum("cd,bdhw->bchw", torch.tensor(COLOURS).to(independent), independent).sigmoid()
