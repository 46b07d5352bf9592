"""Reconstruction: paint what was hidden."""

from jaxtyping import Bool, Float
from torch import Tensor

from selfsight.objectives.precision import in_full_precision

__all__ = ["masked_mse", "patches", "standard_patches"]


def patches(images: Float[Tensor, "batch channel height width"], side: int) -> Float[Tensor, "batch patch value"]:
    """Non-overlapping patches in reading order, each flattened as row, column, channel."""
    batch, channels, height, width = images.shape
    cells = images.view(batch, channels, height // side, side, width // side, side)
    return cells.permute(0, 2, 4, 3, 5, 1).reshape(batch, -1, side * side * channels)


@in_full_precision
def standard_patches(values: Float[Tensor, "batch patch value"]) -> Float[Tensor, "batch patch value"]:
    """Each patch less its mean, over its (unbiased) standard deviation (He et al. 2021, arXiv:2111.06377, section 3)."""
    return (values - values.mean(2, keepdim=True)) / (values.var(2, keepdim=True) + 1e-6).sqrt()


@in_full_precision
def masked_mse(
    guess: Float[Tensor, "batch patch value"], target: Float[Tensor, "batch patch value"], hidden: Bool[Tensor, "batch patch"]
) -> Float[Tensor, ""]:
    """Mean squared error over the hidden patches; every row hides equally many, so the mean over rows is the mean over patches."""
    error = (guess - target).square().mean(2)
    return ((error * hidden).sum(1) / hidden.sum(1)).mean()
