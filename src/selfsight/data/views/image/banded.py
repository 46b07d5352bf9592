"""Resampling of larger views on CPUs: blocks of outputs are multiplied with the window of the image that they depend on."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil

import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor

from selfsight.data.views.image.buffers import reuse_buffer
from selfsight.data.views.image.weights import window_weights

__all__ = ["resample"]

_BLOCK = 32


@dataclass(frozen=True)
class _Axis:
    """Windows of one axis of one image: they start ``step`` pixels apart, the first ``margin`` pixels before the crop."""

    low: int
    length: int
    step: int
    margin: int
    taps: int
    needed: int  # pixels of the padded crop that windows touch
    reach: int  # half of the blur's kernel


def _reach(sigma: float, kernel: int) -> int:
    """Half of the kernel without taps below 1e-7 of its peak; in steps of four, so that images can be grouped."""
    return min(kernel // 2, 4 * ceil(1.4 * sigma))


def _axis(low: int, length: int, size: int, reach: int) -> _Axis:
    blocks = -(-size // _BLOCK)
    scale = length / size
    around = max(scale, 1.0) + reach * scale
    step, margin = int(_BLOCK * scale), ceil(around) + 1
    drift = (blocks - 1) * (_BLOCK * scale - step)  # windows start at whole pixels with equal steps, so the last one starts early
    taps = -(-(ceil(_BLOCK * scale + drift + around) + margin + 1) // 8) * 8
    return _Axis(low, length, step, margin, taps, max((blocks - 1) * step + taps, margin + length), reach)


def _weights(
    axes: Sequence[_Axis], sigma: Sequence[float] | None, size: int, mirrored: Sequence[bool] | None = None
) -> list[Float[Tensor, "block rows taps"]]:
    """Window weights of one axis of every image; images with equally many taps are computed together."""
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for row, axis in enumerate(axes):
        groups[axis.taps, axis.reach].append(row)
    weights: dict[int, Tensor] = {}
    blocks = torch.arange(-(-size // _BLOCK))
    for (taps, reach), rows in groups.items():
        step, margin, length = torch.tensor([[axes[row].step, axes[row].margin, axes[row].length] for row in rows]).T
        group_sigma = torch.tensor([sigma[row] for row in rows]) if reach and sigma is not None else None
        group_mirrored = None if mirrored is None else torch.tensor([mirrored[row] for row in rows])
        starts = blocks * step[:, None] - margin[:, None]
        computed = window_weights(
            starts, length, taps=taps, rows=_BLOCK, size=size, mirrored=group_mirrored, sigma=group_sigma, kernel=2 * reach + 1
        )
        weights.update(zip(rows, computed, strict=True))
    return [weights[row] for row in range(len(axes))]


class _Workspace:
    """Buffers that are reused for every image, because allocating new ones costs more than the arithmetic."""

    def __init__(self, vertical: Sequence[_Axis], horizontal: Sequence[_Axis], channels: int, size: int) -> None:
        self.channels, self.blocks = channels, -(-size // _BLOCK)
        self.side = self.blocks * _BLOCK
        room = max(tall.needed * wide.needed for tall, wide in zip(vertical, horizontal, strict=True))
        self.canvas = reuse_buffer(room * channels).zero_()  # values that an earlier image left in a margin are finite and have weight zero
        self.narrow = reuse_buffer(self.side * channels * max(wide.needed for wide in horizontal))
        self.both = reuse_buffer(self.blocks, self.side * channels, _BLOCK)
        self.whole = reuse_buffer(channels, self.side, self.side)

    def view(
        self,
        crop: Num[Tensor, "channel height width"],
        tall: _Axis,
        wide: _Axis,
        rows: Float[Tensor, "block row tap"],
        columns: Float[Tensor, "block row tap2"],
    ) -> Float[Tensor, "channel side side"]:
        """One view, in a buffer that the next call overwrites."""
        channels, blocks, pitch = self.channels, self.blocks, wide.needed
        line = channels * pitch
        padded = self.canvas[: tall.needed * line].view(tall.needed, channels, pitch)
        padded[tall.margin : tall.margin + tall.length, :, wide.margin : wide.margin + wide.length] = crop.transpose(0, 1)
        windows = padded.as_strided((blocks, tall.taps, line), (tall.step * line, line, 1))
        narrow = self.narrow[: self.side * line].view(blocks, _BLOCK, line)
        torch.bmm(rows, windows, out=narrow)
        across = narrow.as_strided((blocks, self.side * channels, wide.taps), (wide.step, pitch, 1))
        torch.bmm(across, columns.transpose(1, 2), out=self.both)
        ordered = self.both.view(blocks, self.side, channels, _BLOCK).permute(2, 1, 0, 3)
        self.whole.view(channels, self.side, blocks, _BLOCK).copy_(ordered)
        return self.whole


def resample(
    pixels: Num[Tensor, "batch channel height width"],
    boxes: Num[Tensor, "batch 4"],
    flips: Bool[Tensor, " batch"] | None,
    sigmas: Float[Tensor, " batch"] | None,
    kernel: int,
    size: int,
    finish: Callable[[Tensor, slice, Tensor], Tensor],
) -> Float[Tensor, "batch channel size size"]:
    """Square views of images on the CPU, as ``geometry.resample``; excluded from compilation.

    Args:
        pixels: images (N, C, H, W).
        boxes: left, top, width, height (N, 4) in whole pixels.
        flips: whether views are mirrored (N,); None: no flips.
        sigmas: standard deviation (N,) of the blur in pixels of the view; None: no blur.
        kernel: length of the blur's kernel in pixels of the view, odd.
        size: side of the views in pixels.
        finish: applied to each view: pixels, rows of the batch, and the output buffer.

    Returns:
        (N, C, size, size).
    """
    flip = None if flips is None else flips.tolist()
    sigma = None if sigmas is None else sigmas.tolist()
    blur = [_reach(value, kernel) for value in sigma] if sigma is not None else [0] * len(boxes)
    boxes_and_blur = list(zip(boxes.int().tolist(), blur, strict=True))
    vertical = [_axis(box[1], box[3], size, reach) for box, reach in boxes_and_blur]
    horizontal = [_axis(box[0], box[2], size, reach) for box, reach in boxes_and_blur]
    rows, columns = _weights(vertical, sigma, size), _weights(horizontal, sigma, size, flip)
    workspace = _Workspace(vertical, horizontal, pixels.shape[1], size)
    views = reuse_buffer(len(boxes), pixels.shape[1], size, size)
    for row, (tall, wide) in enumerate(zip(vertical, horizontal, strict=True)):
        crop = pixels[row, :, tall.low : tall.low + tall.length, wide.low : wide.low + wide.length]
        crop = crop.flip(-1) if flip is not None and flip[row] else crop
        view = workspace.view(crop, tall, wide, rows[row], columns[row])[:, :size, :size]
        finish(view[None], slice(row, row + 1), views[row : row + 1])
    return views
