"""Residual networks with 3-D convolutions (R3D, Tran et al. 2018, arXiv:1711.11248)."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import relu

from selfsight.core.representation import Backbone, Features

__all__ = ["ResNet3D", "r3d_tiny"]


class Block3D(nn.Module):
    """Two 3 x 3 x 3 convolutions and a shortcut.

    Args:
        before: channels of the input.
        width: channels of the output.
        stride: in time and space.
    """

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(before, width, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm3d(width)
        self.conv2 = nn.Conv3d(width, width, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm3d(width)
        same = stride == 1 and before == width
        self.shortcut = nn.Identity() if same else nn.Sequential(nn.Conv3d(before, width, 1, stride, bias=False), nn.BatchNorm3d(width))

    def forward(self, x: Float[Tensor, "batch channel time height width"]) -> Float[Tensor, "batch channel2 time2 height2 width2"]:
        inner = relu(self.norm1(self.conv1(x)))
        return relu(self.norm2(self.conv2(inner)) + self.shortcut(x))


class ResNet3D(Backbone):
    """A residual network of 3-D convolutions; from the second stage on, time and space are halved.

    Args:
        depths: blocks in each stage.
        widths: channels in each stage.
        channels: channels of the clips.
    """

    modality = "clip"

    def __init__(self, depths: Sequence[int], widths: Sequence[int], *, channels: int = 3) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv3d(channels, widths[0], 3, (1, 2, 2), 1, bias=False), nn.BatchNorm3d(widths[0]), nn.ReLU(inplace=True)
        )
        stages, before = [], widths[0]
        for number, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            blocks = []
            for position in range(depth):
                blocks.append(Block3D(before, width, 2 if number and not position else 1))
                before = width
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.dim, self.channels, self.stride = before, channels, 2 ** len(depths)
        self.layers = ("stem", *(f"stages.{number}" for number in range(len(depths))))

    def forward(self, images: Float[Tensor, "batch channel *size"]) -> Features:
        grid = self.stages(self.stem(images))
        return Features(grid.mean((2, 3, 4)), grid)


def r3d_tiny(*, size: int = 32, channels: int = 3, width: int = 16, blocks: int = 1) -> ResNet3D:  # noqa: ARG001
    """Four stages of 3-D blocks on clips, of ``width`` to eight times ``width`` channels.

    Args:
        size: side of the training clips in pixels; the network is the same for every size.
        channels: channels of the clips.
        width: channels of the first stage.
        blocks: blocks in each stage.
    """
    return ResNet3D((blocks,) * 4, [width * 2**stage for stage in range(4)], channels=channels)
