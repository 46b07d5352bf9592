"""Gaussian blur."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from selfsight.data.views.image.weights import gaussian_band
from selfsight.data.views.keyed_random import KeyedRandom

__all__ = ["Blur", "gaussian_blur"]


@dataclass(frozen=True)
class Blur:
    """Gaussian blur of views.

    Attributes:
        p: probability that an image is blurred.
        low: minimum standard deviation in pixels of the view.
        high: maximum standard deviation; it is uniform between the two.
        kernel: length of the kernel in pixels of the view, odd; 0: a tenth of the view's side, rounded to an odd number,
            as in SimCLR (Chen et al. 2020, arXiv:2002.05709).
    """

    p: float = 0.5
    low: float = 0.1
    high: float = 2.0
    kernel: int = 0

    def draw(self, random: KeyedRandom) -> dict[str, Tensor]:
        """``sigma`` (N,), 0 for no blur."""
        sigma = random.at(1).uniform(low=self.low, high=self.high)
        return {"sigma": torch.where(random.at(2).uniform() < self.p, sigma, 0.0)}

    def taps(self, size: int) -> int:
        """Length of the kernel for views of this side."""
        return self.kernel or (size // 10) | 1


def gaussian_blur(
    images: Float[Tensor, "batch channel height width"], sigma: Float[Tensor, " batch"], kernel: int
) -> Float[Tensor, "batch channel height width"]:
    """Gaussian blur with one standard deviation per image and reflected borders; equal to torchvision's.

    Args:
        images: (N, C, H, W).
        sigma: standard deviation (N,) in pixels; 0: no blur.
        kernel: length of the kernel in pixels, odd.
    """
    height, width = images.shape[2:]
    reach = kernel // 2
    padded = pad(images, (reach, reach, reach, reach), mode="reflect")
    rows = gaussian_band(sigma, kernel, height)[:, None]
    columns = gaussian_band(sigma, kernel, width)[:, None]
    return rows @ padded @ columns.transpose(2, 3)
