"""What is known of pictures before a network is asked: smoothness, range, spectrum, correlated colours.

The two natural-image priors are those of Mahendran & Vedaldi 2016 (arXiv:1512.02017): both are of the order of one for a quiet
photograph (and of ten for one of strong contrasts), so that they enter a loss with weight one, and only the data term has a weight.
Pictures are given around their mean colour, in levels of 256.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from selfsight.core.clock import key
from selfsight.core.errors import UsageError

__all__ = ["BOUND", "Spectrum", "bounded_range", "decorrelated_colours", "estimate_spectrum", "natural_noise", "project", "total_variation"]

BOUND = 80.0
"""The typical distance of a colour from the mean, in levels of 256; twice of it is the most that is allowed."""
SLOPE = BOUND / 6.5
"""The typical difference of neighbours, in levels."""
COLOURS = ((0.5628, 0.1948, 0.0433), (0.5845, 0.0, -0.1082), (0.5845, -0.1948, 0.0649))
"""Rows: red, green, blue; columns: the directions in which colours of photographs vary independently, with their spread
(Olah et al. 2017, doi:10.23915/distill.00007)."""


def total_variation(pictures: Float[Tensor, "batch channel height width"], beta: float = 2.0) -> Float[Tensor, " batch"]:
    """``1/HW Σ ((Δ_x² + Δ_y²) / V²)^(β/2)`` over places and channels, V the typical difference; the last row and column have none."""
    down, across = torch.zeros_like(pictures), torch.zeros_like(pictures)
    down[:, :, :-1], across[:, :, :, :-1] = pictures.diff(dim=2), pictures.diff(dim=3)
    square = (down.square() + across.square()) / SLOPE**2
    if beta != 2:
        square = square.clamp(min=1e-6 / SLOPE**2) ** (beta / 2)  # whose slope is bounded at zero
    return square.sum((1, 2, 3)) / pictures[0, 0].numel()


def bounded_range(pictures: Float[Tensor, "batch channel height width"], alpha: float = 6.0) -> Float[Tensor, " batch"]:
    """``1/HW Σ (|x(u)| / B)^α`` over places, |x(u)| the length of a colour."""
    return (pictures.square().sum(1).clamp(min=1e-12).sqrt() / BOUND).pow(alpha).mean((1, 2))


def project(pictures: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch channel height width"]:
    """Pictures whose colours are at most twice the typical distance from the mean."""
    length = pictures.square().sum(1, keepdim=True).sqrt()
    return pictures * (2 * BOUND / length.clamp(min=2 * BOUND))


def natural_noise(shape: tuple[int, ...], seed: int) -> Float[Tensor, "batch channel height width"]:
    """Where an inversion begins: uniform noise whose 0.95 quantile (0.9 of its range) is the typical distance of one channel."""
    noise = torch.rand(*shape, generator=torch.Generator().manual_seed(key(seed, 0x1247))) * 2 - 1
    return noise / 0.9 * BOUND / 3**0.5


@dataclass(frozen=True)
class Spectrum:
    """The mean magnitude of the Fourier transform of pictures, in independent colours.

    Attributes:
        magnitude: of a square of the stored side (channel, side, side // 2 + 1), for unit amplitude of the transform ``norm="ortho"``.
    """

    magnitude: Float[Tensor, "channel rows columns"]

    def sized(self, height: int, width: int) -> Float[Tensor, "channel height half"]:
        """The same spectrum for pictures of another size: the magnitude at each frequency (cycles a pixel), interpolated."""
        side = self.magnitude.shape[1]
        rows = torch.fft.fftfreq(height) * side % side
        columns = torch.fft.rfftfreq(width) * side
        table = torch.cat([self.magnitude, self.magnitude[:, :1]], 1)  # frequencies go round
        low_row, low_column = rows.floor().long(), columns.floor().long().clamp(max=table.shape[2] - 2)
        part_row, part_column = (rows - low_row)[:, None], columns - low_column
        found = 0
        for row, weight_row in ((low_row, 1 - part_row), (low_row + 1, part_row)):
            for column, weight_column in ((low_column, 1 - part_column), (low_column + 1, part_column)):
                found = found + table[:, row][:, :, column] * weight_row * weight_column
        assert isinstance(found, Tensor)
        return found


def estimate_spectrum(pictures: Float[Tensor, "batch 3 height width"]) -> Spectrum:
    """The mean magnitude over pictures in [0, 1], in independent colours, as MACO uses it (Fel et al. 2023, arXiv:2306.06805).

    Raises:
        UsageError: the pictures are not square, or have no three channels.
    """
    if pictures.shape[1] != 3 or pictures.shape[2] != pictures.shape[3]:
        raise UsageError(f"A spectrum of pictures of {tuple(pictures.shape[1:])} cannot be estimated.", "Give square colour pictures.")
    mixing = torch.tensor(COLOURS).to(pictures)
    levels = torch.logit(pictures.clamp(0.02, 0.98))
    independent = torch.einsum("dc,bchw->bdhw", torch.linalg.inv(mixing), levels)
    return Spectrum(torch.fft.rfft2(independent, norm="ortho").abs().mean(0))


def decorrelated_colours(independent: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 height width"]:
    """Pictures in [0, 1] from independent colours: mixed as photographs mix them, then a sigmoid."""
    return torch.einsum("cd,bdhw->bchw", torch.tensor(COLOURS).to(independent), independent).sigmoid()
