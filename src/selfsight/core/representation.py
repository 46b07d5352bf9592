"""Backbones, which are trained, and representations, which are evaluated."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor, nn
from typing_extensions import TypeVar

from selfsight.core.errors import UsageError
from selfsight.core.hooks import capture_activations, eval_mode, find_layer, tensor_of
from selfsight.core.pixels import Normalised, as_normalised
from selfsight.core.token_layout import TokenLayout

__all__ = [
    "AnyBackbone",
    "Backbone",
    "ColourBackbone",
    "Features",
    "Representation",
    "SplitBackbone",
    "TokenBackbone",
    "Tokens",
    "blank_input",
    "grid_dim",
    "need_colour",
    "need_halves",
    "need_tokens",
]


@dataclass(frozen=True)
class Features:
    """Output of a backbone.

    Attributes:
        pooled: one vector per image.
        grid: one vector per position.
    """

    pooled: Float[Tensor, "batch dim"]
    grid: Float[Tensor, "batch dim2 *cells"]


@dataclass(frozen=True)
class Tokens:
    """Output of a token backbone before pooling.

    Attributes:
        cls: class token.
        registers: register tokens.
        patches: patch tokens, in raster order.
    """

    cls: Float[Tensor, "batch dim"]
    registers: Float[Tensor, "batch register dim"]
    patches: Float[Tensor, "batch patch dim"]


class Backbone(nn.Module, ABC):
    """A network from images to features.

    Attributes:
        dim: length of the pooled vector.
        stride: pixels between neighbouring cells of the last grid; input sizes are multiples of it.
        channels: channels of the input.
        modality: kind of input: ``image``, ``clip`` (N, C, T, H, W) or ``sound`` (N, C, mel, time).
        layers: dotted names of the main layers, shallow to deep.
    """

    dim: int
    stride: int
    channels: int
    layers: tuple[str, ...]
    modality: str = "image"

    @abstractmethod
    def forward(self, images: Float[Tensor, "batch channel *size"]) -> Features:
        """Features of normalised images."""


class TokenBackbone(Backbone, ABC):
    """A backbone of tokens, which can be dropped (MAE) or replaced (SimMIM, iBOT); required by masked methods."""

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
        """Tokens of normalised images.

        Args:
            images: (N, C, ...).
            keep: mask (N, P) of the patches that enter the network, equally many per image; all by default.
            replace: mask (N, P) of patches and the vector (D,) that replaces them before the first block.
        """


BackboneType = TypeVar("BackboneType", bound=Backbone)
AnyBackbone = TypeVar("AnyBackbone", bound=Backbone, default=Backbone)
"""The kind of backbone that a method needs; any by default."""


class ColourBackbone(Backbone, ABC):
    """A backbone that uses a part of the L*a*b* channels; required by methods that predict the others."""

    @abstractmethod
    def lab(self, images: Float[Tensor, "batch 3 *size"]) -> Float[Tensor, "batch 3 *size"]:
        """L*a*b* of normalised images, in the network's units."""


class SplitBackbone(ColourBackbone, ABC):
    """A backbone of two halves with different input channels, whose features are concatenated."""

    @abstractmethod
    def halves(self, images: Float[Tensor, "batch 3 *size"]) -> tuple[Features, Features]:
        """Features of each half for normalised images."""


def need_colour(backbone: Backbone, method: str) -> ColourBackbone:
    """The backbone, checked to be a ``ColourBackbone``.

    Args:
        backbone: the network.
        method: name of the method, for the message.

    Raises:
        UsageError: the network uses all colours.
    """
    cause = f"{method} predicts the colours that the network does not use, and {type(backbone).__name__} uses all."
    return _need(backbone, ColourBackbone, cause, "Choose one that uses lightness only, such as --backbone 'channels?network=resnet_tiny'.")


def need_halves(backbone: Backbone, method: str) -> SplitBackbone:
    """The backbone, checked to be a ``SplitBackbone``.

    Args:
        backbone: the network.
        method: name of the method, for the message.

    Raises:
        UsageError: the network has no halves.
    """
    cause = f"{method} compares two halves of a network, and {type(backbone).__name__} has none."
    return _need(backbone, SplitBackbone, cause, "Choose one with halves, such as --backbone 'channel_split?network=resnet_tiny'.")


