"""Sobel filter; shared by views and networks."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d

__all__ = ["sobel"]


def sobel(images: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch 2 height width"]:
    """Horizontal and vertical edges of the mean of the channels, as in DeepCluster's input (Caron et al. 2018, arXiv:1807.05520)."""
    across = torch.tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]], device=images.device, dtype=images.dtype)
    return conv2d(images.mean(1, keepdim=True), torch.stack([across, across.T])[:, None], padding=1)
