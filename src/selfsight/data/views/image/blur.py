"""Gaussian blur."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from selfsight.data.views.chance import KeyedRandom
from selfsight.data.views.image.weights import gaussian_band

__all__ = ["Blur", "gaussian_blur"]


@dataclass(frozen=True)
class Blur:
    """Gaussian blur of views.

    Attributes:
        p: the probability that an image is blurred.
        low, high: the standard deviation in pixels of the view is uniform between them.
        kernel: length of the kernel in pixels of the view, odd; 0: the odd number nearest above a tenth of the view's side,
            as SimCLR's (Chen et al. 2020, arXiv:2002.05709).
    """

    p: float = 0.5
    low: float = 0.1
    high: float = 2.0
    kernel: int = 0

    def draw(self, dice: KeyedRandom) -> dict[str, Tensor]:
        """``sigma`` (batch), 0 where there is no blur."""
        sigma = dice.at(1).uniform(low=self.low, high=self.high)
        return {"sigma": torch.where(dice.at(2).uniform() < self.p, sigma, 0.0)}

    def taps(self, size: int) -> int:
        """The kernel's length for views of this side."""
        return self.kernel or (size // 10) | 1


def gaussian_blur(
    images: Float[Tensor, "batch channel height width"], sigma: Float[Tensor, " batch"], kernel: int
) -> Float[Tensor, "batch channel height width"]:
    """Blur with a standard deviation of its own for each image and reflected borders; equal to torchvision's. 0: no blur."""
    height, width = images.shape[2:]
    reach = kernel // 2
    padded = pad(images, (reach, reach, reach, reach), mode="reflect")
    rows = gaussian_band(sigma, kernel, height)[:, None]
    columns = gaussian_band(sigma, kernel, width)[:, None]
    return rows @ padded @ columns.transpose(2, 3)
