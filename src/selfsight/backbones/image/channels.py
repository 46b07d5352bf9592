"""Networks on some channels of a colour space, and pairs of networks on complementary channels."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from selfsight.backbones.table import build_backbone
from selfsight.core.errors import UsageError
from selfsight.core.lab import lab
from selfsight.core.representation import Backbone, ColourBackbone, Features, SplitBackbone

__all__ = ["ChannelSplit", "ChannelSubset", "channel_split", "channels"]

Space = Literal["lab", "rgb"]
_MIDDLE, _SCALE = (50.0, 0.0, 0.0), (25.0, 25.0, 25.0)


class Colours(nn.Module):
    """Converts images normalised with ImageNet's statistics to L*a*b*, shifted and scaled to about [-2, 2]."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406])[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225])[:, None, None], persistent=False)

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 height width"]:
        with torch.autocast(images.device.type, enabled=False):
            values = lab((images if images.dtype == torch.float64 else images.float()) * self.std + self.mean)
            return (values - values.new_tensor(_MIDDLE)[:, None, None]) / values.new_tensor(_SCALE)[:, None, None]


class ChannelSubset(ColourBackbone):
    """A network on some channels of a colour space.

    Args:
        network: the network; its input has as many channels as are selected.
        space: ``lab`` or ``rgb``.
        channels: numbers of the selected channels.
    """

    def __init__(self, network: Backbone, space: Space, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.network, self.space, self.kept, self.colours = network, space, list(channels), Colours()
        self.dim, self.stride, self.channels = network.dim, network.stride, 3
        self.layers = tuple(f"network.{layer}" for layer in network.layers)

    def lab(self, images: Float[Tensor, "batch 3 *size"]) -> Float[Tensor, "batch 3 *size"]:
        return self.colours(images)

    def forward(self, images: Float[Tensor, "batch 3 *size"]) -> Features:
        values = self.colours(images) if self.space == "lab" else images
        return self.network(values[:, self.kept].to(images.dtype))


class ChannelSplit(SplitBackbone):
    """Two networks on complementary channels, with concatenated features.

    Args:
        first: the first half.
        second: the second half, with a grid of the same size.
    """

    def __init__(self, first: ChannelSubset, second: ChannelSubset) -> None:
        super().__init__()
        self.first, self.second = first, second
        self.dim, self.stride, self.channels = first.dim + second.dim, first.stride, 3
        self.layers = tuple(f"{half}.{layer}" for layer in first.layers for half in ("first", "second"))

    def lab(self, images: Float[Tensor, "batch 3 *size"]) -> Float[Tensor, "batch 3 *size"]:
        return self.first.lab(images)

    def halves(self, images: Float[Tensor, "batch 3 *size"]) -> tuple[Features, Features]:
        return self.first(images), self.second(images)

    def forward(self, images: Float[Tensor, "batch 3 *size"]) -> Features:
        one, other = self.halves(images)
        return Features(torch.cat([one.pooled, other.pooled], 1), torch.cat([one.grid, other.grid], 1))


def _channels(text: int | str) -> tuple[int, ...]:
    """Parse channel numbers: ``0`` or ``12``.

    Raises:
        UsageError: the text does not name one or two of three channels.
    """
    digits = sorted({int(digit) for digit in str(text) if digit in "012"})
    if not 0 < len(digits) < 3 or len(digits) != len(str(text)):
        raise UsageError(f"{text!r} does not name one or two of three channels.", "Write 0, 1, 2, 01, 02 or 12.")
    return tuple(digits)


def channels(
    *, size: int = 32, channels: int = 3, network: str = "resnet_tiny", space: Space = "lab", keep: int | str = 0
) -> ChannelSubset:
    """A network on some channels of a colour space; by default lightness only.

    Args:
        size: side of the training images in pixels.
        channels: channels of the images; has to be 3.
        network: name of the network.
        space: ``lab`` or ``rgb``.
        keep: numbers of the selected channels as digits.

    Raises:
        UsageError: the images have other than three channels, or ``keep`` does not name one or two of them.
    """
    _need_colour_images(channels)
    digits = _channels(keep)
    return ChannelSubset(build_backbone(network, size=size, channels=len(digits)), space, digits)


def channel_split(
    *, size: int = 32, channels: int = 3, network: str = "resnet_tiny", space: Space = "lab", first: int | str = 0
) -> ChannelSplit:
    """Two networks on complementary channels of a colour space; by default lightness and colour.

    Args:
        size: side of the training images in pixels.
        channels: channels of the images; has to be 3.
        network: name of each network.
        space: ``lab`` or ``rgb``.
        first: channel numbers of the first network as digits; the second gets the others.

    Raises:
        UsageError: the images have other than three channels, or ``first`` does not name one or two of them.
    """
    _need_colour_images(channels)
    digits = _channels(first)
    rest = tuple(digit for digit in range(3) if digit not in digits)
    one, other = (ChannelSubset(build_backbone(network, size=size, channels=len(each)), space, each) for each in (digits, rest))
    return ChannelSplit(one, other)


def _need_colour_images(channels: int) -> None:
    if channels != 3:
        raise UsageError(f"Images of {channels} channels cannot be split into lightness and colour.", "Use colour images.")
