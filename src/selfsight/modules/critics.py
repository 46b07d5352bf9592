"""Discriminators (critics) of generative adversarial networks."""

from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["Critic"]


class Critic(nn.Module):
    """Strided 4 x 4 convolutions with leaky ReLU (after Radford et al. 2015, arXiv:1511.06434), with batch norm in all but the first layer.

    Args:
        size: side of the images in pixels.
        channels: number of channels of the images.
        width: channels after the first layer; they double with each one.
        out: number of outputs per image.
    """

    def __init__(self, *, size: int, channels: int, width: int = 64, out: int = 1) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before, after, side = channels, width, size
        while side >= 8:
            norm = nn.BatchNorm2d(after) if layers else nn.Identity()
            layers += [nn.Conv2d(before, after, 4, 2, 1, bias=not layers), norm, nn.LeakyReLU(0.2, inplace=True)]
            before, after, side = after, after * 2, side // 2
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(before * side * side, out))

    def forward(self, images: Float[Tensor, "batch channel size size"]) -> Float[Tensor, "batch out"]:
        return self.layers(images)
