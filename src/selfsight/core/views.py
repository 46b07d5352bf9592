"""Batches of images, and of their views."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from jaxtyping import Int, Num
from torch import Tensor

from selfsight.core.errors import UsageError

__all__ = ["Images", "Views"]


@dataclass(frozen=True)
class Images:
    """A batch of images, clips or sounds before augmentation.

    Attributes:
        pixels: images (N, C, H, W) or clips (N, C, T, H, W), uint8 (0 to 255) or floating point in [0, 1]; or log-mel spectrograms
            (N, C, mel, T), floating point.
        index: row numbers of the samples in the source.
        extent: true height and width of each image in pixels, from the top left corner; the rest is padding. ``None``: no padding.
        streams: accompanying data: sound, flow, text.
        modality: ``image``, ``clip`` or ``sound``.
    """

    pixels: Num[Tensor, "batch channel *size"]
    index: Int[Tensor, "batch"]
    extent: Int[Tensor, "batch 2"] | None = None
    streams: Mapping[str, Num[Tensor, "batch ..."]] = field(default_factory=dict)
    modality: str = "image"

    def __len__(self) -> int:
        return self.pixels.shape[0]

    def map(self, change: Callable[[Tensor], Tensor]) -> "Images":
        """The same batch with a function applied to each tensor: moved, sliced, pinned."""
        extent = None if self.extent is None else change(self.extent)
        return Images(
            change(self.pixels), change(self.index), extent, {name: change(one) for name, one in self.streams.items()}, self.modality
        )


@dataclass(frozen=True)
class Views:
    """Input of a method; without labels, on purpose. The batch is the first dimension of every tensor.

    Attributes:
        large: full-size views; (h, w) for images, (t, h, w) for clips, (mel, t) for sounds.
        small: views of lower resolution (multi-crop).
        index: row numbers of the samples, for memory banks.
        hints: parameters of the views (crop boxes, colour matrices, rotations, permutations, masks, noise): one row per image,
            then one entry per view.
        streams: accompanying data: sound, flow, text.

    Raises:
        UsageError: the tensors have different numbers of images.
    """

    large: tuple[Num[Tensor, "batch channel *size"], ...]
    small: tuple[Num[Tensor, "batch channel *low"], ...] = ()
    index: Int[Tensor, "batch"] | None = None
    hints: Mapping[str, Num[Tensor, "batch ..."]] = field(default_factory=dict)
    streams: Mapping[str, Num[Tensor, "batch _ ..."]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        index = () if self.index is None else (self.index,)
        sizes = {len(part) for part in (*self.large, *self.small, *index, *self.hints.values(), *self.streams.values())}
        if len(sizes) > 1:
            raise UsageError(
                f"The views of a batch have different numbers of images: {sorted(sizes)}.", "Every tensor of Views has one row per image."
            )

    @property
    def all(self) -> tuple[Num[Tensor, "batch channel *size"], ...]:
        """The large views, then the small ones."""
        return (*self.large, *self.small)

    def __len__(self) -> int:
        return len(self.large[0])

    def map(self, change: Callable[[Tensor], Tensor]) -> "Views":
        """The same views with a function applied to each tensor: moved, cast, sliced."""

        def apply(value: Any) -> Any:
            if isinstance(value, Tensor):
                return change(value)
            if isinstance(value, tuple):
                return tuple(change(item) for item in value)
            return {name: change(item) for name, item in value.items()} if isinstance(value, Mapping) else value

        return Views(**{item.name: apply(getattr(self, item.name)) for item in fields(self)})

    def to(self, dtype: torch.dtype) -> "Views":
        """The same views with floating-point tensors in another precision."""
        return self.map(lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor)
