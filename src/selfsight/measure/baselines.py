"""Baselines: the same score of raw pixels and of the untrained network. A representation has to exceed both."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from selfsight.backbones.loading import untrained_twin
from selfsight.bank.extract import Encoder
from selfsight.core.clock import key
from selfsight.core.representation import Representation
from selfsight.data.evaluation_view import evaluation_view
from selfsight.data.source import Source

__all__ = ["PIXEL_SIDE", "UNTRAINED_SEEDS", "estimate_statistics", "pixel_encoder", "untrained_networks"]

PIXEL_SIDE = 32
UNTRAINED_SEEDS = 3


def pixel_encoder(mean: Tensor, std: Tensor) -> Encoder:
    """Encoder with two forms of raw pixels at 32 x 32 (antialiased): normalised per channel, and also centred per image.

    Args:
        mean: mean (C,) of each channel.
        std: standard deviation (C,) of each channel.
    """

    def encode(images: Tensor) -> dict[str, Tensor]:
        shape = (-1, *(1,) * (images.ndim - 2))
        normalised = (images - mean.reshape(shape)) / std.reshape(shape)
        centred = normalised - normalised.mean(tuple(range(1, images.ndim)), keepdim=True)
        return {"channel-normalised": normalised.flatten(1), "channel-normalised, centred per image": centred.flatten(1)}

    return encode


def channel_statistics(source: Source, *, size: int = PIXEL_SIDE, seed: int = 0, count: int = 2000) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel over a sample of images, values in [0, 1].

    Args:
        source: the data set.
        size: side of the images in pixels; time steps of sounds.
        seed: of the sample.
        count: maximum number of images.
    """
    rows = np.random.default_rng(seed).permutation(len(source))[:count]
    images = evaluation_view(source, size)(np.sort(rows))
    rest = (0, *range(2, images.ndim))
    return images.mean(rest), images.std(rest).clamp(min=1e-3)


@torch.no_grad()
def estimate_statistics(phi: Representation, source: Source, *, seed: int = 0, count: int = 2048, batch: int = 256) -> bool:
    """Set the running statistics of batch norms to their cumulative average over training images.

    Args:
        phi: the representation, changed in place.
        source: training images.
        seed: of the sample.
        count: maximum number of images.
        batch: approximate number of images per batch.

    Returns:
        Whether the network has batch norms.
    """
    norms = [layer for layer in phi.backbone.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return False
    for layer in norms:
        layer.reset_running_stats()
        layer.momentum = None  # a cumulative average
    phi.backbone.train()
    rows = np.random.default_rng(seed).permutation(len(source))[:count]
    for part in np.array_split(rows, max(len(rows) // batch, 1)):
        phi.features(evaluation_view(source, phi)(part))
    phi.backbone.eval()
    return True


def untrained_networks(
    phi: Representation, source: Source, *, seeds: int = UNTRAINED_SEEDS
) -> Iterator[tuple[str, int, Callable[[], Representation]]]:
    """Forms of the untrained network, each with several seeds: batch statistics as initialised, and estimated on training images.

    Args:
        phi: the representation whose architecture is used.
        source: training images.
        seeds: number of random initialisations.

    Yields:
        Form, seed, and a function that builds the network.
    """
    has_norms = any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in phi.backbone.modules())
    for form in ("batch statistics as initialised", "batch statistics estimated") if has_norms else ("as initialised",):
        for seed in range(seeds):

            def make(form: str = form, seed: int = seed) -> Representation:
                twin = untrained_twin(phi, key(seed, 0xF1008))
                if form.endswith("estimated"):
                    estimate_statistics(twin, source, seed=seed)
                return twin

            yield form, seed, make
