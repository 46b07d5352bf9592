"""A clustering of the data set that embeddings are compared with."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize

from selfsight.modules.assignments import Assignments

__all__ = ["Clusters"]


class Clusters(nn.Module):
    """The cluster of every sample, the clusters' unit-length centres, and a temperature per cluster.

    Args:
        most: maximum number of clusters; unused centres are zero.
        dim: length of a centre.
    """

    centres: Tensor
    widths: Tensor

    def __init__(self, most: int, dim: int) -> None:
        super().__init__()
        self.assigned = Assignments()
        self.register_buffer("centres", torch.zeros(most, dim))
        self.register_buffer("widths", torch.ones(most))

    @property
    def known(self) -> bool:
        """Whether a clustering has been set."""
        return len(self.assigned.labels) > 0

    def set(
        self,
        index: Int[Tensor, " sample"],
        labels: Int[Tensor, " sample"],
        centroids: Float[Tensor, "cluster dim"],
        widths: Float[Tensor, " cluster"],
    ) -> None:
        """Set a clustering; unused centres get the mean temperature.

        Args:
            index: samples (N,).
            labels: their clusters (N,).
            centroids: centres (K, D); normalised here.
            widths: temperatures (K,).
        """
        self.assigned.set(index, labels)
        self.centres.zero_()[: len(centroids)] = normalize(centroids)
        self.widths.fill_(float(widths.mean()))[: len(widths)] = widths

    def forward(self, rows: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch cluster"]:
        return rows @ self.centres.to(rows.dtype).T / self.widths.to(rows.dtype)
