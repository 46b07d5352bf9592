"""Decoders: from features back to pixels."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from selfsight.core.errors import UsageError
from selfsight.core.representation import TokenBackbone
from selfsight.core.transformer import Block
from selfsight.modules.heads import mlp

__all__ = ["CodeDecoder", "ConvDecoder", "PatchDecoder"]


class PatchDecoder(nn.Module):
    """A light transformer that paints hidden patches (He et al. 2021, arXiv:2111.06377).

    Visible tokens are put back in their places, a learnt token stands in the hidden ones, fixed sine-cosine positions
    are added, and every place is painted.

    Args:
        backbone: whose tokens come in; its patch and grid give the places.
        cells: patches along one side of the image.
        depth: number of blocks.
        width: length of a token inside.
        out: numbers in a painted patch.
    """

    places: Tensor

    def __init__(self, backbone: TokenBackbone, *, cells: int, depth: int, width: int, out: int) -> None:
        super().__init__()
        self.enter = nn.Linear(backbone.dim, width)
        self.blank = nn.Parameter(torch.zeros(1, 1, width))
        self.register_buffer("places", sine_positions(cells, width), persistent=False)
        self.blocks = nn.Sequential(*(Block(width, max(width // 64, 1)) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.paint = nn.Linear(width, out)
        nn.init.normal_(self.blank, std=0.02)

    def forward(self, visible: Float[Tensor, "batch shown dim"], hidden: Bool[Tensor, "batch patch"]) -> Float[Tensor, "batch patch value"]:
        entered = self.enter(visible)
        tokens = self.blank.to(entered.dtype).expand(len(hidden), hidden.shape[1], -1).clone()
        tokens[~hidden] = entered.flatten(0, 1)
        return self.paint(self.norm(self.blocks(tokens + self.places.to(tokens.dtype))))


def sine_positions(cells: int, dim: int) -> Float[Tensor, "1 patch dim"]:
    """Fixed two-dimensional positions: half the numbers for the row, half for the column, sines then cosines."""
    rates = 10_000 ** (-torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    angles = torch.arange(cells, dtype=torch.float64)[:, None] * rates
    axis = torch.cat([angles.sin(), angles.cos()], 1)
    rows, columns = axis[:, None].expand(-1, cells, -1), axis[None].expand(cells, -1, -1)
    return torch.cat([rows, columns], 2).reshape(1, cells * cells, -1).float()


class ConvDecoder(nn.Module):
    """From a vector to a picture by transposed 4 x 4 convolutions (Radford et al. 2015, arXiv:1511.06434).

    Args:
        dim: length of the vector.
        size: side of the picture in pixels: 4 to 7 times a power of two, such as 28, 32, 96 or 224.
        channels: channels of the picture; its values lie in [-1, 1].
        width: channels before the last layer; they double towards the vector.

    Raises:
        UsageError: the size is another.
    """

    def __init__(self, dim: int, *, size: int, channels: int, width: int = 64) -> None:
        super().__init__()
        doublings = (size // 4).bit_length() - 1
        cells = size >> max(doublings, 0)
        if doublings < 1 or cells << doublings != size:
            raise UsageError(f"A picture of {size} px cannot be painted by doubling.", "Use 28, 32, 48, 64, 96, 128, 160 or 224 px.")
        before = width * 2 ** (doublings - 1)
        layers: list[nn.Module] = [nn.ConvTranspose2d(dim, before, cells, bias=False), nn.BatchNorm2d(before), nn.ReLU(inplace=True)]
        for _ in range(doublings - 1):
            layers += [
                nn.ConvTranspose2d(before, before // 2, 4, 2, 1, bias=False),
                nn.BatchNorm2d(before // 2),
                nn.ReLU(inplace=True),
            ]
            before //= 2
        layers += [nn.ConvTranspose2d(before, channels, 4, 2, 1), nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        for module in self.modules():
            if isinstance(module, nn.ConvTranspose2d):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, codes: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch channel height width"]:
        return self.layers(codes[:, :, None, None])


class CodeDecoder(nn.Module):
    """A short code of pooled features, and the picture painted from it.

    Args:
        dim: length of the pooled features.
        code: numbers in the code.
        size: side of the picture in pixels; see ``ConvDecoder``.
        channels: channels of the picture; its values lie in [-1, 1].
        width: channels of the decoder before its last layer.
    """

    def __init__(self, dim: int, *, code: int, size: int, channels: int, width: int) -> None:
        super().__init__()
        self.neck = mlp(dim, code)
        self.decoder = ConvDecoder(code, size=size, channels=channels, width=width)

    def forward(self, pooled: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch channel size size"]:
        return self.decoder(self.neck(pooled))
