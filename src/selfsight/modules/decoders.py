"""Decoders from features to pixels."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from selfsight.core.errors import UsageError
from selfsight.core.representation import TokenBackbone
from selfsight.core.transformer import Block
from selfsight.modules.heads import mlp

__all__ = ["CodeDecoder", "ConvDecoder", "PatchDecoder"]


class PatchDecoder(nn.Module):
    """Lightweight transformer that reconstructs masked patches (He et al. 2021, arXiv:2111.06377).

    Visible tokens are put at their positions, masked positions get a learnt mask token, fixed sine-cosine position embeddings are added,
    and all patches are predicted.

    Args:
        backbone: network whose tokens are the input.
        cells: patches per side of the image.
        depth: number of blocks.
        width: token dimension of the decoder.
        out: values per predicted patch.
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
        """Predict all patches (N, P, V).

        Args:
            visible: tokens (N, S, D) of the visible patches, in raster order.
            hidden: mask (N, P), True for masked patches.
        """
        entered = self.enter(visible)
        tokens = self.blank.to(entered.dtype).expand(len(hidden), hidden.shape[1], -1).clone()
        tokens[~hidden] = entered.flatten(0, 1)
        return self.paint(self.norm(self.blocks(tokens + self.places.to(tokens.dtype))))


def sine_positions(cells: int, dim: int) -> Float[Tensor, "1 patch dim"]:
    """Fixed two-dimensional sine-cosine position embeddings: half of the dimensions for the row, half for the column.

    Args:
        cells: positions per side.
        dim: length of an embedding, a multiple of four.

    Returns:
        (1, cells², dim).
    """
    rates = 10_000 ** (-torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    angles = torch.arange(cells, dtype=torch.float64)[:, None] * rates
    axis = torch.cat([angles.sin(), angles.cos()], 1)
    rows, columns = axis[:, None].expand(-1, cells, -1), axis[None].expand(cells, -1, -1)
    return torch.cat([rows, columns], 2).reshape(1, cells * cells, -1).float()


class ConvDecoder(nn.Module):
    """Decoder from a vector to an image by transposed 4 x 4 convolutions (Radford et al. 2015, arXiv:1511.06434).

    Args:
        dim: length of the vector.
        size: side of the image in pixels: 4 to 7 times a power of two, such as 28, 32, 96 or 224.
        channels: number of channels of the image; its values lie in [-1, 1].
        width: channels before the last layer; they double towards the vector.

    Raises:
        UsageError: any other size.
    """

    def __init__(self, dim: int, *, size: int, channels: int, width: int = 64) -> None:
        super().__init__()
        doublings = (size // 4).bit_length() - 1
        cells = size >> max(doublings, 0)
        if doublings < 1 or cells << doublings != size:
            raise UsageError(
                f"An image of {size} px cannot be decoded by upsampling by two.", "Use 28, 32, 48, 64, 96, 128, 160 or 224 px."
            )
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
    """A bottleneck of pooled features and a decoder to an image.

    Args:
        dim: length of the pooled features.
        code: length of the code.
        size: side of the image in pixels; see ``ConvDecoder``.
        channels: number of channels of the image; its values lie in [-1, 1].
        width: channels of the decoder before its last layer.
    """

    def __init__(self, dim: int, *, code: int, size: int, channels: int, width: int) -> None:
        super().__init__()
        self.neck = mlp(dim, code)
        self.decoder = ConvDecoder(code, size=size, channels=channels, width=width)

    def forward(self, pooled: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch channel size size"]:
        return self.decoder(self.neck(pooled))
