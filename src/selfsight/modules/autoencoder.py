"""A convolutional autoencoder whose code can be damaged and repaired."""

from itertools import pairwise

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

__all__ = ["ConvAutoencoder", "blurred"]


class ConvAutoencoder(nn.Module):
    """Halved several times by 4 x 4 convolutions, and doubled as often (after Jenni & Favaro 2018, arXiv:1806.05024).

    Args:
        channels: of the pictures; what is painted lies in [-1, 1].
        width: channels after the first halving; they double.
        levels: halvings.
        repair: whether layers that mend damaged places stand before each doubling.
    """

    def __init__(self, channels: int, *, width: int = 32, levels: int = 3, repair: bool = False) -> None:
        super().__init__()
        widths = [channels, *(width * 2**level for level in range(levels))]
        self.down = nn.Sequential(*(_halving(before, after) for before, after in pairwise(widths)))
        self.up = nn.ModuleList(_doubling(widths[level], widths[level - 1], last=level == 1) for level in range(levels, 0, -1))
        self.repairs = nn.ModuleList(_mending(widths[level]) for level in range(levels, 0, -1) if repair)

    def encode(self, pictures: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch dim rows columns"]:
        """The code: one vector a place."""
        return self.down(pictures)

    def decode(
        self, code: Float[Tensor, "batch dim rows columns"], damaged: Bool[Tensor, "batch 1 rows columns"] | None = None
    ) -> Float[Tensor, "batch channel height width"]:
        """The picture; where the code is damaged, the repairing layers add what they think was there."""
        for level, layer in enumerate(self.up):
            if damaged is not None:
                places = interpolate(damaged.to(code.dtype), code.shape[2:])
                code = code + places * self.repairs[level](code)
            code = layer(code)
        return code

    def forward(self, pictures: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch channel height width"]:
        return self.decode(self.encode(pictures))


def blurred(
    code: Float[Tensor, "batch dim rows columns"], damaged: Bool[Tensor, "batch 1 rows columns"]
) -> Float[Tensor, "batch dim rows columns"]:
    """A code that says at damaged places what lies about them on average."""
    around = avg_pool2d(code, 3, 1, 1, count_include_pad=False)
    return code + damaged.to(code.dtype) * (around - code)


def _halving(before: int, after: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(before, after, 4, 2, 1, bias=False), nn.BatchNorm2d(after), nn.LeakyReLU(0.1, inplace=True))


def _doubling(before: int, after: int, *, last: bool) -> nn.Module:
    layer = nn.ConvTranspose2d(before, after, 4, 2, 1, bias=last)
    return nn.Sequential(layer, nn.Tanh()) if last else nn.Sequential(layer, nn.BatchNorm2d(after), nn.ReLU(inplace=True))


def _mending(width: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(width, width, 3, 1, 1), nn.LeakyReLU(0.1, inplace=True), nn.Conv2d(width, width, 3, 1, 1))
