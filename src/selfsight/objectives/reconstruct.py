"""Reconstruction: paint what was hidden."""

import math

from jaxtyping import Bool, Float, Num
from torch import Tensor

from selfsight.objectives.precision import in_full_precision

__all__ = ["gaussian_likelihood", "masked_mae", "masked_mse", "normal_divergence", "patches", "standard_patches", "weighted_mse"]


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
    return _hidden_mean((guess - target).square().mean(2), hidden)


@in_full_precision
def masked_mae(
    guess: Float[Tensor, "batch patch value"], target: Float[Tensor, "batch patch value"], hidden: Bool[Tensor, "batch patch"]
) -> Float[Tensor, ""]:
    """Mean absolute error over the hidden patches (Xie et al. 2021, arXiv:2111.09886)."""
    return _hidden_mean((guess - target).abs().mean(2), hidden)


@in_full_precision
def weighted_mse(
    guess: Float[Tensor, "batch channel height width"],
    target: Float[Tensor, "batch channel height width"],
    weight: Num[Tensor, "batch 1 height width"],
) -> Float[Tensor, ""]:
    """``Σ w (guess - target)² / Σ w`` over the pixels of an image, the mean over channels and images."""
    error = (guess - target).square().mean(1, keepdim=True)
    return ((error * weight).flatten(1).sum(1) / weight.flatten(1).sum(1)).mean()


def _hidden_mean(error: Float[Tensor, "batch patch"], hidden: Bool[Tensor, "batch patch"]) -> Float[Tensor, ""]:
    return ((error * hidden).sum(1) / hidden.sum(1)).mean()


@in_full_precision
def gaussian_likelihood(
    target: Float[Tensor, "batch *shape"], mean: Float[Tensor, "batch *shape"], log_deviation: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """``Σ log N(target; mean, σ²)`` over all numbers of an image, the mean over images, in nats."""
    error = ((target - mean) * (-log_deviation).exp()).square() / 2
    return -(error + log_deviation + math.log(2 * math.pi) / 2).flatten(1).sum(1).mean()


@in_full_precision
def normal_divergence(mean: Float[Tensor, "batch dim"], log_variance: Float[Tensor, "batch dim"]) -> Float[Tensor, ""]:
    """``KL(N(μ, σ²) || N(0, 1)) = ½ Σ (μ² + σ² - ln σ² - 1)``, the mean over rows, in nats (Kingma & Welling 2013, arXiv:1312.6114, B)."""
    return (mean.square() + log_variance.exp() - log_variance - 1).sum(1).mean() / 2
