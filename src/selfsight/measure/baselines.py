"""Baselines: the same score of raw pixels and of the untrained network. A representation has to exceed both.

The policy for every baseline: several seeds of each form, the mean over seeds, the best form by the direction of the score, and the widest
interval of its seeds.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from selfsight.backbones.loading import untrained_twin
from selfsight.bank.extract import Encoder
from selfsight.core.clock import key
from selfsight.core.representation import Representation
from selfsight.data.evaluation_view import evaluation_view
from selfsight.data.source import Source
from selfsight.measure.results import Score

__all__ = [
    "ANALYSIS_SEEDS",
    "ESTIMATED",
    "PIXEL_SIDE",
    "UNTRAINED_SEEDS",
    "channel_statistics",
    "estimate_statistics",
    "pixel_encoder",
    "strongest_form",
    "untrained_network",
    "untrained_networks",
]

PIXEL_SIDE = 32
UNTRAINED_SEEDS = 3
ANALYSIS_SEEDS = 2
"""Fewer than for probes, as analyses take minutes."""
ESTIMATED = "batch statistics estimated"
"""Form of the untrained network whose batch statistics are those of training images."""


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
        seed: seed of the sample.
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
        seed: seed of the sample.
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
    for form in ("batch statistics as initialised", ESTIMATED) if has_norms else ("as initialised",):
        for seed in range(seeds):
            yield form, seed, partial(untrained_network, phi, source if form == ESTIMATED else None, seed=seed)


def untrained_network(phi: Representation, source: Source | None, *, seed: int = 0) -> Representation:
    """The same network with random weights.

    Args:
        phi: the representation whose architecture is used.
        source: images for the statistics of batch norms; None: as initialised.
        seed: seed of the weights and of the sample of images.

    Raises:
        UsageError: the architecture cannot be built by name.
    """
    twin = untrained_twin(phi, key(seed, 0xF1008))
    if source is not None:
        estimate_statistics(twin, source, seed=seed)
    return twin


def strongest_form(forms: Mapping[str, Sequence[Score]], *, lower: bool = False) -> tuple[str, Score]:
    """The best of several forms of a baseline by the mean over its seeds: that mean, with the lowest and the highest bound of the seeds.

    Args:
        forms: scores of each seed, by form.
        lower: whether lower is better.

    Returns:
        Name of the form, and its score.
    """
    means = {form: float(np.mean([score.value for score in seeds])) for form, seeds in forms.items()}
    best = (min if lower else max)(means, key=lambda form: means[form])
    return best, Score(means[best], min(score.low for score in forms[best]), max(score.high for score in forms[best]))
