"""Backbones: what is kept when training ends, and what they return."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor, nn

__all__ = ["Backbone", "Features", "TokenBackbone", "Tokens"]


@dataclass(frozen=True)
class Features:
    """What a backbone says of a batch: one vector an image, and one vector a place."""

    pooled: Float[Tensor, "batch dim"]
    grid: Float[Tensor, "batch dim2 *cells"]


@dataclass(frozen=True)
class Tokens:
    """What a token backbone says of a batch, before pooling."""

    cls: Float[Tensor, "batch dim"]
    registers: Float[Tensor, "batch register dim"]
    patches: Float[Tensor, "batch patch dim"]


class Backbone(nn.Module, ABC):
    """A network from images to features.

    Attributes:
        dim: length of the pooled vector.
        stride: pixels between neighbouring cells of the last grid; input sizes are multiples of it.
        channels: channels of the input.
        layers: dotted names of the layers worth looking at, shallow to deep.
    """

    dim: int
    stride: int
    channels: int
    layers: tuple[str, ...]

    @abstractmethod
    def forward(self, images: Float[Tensor, "batch channel *size"]) -> Features:
        """Features of normalised images."""


class TokenBackbone(Backbone, ABC):
    """A backbone made of tokens, which may be dropped (MAE) or replaced (SimMIM, iBOT). Masked methods ask for this type."""

    prefix: int
    """Class and register tokens before the patches."""

    @abstractmethod
    def tokens(
        self,
        images: Float[Tensor, "batch channel *size"],
        *,
        keep: Bool[Tensor, "batch patch"] | None = None,
        replace: tuple[Bool[Tensor, "batch patch"], Float[Tensor, " dim"]] | None = None,
    ) -> Tokens:
        """The tokens of normalised images.

        ``keep``: only these patches enter the network; every row must keep the same number.
        ``replace``: these patches are replaced by a vector before the first block.
        """
