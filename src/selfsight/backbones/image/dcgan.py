"""Discriminator of DCGAN (Radford et al. 2015, arXiv:1511.06434)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from selfsight.core.representation import Backbone, Features

__all__ = ["DCGAN"]


class DCGAN(Backbone):
    """Strided 4 x 4 convolutions with leaky ReLU of slope 0.2 and batch norm except in the first layer, down to 4 cells per side.

    The paper probes all layers' features, max-pooled to 4 x 4 cells (28,672 numbers at 64 px); here the pooled vector is the mean and the
    maximum of each channel of the last grid.

    Args:
        size: side of the training images in pixels.
        channels: channels of the images.
        width: channels after the first layer; they double with each one.
        norm: batch norm; without it a gradient penalty is independent for each image (WGAN-GP).
    """

    def __init__(self, *, size: int = 32, channels: int = 3, width: int = 64, norm: bool = True) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        before, after, side = channels, width, size
        while side > 4:
            normalisation = nn.BatchNorm2d(after) if stages and norm else nn.Identity()
            stages.append(nn.Sequential(nn.Conv2d(before, after, 4, 2, 1, bias=False), normalisation, nn.LeakyReLU(0.2, inplace=True)))
            before, after, side = after, after * 2, side // 2
        self.stages = nn.Sequential(*stages)
        self.dim, self.channels, self.stride = 2 * before, channels, 2 ** len(stages)
        self.layers = tuple(f"stages.{number}" for number in range(len(stages)))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, images: Float[Tensor, "batch channel *size"]) -> Features:
        grid = self.stages(images)
        flat = grid.flatten(2)
        return Features(torch.cat([flat.mean(2), flat.amax(2)], 1), grid)
