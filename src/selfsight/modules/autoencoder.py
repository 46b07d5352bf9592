"""A convolutional autoencoder whose code can be corrupted and repaired."""

from itertools import pairwise

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

__all__ = ["ConvAutoencoder", "blurred"]


class ConvAutoencoder(nn.Module):
    """Autoencoder of 4 x 4 convolutions with stride 2 (after Jenni & Favaro 2018, arXiv:1806.05024).

    Args:
        channels: number of channels of the images; outputs lie in [-1, 1].
        width: channels after the first downsampling; they double with each one.
        levels: number of downsamplings.
        repair: whether each upsampling is preceded by a repair layer for corrupted positions.
    """

    def __init__(self, channels: int, *, width: int = 32, levels: int = 3, repair: bool = False) -> None:
        super().__init__()
        widths = [channels, *(width * 2**level for level in range(levels))]
        self.down = nn.Sequential(*(_downsampling(before, after) for before, after in pairwise(widths)))
        self.up = nn.ModuleList(_upsampling(widths[level], widths[level - 1], last=level == 1) for level in range(levels, 0, -1))
        self.repairs = nn.ModuleList(_repair(widths[level]) for level in range(levels, 0, -1) if repair)

    def encode(self, images: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch dim rows columns"]:
        """The code: one vector per position."""
        return self.down(images)

    def decode(
        self, code: Float[Tensor, "batch dim rows columns"], damaged: Bool[Tensor, "batch 1 rows columns"] | None = None
    ) -> Float[Tensor, "batch channel height width"]:
        """Reconstruct images from codes.

        Args:
            code: (N, D, H, W).
            damaged: mask (N, 1, H, W) of the corrupted positions, where the repair layers add their output; None: no repair.
        """
        for level, layer in enumerate(self.up):
            if damaged is not None:
                mask = interpolate(damaged.to(code.dtype), code.shape[2:])
                code = code + mask * self.repairs[level](code)
            code = layer(code)
        return code

    def forward(self, images: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch channel height width"]:
        return self.decode(self.encode(images))


def blurred(
    code: Float[Tensor, "batch dim rows columns"], damaged: Bool[Tensor, "batch 1 rows columns"]
) -> Float[Tensor, "batch dim rows columns"]:
    """Replace corrupted positions of a code by the average of their neighbourhood.

    Args:
        code: (N, D, H, W).
        damaged: mask (N, 1, H, W) of the corrupted positions.
    """
    around = avg_pool2d(code, 3, 1, 1, count_include_pad=False)
    return code + damaged.to(code.dtype) * (around - code)


def _downsampling(before: int, after: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(before, after, 4, 2, 1, bias=False), nn.BatchNorm2d(after), nn.LeakyReLU(0.1, inplace=True))


def _upsampling(before: int, after: int, *, last: bool) -> nn.Module:
    layer = nn.ConvTranspose2d(before, after, 4, 2, 1, bias=last)
    return nn.Sequential(layer, nn.Tanh()) if last else nn.Sequential(layer, nn.BatchNorm2d(after), nn.ReLU(inplace=True))


def _repair(width: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(width, width, 3, 1, 1), nn.LeakyReLU(0.1, inplace=True), nn.Conv2d(width, width, 3, 1, 1))
