"""Nearest neighbours of samples."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from selfsight.modules.table import SampleTable

__all__ = ["Neighbours"]


class Neighbours(SampleTable):
    """The nearest samples of each sample by cosine similarity; the table is saved with the method."""

    nearest: Tensor
    grown = "nearest"

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("nearest", torch.zeros(0, 0, dtype=torch.long))

    @torch.no_grad()
    def set(self, index: Int[Tensor, " sample"], rows: Float[Tensor, "sample dim"], count: int) -> None:
        """Find the nearest neighbours of samples; samples that are not named are their own neighbours.

        Args:
            index: samples (N,).
            rows: their embeddings (N, D).
            count: number of neighbours.
        """
        unit, count = normalize(rows), min(count, len(rows) - 1)
        table = torch.arange(int(index.max()) + 1, device=index.device)[:, None].repeat(1, count)
        positions = torch.arange(len(unit), device=index.device)
        for part in positions.split(4096):
            similarity = unit[part] @ unit.T
            similarity[torch.arange(len(part)), part] = -2.0
            table[index[part]] = index[similarity.topk(count).indices]
        self.nearest = table