def need_tokens(backbone: Backbone, method: str, doing: str) -> TokenBackbone:
    """The backbone, checked to be a ``TokenBackbone``.

    Args:
        backbone: the network.
        method: name of the method, for the message.
        doing: verb for the message, such as ``drops``.

    Raises:
        UsageError: the network has no tokens.
    """
    cause = f"{method} {doing} tokens, and {type(backbone).__name__} has none."
    return _need(backbone, TokenBackbone, cause, "Choose a vision transformer, such as --backbone vit_tiny.")


def _need(backbone: Backbone, kind: type[BackboneType], cause: str, remedy: str) -> BackboneType:
    if not isinstance(backbone, kind):
        raise UsageError(cause, remedy)
    return backbone


def blank_input(backbone: Backbone, size: int, batch: int = 1) -> Float[Tensor, "batch channel *size"]:
    """Zeros of the shape that a backbone takes: images, clips of four frames, or sounds of 64 frequencies.

    Args:
        backbone: the network.
        size: side of images and clips in pixels; time steps of sounds.
        batch: samples.
    """
    sides = {"image": (size, size), "clip": (4, size, size), "sound": (64, size)}[backbone.modality]
    return next(backbone.parameters()).new_zeros(batch, backbone.channels, *sides)


def grid_dim(backbone: Backbone, layer: str | None = None) -> int:
    """Number of channels of the last grid, or of an inner layer's grid.

    Args:
        backbone: the network.
        layer: name of a layer; the last grid by default.

    Raises:
        UsageError: the layer has no spatial grid.
    """
    blank = blank_input(backbone, 4 * backbone.stride)
    with torch.no_grad(), eval_mode(backbone), capture_activations(backbone, *([layer] if layer else [])) as captured:
        grid = backbone(blank).grid
    found = tensor_of(captured[layer]) if layer else grid
    if found.ndim != 4:
        raise UsageError(f"The layer {layer!r} has no spatial grid.", "Choose a layer of a convolutional network.")
    return found.shape[1]


