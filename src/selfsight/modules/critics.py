"""Critics: networks that tell real pictures from made ones."""

from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["Critic"]


class Critic(nn.Module):
    """Strided 4 x 4 convolutions and leaky rectifiers down to a few numbers (after Radford et al. 2015, arXiv:1511.06434).

    Batch norm stands between the layers but the first.

    Args:
        size: side of the pictures in pixels.
        channels: channels of the pictures.
        width: channels after the first layer; they double.
        out: numbers that are said of a picture.
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

    def forward(self, pictures: Float[Tensor, "batch channel size size"]) -> Float[Tensor, "batch out"]:
        return self.layers(pictures)
