"""Autoregressive context over the rows of a grid."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad, relu

__all__ = ["DownwardContext"]


class DownwardContext(nn.Module):
    """Masked convolutions over the same row and those above (van den Oord et al. 2018, arXiv:1807.03748, section 3.3).

    Args:
        dim: number of channels of input and output.
        depth: residual layers; each extends the receptive field by one row upwards and one column to both sides.
    """

    def __init__(self, dim: int, *, depth: int = 3) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(dim, dim, (2, 3)) for _ in range(depth))

    def forward(self, grid: Float[Tensor, "batch dim rows columns"]) -> Float[Tensor, "batch dim rows columns"]:
        for layer in self.layers:
            grid = grid + relu(layer(pad(grid, (1, 1, 1, 0))))
        return grid
