"""Weight matrices of antialiased resampling, including flip and Gaussian blur."""

import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor

__all__ = ["dense_weights", "gaussian_band", "window_weights"]

_NOTHING = 1e-12  # products with subnormal numbers are about a hundred times slower


def gaussian_band(sigma: Float[Tensor, " batch"], kernel: int, rows: int) -> Float[Tensor, "batch rows padded"]:
    """Gaussian blur of ``rows`` neighbouring values, as a matrix on these values with half a kernel more on either side.

    The kernel is torchvision's: samples of the Gaussian, normalised to sum 1.

    Args:
        sigma: standard deviation (N,) in pixels; 0: identity.
        kernel: length of the kernel, odd.
        rows: number of outputs.

    Returns:
        (N, rows, rows + kernel - 1).
    """
    reach = kernel // 2
    offset = torch.arange(-reach, reach + 1, device=sigma.device)
    gaussian = torch.exp(-0.5 * (offset / sigma.clamp(min=1e-3)[:, None]) ** 2)
    gaussian = torch.where(sigma[:, None] > 0, gaussian, (offset == 0).to(gaussian.dtype))
    gaussian = torch.where(gaussian < _NOTHING, 0.0, gaussian)
    gaussian = gaussian / gaussian.sum(1, keepdim=True)
    across = torch.arange(rows + 2 * reach, device=sigma.device) - torch.arange(rows, device=sigma.device)[:, None]
    inside = (across >= 0) & (across < kernel)
    return torch.where(inside, gaussian[:, across.clamp(0, kernel - 1)], 0.0)


def window_weights(
    starts: Num[Tensor, "batch block"], length: Num[Tensor, " batch"], *, taps: int, rows: int, size: int,
    flip: Bool[Tensor, " batch"] | None = None, mirrored: Bool[Tensor, " batch"] | None = None,
    sigma: Float[Tensor, " batch"] | None = None, kernel: int = 1,
) -> Float[Tensor, "batch block rows taps"]:  # fmt: skip
    """Weights of blocks of ``rows`` outputs, each on a window of ``taps`` pixels.

    Output i is the mean of the pixels around ``(i + 1/2) scale`` under a triangle of half-width ``max(scale, 1)``, with scale
    ``length / size``; pixels outside the axis are ignored. Outputs beyond ``size`` are undefined.

    Args:
        starts: first pixel (N, B) of each window on its axis.
        length: pixels (N,) of the axis that is resampled.
        taps: pixels per window.
        rows: outputs per block.
        size: number of outputs.
        flip: whether outputs are in reverse order (N,).
        mirrored: whether outputs are in reverse order, from pixels that are already reversed (N,).
        sigma: standard deviation (N,) of the blur in outputs; none by default.
        kernel: length of the blur's kernel in outputs, odd.
    """
    device, reach = starts.device, (kernel // 2 if sigma is not None else 0)
    index = torch.arange(starts.shape[1], device=device)[:, None] * rows + torch.arange(-reach, rows + reach, device=device)
    index = (size - 1 - (size - 1 - index.abs()).abs()).clamp_(min=0).float()  # reflected at both ends, as the border of the blur
    backwards = flip if flip is not None else mirrored
    if backwards is not None:
        index = torch.where(backwards[:, None, None], size - 1 - index, index)
    scale = (length.float() / size)[:, None, None]
    centre = (index + 0.5) * scale
    position = starts[..., None].float() + torch.arange(taps, device=device)
    inside = (position >= 0) & (position < length[:, None, None])
    if mirrored is not None:  # from the other end, so that rounding equals that of the unmirrored axis
        position = torch.where(mirrored[:, None, None], length[:, None, None] - 1 - position, position)
    distance = (position + 0.5)[:, :, None] - centre[..., None]
    weight = (1 - distance.abs_() / scale.clamp(min=1)[..., None]).clamp_(min=0) * inside[:, :, None]
    weight = weight / weight.sum(-1, keepdim=True).clamp_(min=1e-6)  # rows beyond the last output may have no pixel
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
    """Weights of all outputs on all pixels of an axis.

    Args:
        low: first pixel (N,) of the resampled part.
        length: pixels (N,) of the resampled part.
        pixels: length of the axis.
        size: number of outputs.
        flip: whether outputs are in reverse order (N,).
        sigma: standard deviation (N,) of the blur in outputs; none by default.
        kernel: length of the blur's kernel in outputs, odd.

    Returns:
        (N, size, pixels).
    """
    start = -low[:, None]
    return window_weights(start, length, taps=pixels, rows=size, size=size, flip=flip, sigma=sigma, kernel=kernel)[:, 0]
