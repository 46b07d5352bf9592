"""Vision transformers (Dosovitskiy et al. 2020, arXiv:2010.11929) whose tokens can be dropped or replaced."""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from selfsight.core.errors import UsageError
from selfsight.core.representation import Features, TokenBackbone, Tokens
from selfsight.core.transformer import Block

__all__ = ["ViT", "vit_base", "vit_nano", "vit_small", "vit_tiny"]


class ViT(TokenBackbone):
    """A vision transformer.

    Args:
        dim: token dimension.
        depth: number of blocks.
        heads: attention heads per block.
        size: side of the training images (pixels); for other sizes, square or not, position embeddings are interpolated.
        channels: channels of the images.
        patch: side of a patch (pixels); by default 4 up to 48 px, 8 up to 96 px, else 16.
        registers: additional tokens without a position (Darcet et al. 2023, arXiv:2309.16588).
        drop_path: stochastic depth rate of the last block; it increases linearly from 0 in the first.
        pool: pooled vector: class token, or mean of the patches.
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        heads: int,
        *,
        size: int = 224,
        channels: int = 3,
        patch: int | None = None,
        registers: int = 0,
        drop_path: float = 0.0,
        pool: Literal["cls", "mean"] = "cls",
    ) -> None:
        super().__init__()
        patch = patch or (4 if size <= 48 else 8 if size <= 96 else 16)
        if size % patch:
            raise UsageError(
                f"Images of {size} px cannot be cut into patches of {patch} px.", "Choose a size that is a multiple of the patch size."
            )
        self.dim, self.stride, self.channels, self.pool = dim, patch, channels, pool
        self.side, self.prefix = size // patch, 1 + registers
        self.patch_embed = nn.Conv2d(channels, dim, patch, patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.register_tokens = nn.Parameter(torch.zeros(1, registers, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.side**2, dim))
        rates = [drop_path * number / max(depth - 1, 1) for number in range(depth)]
        self.blocks = nn.Sequential(*(Block(dim, heads, rate) for rate in rates))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.layers = tuple(f"blocks.{number}" for number in range(depth))
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.patch_embed.weight.flatten(1))
        nn.init.zeros_(self.patch_embed.bias)  # pyright: ignore[reportArgumentType]
        for tokens in (self.cls_token, self.register_tokens, self.pos_embed):
            nn.init.trunc_normal_(tokens, std=0.02)

    def positions(self, rows: int, columns: int) -> Float[Tensor, "1 cell dim"]:
        """Position embeddings of the patches for a grid: bicubic interpolation of the trained square.

        Args:
            rows: rows of the grid.
            columns: columns of the grid.
        """
        trained = self.pos_embed[:, 1:]
        if (rows, columns) == (self.side, self.side):
            return trained
        square = trained.view(1, self.side, self.side, self.dim).permute(0, 3, 1, 2)
        grid = interpolate(square.float(), (rows, columns), mode="bicubic", antialias=True).to(trained.dtype)
        return grid.flatten(2).transpose(1, 2)

    def tokens(
        self,
        images: Float[Tensor, "batch channel *size"],
        *,
        keep: Bool[Tensor, "batch patch"] | None = None,
        replace: tuple[Bool[Tensor, "batch patch"], Float[Tensor, " dim"]] | None = None,
    ) -> Tokens:
        height, width = images.shape[-2:]
        if height % self.stride or width % self.stride:
            raise UsageError(
                f"Images of {height} x {width} px cannot be cut into patches of {self.stride} px.",
                "Resize them to multiples of the patch size.",
            )
        x = self.patch_embed(images).flatten(2).transpose(1, 2)
        if replace is not None:
            hidden, vector = replace
            x = torch.where(hidden[..., None], vector.to(x.dtype), x)
        x = x + self.positions(height // self.stride, width // self.stride)
        if keep is not None:
            x = x[keep].view(len(x), -1, self.dim)
        batch = len(x)
        cls = (self.cls_token + self.pos_embed[:, :1]).expand(batch, -1, -1)
        x = torch.cat([cls.to(x.dtype), self.register_tokens.to(x.dtype).expand(batch, -1, -1), x], 1)
        x = self.norm(self.blocks(x))
        return Tokens(x[:, 0], x[:, 1 : self.prefix], x[:, self.prefix :])

    def forward(self, images: Float[Tensor, "batch channel *size"]) -> Features:
        tokens = self.tokens(images)
        rows, columns = (side // self.stride for side in images.shape[-2:])
        grid = tokens.patches.transpose(1, 2).unflatten(2, (rows, columns))
        return Features(tokens.cls if self.pool == "cls" else tokens.patches.mean(1), grid)


def _named(dim: int, depth: int, heads: int, default_size: int, docstring: str):
    def build(
        *,
        size: int = default_size,
        channels: int = 3,
        patch: int | None = None,
        registers: int = 0,
        drop_path: float = 0.0,
        pool: Literal["cls", "mean"] = "cls",
        blocks: int = depth,
    ) -> ViT:
        return ViT(dim, blocks, heads, size=size, channels=channels, patch=patch, registers=registers, drop_path=drop_path, pool=pool)

    build.__doc__ = docstring
    return build


vit_nano = _named(192, 4, 3, 32, "Four blocks of 192: 1.8 million parameters, for small images and CPUs.")
vit_tiny = _named(192, 12, 3, 224, "ViT-Ti: 12 blocks of 192, 5.5 million parameters (Touvron et al. 2020, arXiv:2012.12877).")
vit_small = _named(384, 12, 6, 224, "ViT-S: 12 blocks of 384, 22 million parameters (Touvron et al. 2020, arXiv:2012.12877).")
vit_base = _named(768, 12, 12, 224, "ViT-B: 12 blocks of 768, 86 million parameters (Dosovitskiy et al. 2020, arXiv:2010.11929).")