class Representation:
    """A network in evaluation mode with its input normalisation: Φ.

    Images are uint8 (0 to 255) or floating point in [0, 1]; they are normalised here.

    Args:
        backbone: the network; it is set to evaluation mode.
        mean: per-channel mean of the training normalisation.
        std: per-channel standard deviation of the training normalisation.
        size: side of the training images in pixels.
        name: display name.
        spec: name by which its architecture can be built again; empty if there is none.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        size: int,
        name: str = "representation",
        spec: str = "",
    ) -> None:
        self.backbone, self.size, self.name, self.spec = backbone.eval(), size, name, spec
        self.mean, self.std = tuple(mean), tuple(std)

    @property
    def layers(self) -> tuple[str, ...]:
        """Dotted names of the main layers, shallow to deep."""
        return self.backbone.layers

    @cached_property
    def token_layout(self) -> TokenLayout:
        """Prefix tokens, pooling, position of the channels and attention layers of the network."""
        return TokenLayout.of(self.backbone)

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return next(self.backbone.parameters()).device

    def normalise(self, images: Num[Tensor, "batch channel *size"]) -> Float[Normalised, "batch channel *size"]:
        """The network's input ``(x - mean) / std`` for x in [0, 1], in the precision of the network."""
        dimensions = 5 if self.backbone.modality == "clip" else 4
        if images.ndim != dimensions:
            raise UsageError(
                f"{self.name} takes {self.backbone.modality}s with {dimensions} dimensions, and the data have {images.ndim}.",
                "Use a network for the modality of the data, such as r3d_tiny for clips and spectrogram_tiny for sounds.",
            )
        pixels = images.to(self.device)
        pixels = pixels / 255 if not pixels.is_floating_point() else pixels
        pixels = pixels.to(next(self.backbone.parameters()).dtype)
        mean, std = (pixels.new_tensor(values).reshape(-1, *(1,) * (pixels.ndim - 2)) for values in (self.mean, self.std))
        return as_normalised((pixels - mean) / std)

    def features(self, images: Num[Tensor, "batch channel *size"]) -> Features:
        """Pooled vector and last grid; differentiable with respect to the images."""
        return self.backbone(self.normalise(images))

    def pooled(self, images: Num[Tensor, "batch channel *size"], layer: str | None = None) -> Float[Tensor, "batch dim"]:
        """One vector per image: the network's output, or the spatial mean (or class token) at a layer.

        Args:
            images: uint8 (0 to 255), or floating point in [0, 1].
            layer: dotted name; the output by default.
        """
        if layer is None:
            return self.features(images).pooled
        return self.token_layout.pooled(self._layer_output(images, layer), self._cells(images.shape[-2:]), layer)

    def pooled_layers(
        self, images: Num[Tensor, "batch channel *size"], layers: Sequence[str] = ()
    ) -> tuple[Float[Tensor, "batch dim"], dict[str, Float[Tensor, "batch layer_dim"]]]:
        """The network's output and the pooled vectors of several layers, from one forward pass.

        Args:
            images: uint8 (0 to 255), or floating point in [0, 1].
            layers: dotted names.

        Raises:
            UsageError: there is no such layer.
        """
        with capture_activations(self.backbone, *layers) as captured:
            output = self.features(images).pooled
            cells = self._cells(images.shape[-2:])
            return output, {layer: self.token_layout.pooled(tensor_of(captured[layer]), cells, layer) for layer in layers}

    def grid(self, images: Num[Tensor, "batch channel *size"], layer: str | None = None) -> Float[Tensor, "batch dim *cells"]:
        """One vector per position, of the last grid or at a layer, without class and register tokens.

        Args:
            images: uint8 (0 to 255), or floating point in [0, 1].
            layer: dotted name; the last grid by default.

        Raises:
            UsageError: the layer has no spatial grid.
        """
        if layer is None:
            return self.features(images).grid
        return self.as_grid(self._layer_output(images, layer), images.shape[-2:], layer)

    def as_grid(self, output: Tensor, size: Sequence[int], layer: str = "") -> Float[Tensor, "batch dim *cells"]:
        """Convert a layer's output to a grid (N, D, h, w), without class and register tokens.

        Args:
            output: output of the layer.
            size: height and width of the images in pixels.
            layer: its name, for the message.

        Raises:
            UsageError: the layer has no spatial grid.
        """
        return self.token_layout.grid(output, self._cells(size), layer)

    def _cells(self, size: Sequence[int]) -> tuple[int, ...]:
        """Rows and columns of patches in images of a size (height, width)."""
        return tuple(side // self.backbone.stride for side in size)

    def attention(self, images: Num[Tensor, "batch channel *size"], block: int = -1) -> Float[Tensor, "batch head token token2"]:
        """Attention weights of a block: rows are queries and sum to one; prefix tokens come first.

        Independent of fused attention, as queries and keys are computed again from the block's input.

        Args:
            images: uint8 (0 to 255), or floating point in [0, 1].
            block: number of the block; negative numbers count from the end.

        Raises:
            UsageError: the network has no such attention block.
        """
        layer, queries, keys, _ = self._attention_inputs(images, block)
        queries, keys = getattr(layer, "q_norm", _identity)(queries), getattr(layer, "k_norm", _identity)(keys)
        return (queries * layer.scale @ keys.transpose(2, 3)).softmax(3)

    def facet(
        self, images: Num[Tensor, "batch channel *size"], facet: Literal["query", "key", "value"] = "key", block: int = -1
    ) -> Float[Tensor, "batch dim rows columns"]:
        """Queries, keys or values of an attention block, with heads concatenated, as a grid without prefix tokens.

        Args:
            images: uint8 (0 to 255), or floating point in [0, 1].
            facet: which of the three.
            block: number of the block; negative numbers count from the end.

        Raises:
            UsageError: the network has no such attention block.
        """
        _, *found = self._attention_inputs(images, block)
        heads = found[("query", "key", "value").index(facet)]
        return self.as_grid(heads.transpose(1, 2).flatten(2), images.shape[-2:])

    @property
    def has_attention(self) -> bool:
        """Whether the network has attention blocks."""
        return bool(self.token_layout.qkv)

    @torch.no_grad()
    def _attention_inputs(self, images: Tensor, block: int) -> tuple[Any, Tensor, Tensor, Tensor]:
        """An attention layer with its queries, keys and values (batch, head, token, dim), computed from its input."""
        names = self.token_layout.qkv
        if not names:
            raise UsageError(f"{self.name} has no attention.", "Use a vision transformer.")
        if not -len(names) <= block < len(names):
            raise UsageError(f"There is no block {block}: {self.name} has {len(names)}.", "Blocks are counted from 0; -1 is the last one.")
        layer: Any = find_layer(self.backbone, names[block])
        with capture_activations(self.backbone, names[block], inputs=True) as captured:
            self.features(images)
        tokens = captured[names[block]]
        queries, keys, values = layer.qkv(tokens).unflatten(2, (3, layer.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return layer, queries, keys, values

    def _layer_output(self, images: Tensor, layer: str) -> Tensor:
        with capture_activations(self.backbone, layer) as captured:
            self.features(images)
            return tensor_of(captured[layer])


def _identity(value: Tensor) -> Tensor:
    return value
