"""Reconstruction losses of pixels and patches, and the terms of a variational autoencoder (Kingma & Welling 2013, arXiv:1312.6114)."""

import math

import torch
from jaxtyping import Bool, Float, Num, Shaped
from torch import Tensor

from selfsight.objectives.precision import in_full_precision

__all__ = ["gaussian_likelihood", "masked_mae", "masked_mse", "normal_divergence", "patches", "standard_patches", "weighted_mse"]


def patches(images: Float[Tensor, "batch channel height width"], side: int) -> Float[Tensor, "batch patch value"]:
    """Split images into non-overlapping patches in raster order (Dosovitskiy et al. 2020, arXiv:2010.11929).

    Args:
        images: (N, C, H, W); H and W are multiples of ``side``.
        side: side of a patch in pixels.

    Returns:
        (N, P, side · side · C), each patch flattened by row, column, channel.
    """
    batch, channels, height, width = images.shape
    cells = images.view(batch, channels, height // side, side, width // side, side)
    return cells.permute(0, 2, 4, 3, 5, 1).reshape(batch, -1, side * side * channels)


@in_full_precision
def standard_patches(values: Float[Tensor, "batch patch value"]) -> Float[Tensor, "batch patch value"]:
    """Standardise each patch by its own mean and (unbiased) standard deviation (He et al. 2021, arXiv:2111.06377, section 3)."""
    return (values - values.mean(2, keepdim=True)) / (values.var(2, keepdim=True) + 1e-6).sqrt()


@in_full_precision
def masked_mse(
    guess: Float[Tensor, "batch patch value"], target: Float[Tensor, "batch patch value"], hidden: Bool[Tensor, "batch patch"]
) -> Float[Tensor, ""]:
    """Mean squared error over the masked patches of each image; the mean over images (He et al. 2021, arXiv:2111.06377).

    Images without a masked patch are left out; if there are no others, it is 0.

    Args:
        guess: predicted patches (N, P, V).
        target: true patches (N, P, V).
        hidden: mask (N, P), True for masked patches.
    """
    return _weighted_mean((guess - target).square().mean(2), hidden)


@in_full_precision
def masked_mae(
    guess: Float[Tensor, "batch patch value"], target: Float[Tensor, "batch patch value"], hidden: Bool[Tensor, "batch patch"]
) -> Float[Tensor, ""]:
    """Mean absolute error over the masked patches of each image; the mean over images (Xie et al. 2021, arXiv:2111.09886).

    Images without a masked patch are left out; if there are no others, it is 0.

    Args:
        guess: predicted patches (N, P, V).
        target: true patches (N, P, V).
        hidden: mask (N, P), True for masked patches.
    """
    return _weighted_mean((guess - target).abs().mean(2), hidden)


@in_full_precision
def weighted_mse(
    guess: Float[Tensor, "batch channel height width"],
    target: Float[Tensor, "batch channel height width"],
    weight: Num[Tensor, "batch 1 height width"],
) -> Float[Tensor, ""]:
    """``Σ w (guess - target)² / Σ w`` over the pixels of each image; the mean over channels and images.

    Images whose weights are all zero are left out; if there are no others, it is 0.

    Args:
        guess: predicted images (N, C, H, W).
        target: true images (N, C, H, W).
        weight: w ≥ 0 (N, 1, H, W).
    """
    error = (guess - target).square().mean(1, keepdim=True)
    return _weighted_mean(error.flatten(1), weight.flatten(1))


def _weighted_mean(error: Float[Tensor, "batch place"], weight: Shaped[Tensor, "batch place"]) -> Float[Tensor, ""]:
    """``Σ w e / Σ w`` in each row (weights are numbers or a mask); the mean over rows with a positive sum of weights, 0 if there are none."""
    total = weight.sum(1)
    counted = total > 0
    means = torch.where(counted, (error * weight).sum(1), 0) / torch.where(counted, total, 1)
    return means.sum() / counted.sum().clamp(min=1)


@in_full_precision
def gaussian_likelihood(
    target: Float[Tensor, "batch *shape"], mean: Float[Tensor, "batch *shape"], log_deviation: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """``Σ log N(target; mean, σ²)`` over all elements of an image; the mean over images, in nats.

    Args:
        target: true images (N, ...).
        mean: predicted means (N, ...).
        log_deviation: ln σ, one number for all elements.
    """
    error = ((target - mean) * (-log_deviation).exp()).square() / 2
    return -(error + log_deviation + math.log(2 * math.pi) / 2).flatten(1).sum(1).mean()


@in_full_precision
def normal_divergence(mean: Float[Tensor, "batch dim"], log_variance: Float[Tensor, "batch dim"]) -> Float[Tensor, ""]:
    """``KL(N(μ, σ²) || N(0, 1)) = ½ Σ (μ² + σ² - ln σ² - 1)`` (Kingma & Welling 2013, arXiv:1312.6114, appendix B).

    Args:
        mean: μ (N, D).
        log_variance: ln σ² (N, D).

    Returns:
        The mean over rows, in nats.
    """
    return (mean.square() + log_variance.exp() - log_variance - 1).sum(1).mean() / 2
