"""The weight matrices of antialiased resampling, with flip and Gaussian blur folded in."""

import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor

__all__ = ["dense_weights", "gaussian_band", "window_weights"]

_NOTHING = 1e-12  # products with subnormal numbers would take a hundred times as long


def gaussian_band(sigma: Float[Tensor, " batch"], kernel: int, rows: int) -> Float[Tensor, "batch rows padded"]:
    """Blur of ``rows`` neighbouring values as a matrix on those values with half a kernel more on either side.

    The kernel is torchvision's: samples of the bell curve, ``kernel`` of them (odd), scaled to sum 1. ``sigma`` 0: identity.
    """
    reach = kernel // 2
    offset = torch.arange(-reach, reach + 1, device=sigma.device)
    bell = torch.exp(-0.5 * (offset / sigma.clamp(min=1e-3)[:, None]) ** 2)
    bell = torch.where(sigma[:, None] > 0, bell, (offset == 0).to(bell.dtype))
    bell = torch.where(bell < _NOTHING, 0.0, bell)
    bell = bell / bell.sum(1, keepdim=True)
    across = torch.arange(rows + 2 * reach, device=sigma.device) - torch.arange(rows, device=sigma.device)[:, None]
    inside = (across >= 0) & (across < kernel)
    return torch.where(inside, bell[:, across.clamp(0, kernel - 1)], 0.0)


def window_weights(
    starts: Num[Tensor, "batch block"],
    length: Num[Tensor, " batch"],
    *,
    taps: int,
    rows: int,
    size: int,
    flip: Bool[Tensor, " batch"] | None = None,
    mirrored: Bool[Tensor, " batch"] | None = None,
    sigma: Float[Tensor, " batch"] | None = None,
    kernel: int = 1,
) -> Float[Tensor, "batch block rows taps"]:
    """Weights of blocks of ``rows`` outputs, each on a window of ``taps`` pixels.

    An axis of ``length`` pixels becomes ``size`` outputs; output i is the mean of the pixels around ``(i + 1/2) scale``
    under a triangle of half-width ``max(scale, 1)``, scale being ``length / size``; pixels outside the axis do not count.
    Window b begins at pixel ``starts[b]`` of the axis. Outputs past ``size`` mean nothing. ``flip``: outputs in reverse
    order. ``mirrored``: outputs in reverse order, from pixels that were reversed already.
    """
    device, reach = starts.device, (kernel // 2 if sigma is not None else 0)
    index = torch.arange(starts.shape[1], device=device)[:, None] * rows + torch.arange(-reach, rows + reach, device=device)
    index = (size - 1 - (size - 1 - index.abs()).abs()).clamp_(min=0).float()  # reflected at both ends, as the blur's border is
    backwards = flip if flip is not None else mirrored
    if backwards is not None:
        index = torch.where(backwards[:, None, None], size - 1 - index, index)
    scale = (length.float() / size)[:, None, None]
    centre = (index + 0.5) * scale
    position = starts[..., None].float() + torch.arange(taps, device=device)
    inside = (position >= 0) & (position < length[:, None, None])
    if mirrored is not None:  # from the other end, so that rounding is that of the unmirrored axis
        position = torch.where(mirrored[:, None, None], length[:, None, None] - 1 - position, position)
    distance = (position + 0.5)[:, :, None] - centre[..., None]
    weight = (1 - distance.abs_() / scale.clamp(min=1)[..., None]).clamp_(min=0) * inside[:, :, None]
    weight = weight / weight.sum(-1, keepdim=True).clamp_(min=1e-6)  # rows past the last output may see nothing
    if sigma is None:
        return weight
    return torch.matmul(gaussian_band(sigma, kernel, rows)[:, None], weight)


def dense_weights(
    low: Num[Tensor, " batch"],
    length: Num[Tensor, " batch"],
    pixels: int,
    size: int,
    flip: Bool[Tensor, " batch"] | None = None,
    sigma: Float[Tensor, " batch"] | None = None,
    kernel: int = 1,
) -> Float[Tensor, "batch size pixels"]:
    """Weights of all ``size`` outputs on all ``pixels`` of an axis, of which ``low`` to ``low + length`` is resampled."""
    start = -low[:, None]
    return window_weights(start, length, taps=pixels, rows=size, size=size, flip=flip, sigma=sigma, kernel=kernel)[:, 0]
