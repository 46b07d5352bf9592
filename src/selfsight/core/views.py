"""Images as they are read, and views as a method sees them."""

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
        extent: true height and width of each image in pixels, from the top left corner; what lies outside is padding. ``None``: no padding.
        streams: what accompanies them: sound, flow, text.
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
        """The same batch with a function applied to each of its tensors: moved, sliced, pinned."""
        extent = None if self.extent is None else change(self.extent)
        return Images(
            change(self.pixels), change(self.index), extent, {name: change(one) for name, one in self.streams.items()}, self.modality
        )


@dataclass(frozen=True)
class Views:
    """Everything a method may see of a batch. There is no label here, on purpose. The batch comes first in every tensor.

    Attributes:
        large: full-size views; (h, w) for pictures, (t, h, w) for clips, (mel, t) for sounds.
        small: views of lower resolution (multi-crop).
        index: which samples these are: memory banks look them up.
        hints: how each view was made (crop boxes, colour matrices, turns, permutations, masks, noise), one row an image,
            then one entry a view.
        streams: what came with the images: sound, flow, text.

    Raises:
        UsageError: the tensors do not agree on the number of images.
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
            raise UsageError(f"The views of a batch disagree on its size: {sorted(sizes)}.", "Every tensor of Views has one row an image.")

    @property
    def all(self) -> tuple[Num[Tensor, "batch channel *size"], ...]:
        """The large views, then the small ones."""
        return (*self.large, *self.small)

    def __len__(self) -> int:
        return len(self.large[0])

    def map(self, change: Callable[[Tensor], Tensor]) -> "Views":
        """The same views with a function applied to each tensor: moved, cast, sliced. The one place where that is done."""

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
