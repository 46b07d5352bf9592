"""Resampling of larger views on CPUs: blocks of outputs are multiplied with only the window of the picture that they see."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil

import torch
from jaxtyping import Float, Num
from torch import Tensor

from selfsight.data.views.weights import window_weights

__all__ = ["resample"]

_BLOCK = 32


@dataclass(frozen=True)
class _Axis:
    """How one axis of one picture is cut into windows: they begin ``step`` pixels apart, the first ``margin`` before the crop."""

    low: int
    length: int
    step: int
    margin: int
    taps: int
    needed: int  # pixels of the padded crop that windows touch


def _axis(low: float, length: float, size: int, reach: int) -> _Axis:
    blocks = -(-size // _BLOCK)
    scale = length / size
    around = max(scale, 1.0) + reach * scale
    step, margin = int(_BLOCK * scale), ceil(around) + 1
    drift = (blocks - 1) * (_BLOCK * scale - step)  # windows begin at whole pixels, equally far apart: the last is early
    taps = -(-(ceil(_BLOCK * scale + drift + around) + margin + 1) // 8) * 8
    return _Axis(int(low), int(length), step, margin, taps, max((blocks - 1) * step + taps, margin + int(length)))


def _weights(
    axes: Sequence[_Axis], sigma: Sequence[float] | None, kernel: int, size: int
) -> list[Float[Tensor, "block rows taps"]]:
    """The window weights of one axis of every picture; pictures that need equally many taps are done together."""
    groups: dict[tuple[int, bool], list[int]] = defaultdict(list)
    for row, axis in enumerate(axes):
        groups[axis.taps, sigma is not None and sigma[row] > 0].append(row)
    found: dict[int, Tensor] = {}
    blocks = torch.arange(-(-size // _BLOCK))
    for (taps, blurred), rows in groups.items():
        step, margin, length = torch.tensor([[axes[row].step, axes[row].margin, axes[row].length] for row in rows]).T
        spread = torch.tensor([sigma[row] for row in rows]) if blurred and sigma is not None else None
        starts = blocks * step[:, None] - margin[:, None]
        made = window_weights(starts, length, taps=taps, rows=_BLOCK, size=size, sigma=spread, kernel=kernel)
        found.update(zip(rows, made, strict=True))
    return [found[row] for row in range(len(axes))]


def resample(
    pixels: Num[Tensor, "batch channel height width"],
    boxes: Num[Tensor, "batch 4"],
    flip: Sequence[bool] | None,
    sigma: Sequence[float] | None,
    kernel: int,
    size: int,
    finish: Callable[[Tensor, slice], Tensor],
) -> Float[Tensor, "batch channel2 size size"]:
    """Square views of pictures on the CPU, as ``geometry.resample``."""
    sigma = sigma if kernel > 1 else None
    blur = [kernel // 2 if sigma is not None and sigma[row] > 0 else 0 for row in range(len(boxes))]
    places = list(zip(boxes.tolist(), blur, strict=True))
    vertical = [_axis(box[1], box[3], size, reach) for box, reach in places]
    horizontal = [_axis(box[0], box[2], size, reach) for box, reach in places]
    rows, columns = _weights(vertical, sigma, kernel, size), _weights(horizontal, sigma, kernel, size)
    room = max((tall.needed * wide.needed for tall, wide in zip(vertical, horizontal, strict=True)), default=0)
    canvas = torch.zeros(room * pixels.shape[1])  # what an earlier picture left in a margin is finite, and weighs nothing
    made: Tensor | None = None
    for row, (tall, wide) in enumerate(zip(vertical, horizontal, strict=True)):
        crop = pixels[row, :, tall.low : tall.low + tall.length, wide.low : wide.low + wide.length]
        view = _one(crop, canvas, tall, wide, rows[row], columns[row], size)
        view = finish((view.flip(-1) if flip is not None and flip[row] else view)[None], slice(row, row + 1))
        made = view.new_empty(len(boxes), *view.shape[1:]) if made is None else made
        made[row] = view[0]
    return pixels.new_empty(0, pixels.shape[1], size, size, dtype=torch.float32) if made is None else made


def _one(
    crop: Num[Tensor, "channel height width"],
    canvas: Float[Tensor, " room"],
    tall: _Axis,
    wide: _Axis,
    rows: Float[Tensor, "block row tap"],
    columns: Float[Tensor, "block2 row tap2"],
    size: int,
) -> Float[Tensor, "channel size size"]:
    channels, blocks, pitch = crop.shape[0], len(rows), wide.needed
    line = channels * pitch
    padded = canvas[: tall.needed * line].view(tall.needed, channels, pitch)
    padded[tall.margin : tall.margin + tall.length, :, wide.margin : wide.margin + wide.length] = crop.transpose(0, 1)
    windows = padded.as_strided((blocks, tall.taps, line), (tall.step * line, line, 1))
    narrow = torch.bmm(rows, windows)
    across = narrow.as_strided((blocks, blocks * _BLOCK * channels, wide.taps), (wide.step, pitch, 1))
    both = torch.bmm(across, columns.transpose(1, 2)).view(blocks, blocks * _BLOCK, channels, _BLOCK)
    whole = both.permute(2, 1, 0, 3).reshape(channels, blocks * _BLOCK, blocks * _BLOCK)
    return whole if blocks * _BLOCK == size else whole[:, :size, :size].contiguous()
