"""Cluster assignments of samples."""

import torch
from jaxtyping import Int
from torch import Tensor

from selfsight.modules.table import SampleTable

__all__ = ["Assignments"]


class Assignments(SampleTable):
    """One cluster number per sample; the table is saved with the method."""

    labels: Tensor
    grown = "labels"

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("labels", torch.zeros(0, dtype=torch.long))

    def set(self, index: Int[Tensor, " sample"], labels: Int[Tensor, " sample"]) -> None:
        """Assign samples to clusters; samples that are not named get -1.

        Args:
            index: samples (N,).
            labels: their clusters (N,).
        """
        table = torch.full((int(index.max()) + 1,), -1, dtype=torch.long, device=labels.device)
        table[index] = labels
        self.labels = table
