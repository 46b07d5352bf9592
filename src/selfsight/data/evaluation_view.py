"""The view that a representation is evaluated on, for images, clips and sounds."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from selfsight.core.errors import UsageError
from selfsight.core.views import Images
from selfsight.data.loader import load_images
from selfsight.data.source import Rows, Source
from selfsight.data.views.image.geometry import Normalise, central_square

if TYPE_CHECKING:
    from selfsight.core.representation import Representation

__all__ = ["EvaluationView", "central_view", "check_modality", "evaluation_view"]


def central_view(images: Images, size: int, normalise: Normalise | None = None) -> Float[Tensor, "batch channel *size"]:
    """The deterministic view: central square of an image, central square of every frame of a clip, central window of a sound.

    Args:
        images: a batch.
        size: side of the square in pixels; of a sound the length of the window in time steps.
        normalise: mean and standard deviation of each channel; by default images and clips are in [0, 1] and sounds as they are.
    """
    if images.modality == "clip":
        batch, _, frames = images.pixels.shape[:3]
        folded = Images(images.pixels.transpose(1, 2).flatten(0, 1), images.index.repeat_interleave(frames), _repeated(images, frames))
        return central_square(folded, size, normalise).unflatten(0, (batch, frames)).transpose(1, 2)
    if images.modality == "sound":
        window = central_window(images.pixels.float(), size)
        mean, std = (normalise or Normalise((0.0,), (1.0,))).tensors(window.shape[1], window.device)
        return (window - mean[:, None, None]) / std[:, None, None]
    return central_square(images, size, normalise)


def _repeated(images: Images, frames: int) -> Tensor | None:
    return None if images.extent is None else images.extent.repeat_interleave(frames, 0)


def central_window(sounds: Float[Tensor, "batch channel mel time"], length: int) -> Float[Tensor, "batch channel mel length"]:
    """The central time steps of spectrograms; shorter ones are padded with their lowest value on both sides.

    Args:
        sounds: log-mel spectrograms.
        length: time steps.
    """
    spare = sounds.shape[3] - length
    if spare >= 0:
        return sounds[..., spare // 2 : spare // 2 + length]
    low = sounds.amin((1, 2, 3), keepdim=True)
    padded = low.expand(-1, sounds.shape[1], sounds.shape[2], length).clone()
    padded[..., -spare // 2 : -spare // 2 + sounds.shape[3]] = sounds
    return padded


class EvaluationView:
    """Samples of a source as a representation takes them.

    Args:
        source: the data set.
        size: side of images and clips in pixels; time steps of sounds.
        device: device of the views; that of the CPU by default.
    """

    def __init__(self, source: Source, size: int, device: torch.device | None = None) -> None:
        self.source, self.size, self.device = source, size, device

    def __call__(self, rows: Rows) -> Float[Tensor, "batch channel *size"]:
        """The views of some rows, in their order."""
        return self.of(load_images(self.source, rows))

    def of(self, images: Images) -> Float[Tensor, "batch channel *size"]:
        """The views of a batch that was read before."""
        device = self.device
        return central_view(images if device is None else images.map(lambda tensor: tensor.to(device)), self.size)


def evaluation_view(source: Source, representation: "Representation | int") -> EvaluationView:
    """The input of a representation for a source in every evaluation.

    Args:
        source: the data set.
        representation: the network, which decides size and device; or a size alone, for measures without a network.
    """
    if isinstance(representation, int):
        return EvaluationView(source, representation)
    return EvaluationView(source, representation.size, representation.device)


def check_modality(source: Source, representation: "Representation") -> None:
    """Check that a network takes the modality of a data set, by its first sample.

    Args:
        source: the data set.
        representation: the network.

    Raises:
        UsageError: it takes another one.
    """
    data, takes = source.read(np.arange(1)).modality, representation.backbone.modality
    if data != takes:
        raise UsageError(f"The data are {data}s, and {representation.name} takes {takes}s.", "Use a network for the modality of the data.")
