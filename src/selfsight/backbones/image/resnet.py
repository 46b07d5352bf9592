"""Residual networks (He et al. 2015, arXiv:1512.03385), with a stem for small images."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import relu

from selfsight.core.edges import sobel
from selfsight.core.representation import Backbone, Features

__all__ = ["ResNet", "resnet18", "resnet50", "resnet_tiny"]

SMALL = 96
"""The stem keeps the resolution of images up to this side in pixels."""


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions with a residual connection.

    Args:
        before: channels of the input.
        width: channels of the output.
        stride: stride of the first convolution.
    """

    expansion = 1

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.shortcut = _shortcut(before, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        inner = relu(self.norm1(self.conv1(x)), inplace=True)
        return relu(self.norm2(self.conv2(inner)) + self.shortcut(x), inplace=True)


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions with a residual connection.

    Args:
        before: channels of the input.
        width: channels of the 3 x 3 convolution; the output has four times as many.
        stride: stride of the 3 x 3 convolution.
    """

    expansion = 4

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        after = width * self.expansion
        self.conv1 = nn.Conv2d(before, width, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, after, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(after)
        self.shortcut = _shortcut(before, after, stride)

    def forward(self, x: Tensor) -> Tensor:
        inner = relu(self.norm1(self.conv1(x)), inplace=True)
        inner = relu(self.norm2(self.conv2(inner)), inplace=True)
        return relu(self.norm3(self.conv3(inner)) + self.shortcut(x), inplace=True)


def _shortcut(before: int, after: int, stride: int) -> nn.Module:
    if stride == 1 and before == after:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))


class Sobel(nn.Module):
    """Horizontal and vertical edges of the grey image instead of colours, as a fixed first layer."""

    def forward(self, images: Tensor) -> Tensor:
        return sobel(images)


class ResNet(Backbone):
    """A residual network of four stages.

    Args:
        block: ``BasicBlock`` or ``Bottleneck``.
        depths: blocks in each stage.
        widths: channels in each stage, before the block's expansion.
        size: side of the training images (pixels); up to 96 the stem is one 3 x 3 convolution of stride 1,
            otherwise 7 x 7 of stride 2 and max pooling, as published.
        channels: channels of the images.
        sobel: whether a fixed Sobel filter precedes the stem.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: Sequence[int],
        widths: Sequence[int],
        *,
        size: int = 224,
        channels: int = 3,
        sobel: bool = False,
    ) -> None:
        super().__init__()
        self.edges = Sobel() if sobel else nn.Identity()
        inputs = 2 if sobel else channels
        small = size <= SMALL
        stem = nn.Conv2d(inputs, widths[0], 3, 1, 1, bias=False) if small else nn.Conv2d(inputs, widths[0], 7, 2, 3, bias=False)
        pool = nn.Identity() if small else nn.MaxPool2d(3, 2, 1)
        self.stem = nn.Sequential(stem, nn.BatchNorm2d(widths[0]), nn.ReLU(inplace=True), pool)
        stages, before = [], widths[0]
        for number, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            blocks = []
            for position in range(depth):
                blocks.append(block(before, width, 2 if number and not position else 1))
                before = width * block.expansion
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.dim, self.channels = before, channels
        self.stride = (1 if small else 4) * 2 ** (len(depths) - 1)
        self.layers = ("stem", *(f"stages.{number}" for number in range(len(depths))))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Float[Tensor, "batch channel *size"]) -> Features:
        grid = self.stages(self.stem(self.edges(images)))
        return Features(grid.mean((2, 3)), grid)


def resnet_tiny(*, size: int = 32, channels: int = 3, sobel: bool = False, width: int = 32, blocks: int = 1) -> ResNet:
    """Four stages of basic blocks with 32 to 256 channels, for CPUs: 1.2 million parameters with one block per stage.

    Args:
        size: side of the training images in pixels.
        channels: channels of the images.
        sobel: whether a fixed Sobel filter precedes the stem.
        width: channels of the first stage; the last has eight times as many.
        blocks: blocks per stage.
    """
    widths = (width, 2 * width, 4 * width, 8 * width)
    return ResNet(BasicBlock, (blocks,) * 4, widths, size=size, channels=channels, sobel=sobel)


def resnet18(*, size: int = 224, channels: int = 3, sobel: bool = False) -> ResNet:
    """ResNet-18 (He et al. 2015): 11 million parameters.

    Args:
        size: side of the training images in pixels.
        channels: channels of the images.
        sobel: whether a fixed Sobel filter precedes the stem.
    """
    return ResNet(BasicBlock, (2, 2, 2, 2), (64, 128, 256, 512), size=size, channels=channels, sobel=sobel)


def resnet50(*, size: int = 224, channels: int = 3, sobel: bool = False) -> ResNet:
    """ResNet-50 (He et al. 2015), with the stride in the 3 x 3 convolutions: 24 million parameters.

    Args:
        size: side of the training images in pixels.
        channels: channels of the images.
        sobel: whether a fixed Sobel filter precedes the stem.
    """
    return ResNet(Bottleneck, (3, 4, 6, 3), (64, 128, 256, 512), size=size, channels=channels, sobel=sobel)
