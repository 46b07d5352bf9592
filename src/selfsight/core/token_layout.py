"""Layout of a network's layer outputs: prefix tokens, pooling, position of the channels, attention layers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from selfsight.core.errors import UsageError

__all__ = ["TokenLayout"]


@dataclass(frozen=True)
class TokenLayout:
    """Layout of the outputs of a network's layers.

    Attributes:
        prefix: class and register tokens before the patches; 0 for convolutional networks.
        pool: how the pooled vector is made of tokens: the class token, or the mean of the patches.
        channels_last: whether feature maps are (N, H, W, C) instead of (N, C, H, W).
        qkv: names of the attention layers with a joint projection of queries, keys and values, shallow to deep.
    """

    prefix: int = 0
    pool: Literal["cls", "mean"] = "mean"
    channels_last: bool = False
    qkv: tuple[str, ...] = ()

    @classmethod
    def of(cls, network: nn.Module) -> "TokenLayout":
        """The layout that a network declares by its attributes ``prefix``, ``pool`` and ``channels_last``, each optional.

        Args:
            network: with prefix tokens and no ``pool``, the pooled vector is taken to be the class token.
        """
        prefix = int(getattr(network, "prefix", 0))
        pool = cast("Literal['cls', 'mean']", getattr(network, "pool", "cls") if prefix else "mean")
        attention = tuple(name for name, module in network.named_modules() if hasattr(module, "qkv"))
        return cls(prefix, pool, bool(getattr(network, "channels_last", False)), attention)

    @property
    def pools_class_token(self) -> bool:
        """Whether the pooled vector is the class token."""
        return self.pool == "cls"

    def pooled(self, output: Tensor, cells: Sequence[int], layer: str = "") -> Float[Tensor, "batch dim"]:
        """One vector per image of a layer's output: the class token, or the mean over positions.

        Args:
            output: output of the layer.
            cells: rows and columns of patches.
            layer: its name, for messages.
        """
        if output.ndim in (4, 5):
            return self.grid(output, cells, layer).flatten(2).mean(2)
        return self.pooled_tokens(output) if output.ndim == 3 else output

    def pooled_tokens(self, tokens: Float[Tensor, "batch token dim"]) -> Float[Tensor, "batch dim"]:
        """The class token, or the mean of the patches."""
        return tokens[:, 0] if self.pools_class_token else tokens[:, self.prefix :].mean(1)

    def grid(self, output: Tensor, cells: Sequence[int], layer: str = "") -> Float[Tensor, "batch dim *cells"]:
        """A layer's output as a grid (N, D, h, w), without prefix tokens; clips keep their grid (N, D, t, h, w).

        Args:
            output: output of the layer.
            cells: rows and columns of patches.
            layer: its name, for messages.

        Raises:
            UsageError: the output has one vector per image.
        """
        if output.ndim == 5:
            return output
        if output.ndim == 4:
            return output.permute(0, 3, 1, 2) if self.channels_last else output
        if output.ndim == 3:
            return output[:, self.prefix :].transpose(1, 2).unflatten(2, tuple(cells))
        raise UsageError(f"The layer {layer!r} returns one vector per image and has no spatial grid.", "Use pooled() for this layer.")

    def with_grid(self, output: Tensor, grid: Float[Tensor, "batch dim rows columns"]) -> Tensor:
        """Inverse of ``grid``: a grid in the layout of a layer's output.

        Args:
            output: output of the layer, whose prefix tokens are kept.
            grid: feature maps (N, D, h, w).
        """
        if output.ndim == 4:
            return grid.permute(0, 2, 3, 1) if self.channels_last else grid
        return torch.cat([output[:, : self.prefix], grid.flatten(2).transpose(1, 2)], 1)

    def per_channel(self, output: Tensor, factors: Float[Tensor, "batch dim"]) -> Tensor:
        """Multiply the channels of a layer's output by one factor each.

        Args:
            output: output of the layer.
            factors: (N, D).
        """
        ones = (1,) * (output.ndim - 2)
        last = output.ndim == 3 or (output.ndim == 4 and self.channels_last)
        return output * (factors.view(len(factors), *ones, -1) if last else factors.view(len(factors), -1, *ones))
