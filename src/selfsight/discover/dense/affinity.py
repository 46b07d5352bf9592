"""Affinities between the locations of an image: by features of any layer and facet, and by colour."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Num
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, normalize

from selfsight.core.errors import UsageError
from selfsight.core.representation import Representation

__all__ = ["Facet", "Graph", "affinity_graph", "chunked_graph", "colour_affinity", "cosines", "location_features", "nystrom_graph"]

Facet = Literal["auto", "key", "query", "value", "token"]
Affinity = Float[Tensor, "batch place place"]
DenseFeatures = Float[Tensor, "batch dim rows columns"]

NEIGHBOURS = ((20, 2.0), (10, 0.1))
"""Colour neighbours: their number, and the weight of position relative to colour (Melas-Kyriazi et al. 2022)."""


@dataclass(frozen=True)
class Graph:
    """A symmetric affinity matrix W of locations, as spectral methods use it.

    Attributes:
        times: function from rows x to ``x W`` (batch, row, place); it reads W row by row, which is twice as fast as ``W x``.
        degrees: row sums (batch, place), not negative.
        dense: the matrix, if it is stored.
    """

    times: Callable[[Tensor], Tensor]
    degrees: Float[Tensor, "batch place"]
    dense: Affinity | None = None


@torch.no_grad()
def location_features(
    phi: Representation,
    images: Num[Tensor, "batch channel height width"],
    *,
    layer: str | None = None,
    facet: Facet = "auto",
    block: int = -1,
) -> DenseFeatures:
    """Dense features: one vector per location.

    Args:
        phi: the representation.
        images: images ``(B, C, H, W)``, uint8 or in [0, 1]; sides are multiples of the network's stride.
        layer: output of this layer instead of a facet.
        facet: facet of an attention block: keys (the usual choice for object discovery), queries or values; token: the last feature map;
            auto: keys if the network has attention, otherwise the last feature map.
        block: index of the block; negative from the end.

    Returns:
        Features ``(B, D, rows, columns)``.

    Raises:
        UsageError: the network does not have the layer, block or facet.
    """
    if layer is not None and facet not in ("auto", "token"):
        raise UsageError(f"The layer {layer!r} has no {facet}s to choose.", "Set either a layer, or a facet and a block.")
    if layer is not None or facet == "token" or (facet == "auto" and not phi.has_attention):
        return phi.grid(images, layer)
    return phi.facet(images, "key" if facet == "auto" else facet, block)


def cosines(features: DenseFeatures) -> Affinity:
    """Cosine similarities ``W_ij = cos(f_i, f_j)``, including negative ones."""
    unit = normalize(features.flatten(2), dim=1)
    return unit.transpose(1, 2) @ unit


def affinity_graph(weights: Affinity) -> Graph:
    """The graph of an affinity matrix, with negative weights set to zero."""
    positive = weights.clamp(min=0)
    return Graph(lambda rows: rows @ positive, positive.sum(2), positive)


def chunked_graph(features: DenseFeatures, rows: int = 2048) -> Graph:
    """The graph of positive cosines, recomputed block by block for every product instead of stored; for many locations.

    Args:
        features: dense features ``(B, D, rows, columns)``.
        rows: locations per block.
    """
    unit = normalize(features.flatten(2), dim=1)

    def times(vectors: Tensor) -> Tensor:
        blocks = unit.split(rows, 2)
        return torch.cat([vectors @ (unit.transpose(1, 2) @ block).clamp(min=0) for block in blocks], 2)

    return Graph(times, times(torch.ones_like(unit[:, :1]))[:, 0])


def nystrom_graph(features: DenseFeatures, count: int, *, seed: int = 0) -> Graph:
    """Nyström approximation ``W ≈ C M⁺ Cᵀ`` of positive cosines with landmark locations (Fowlkes et al. 2004, IEEE PAMI 26).

    Exact if all locations are landmarks. ``M⁺`` discards directions below 1e-5 of the largest eigenvalue.

    Args:
        features: dense features ``(B, D, rows, columns)``.
        count: number of landmarks, the same for all images.
        seed: seed of the draw.
    """
    unit = normalize(features.flatten(2), dim=1)
    indices = torch.randperm(unit.shape[2], generator=torch.Generator().manual_seed(seed))[:count].sort().values.to(unit.device)
    landmarks = unit[:, :, indices]
    columns = (unit.transpose(1, 2) @ landmarks).clamp(min=0)
    inverse = torch.linalg.pinv((landmarks.transpose(1, 2) @ landmarks).clamp(min=0).double(), rtol=1e-5, hermitian=True).to(unit.dtype)

    def times(vectors: Tensor) -> Tensor:
        return vectors @ columns @ inverse @ columns.transpose(1, 2)

    return Graph(times, times(torch.ones_like(unit[:, :1]))[:, 0].clamp(min=0))


def colour_affinity(images: Float[Tensor, "batch 3 height width"], rows: int, columns: int) -> Affinity:
    """Nearest-neighbour affinity in colour and position, as in KNN matting (Chen, Li & Tang 2013).

    ``W_ij`` counts how often i is among the nearest neighbours of j and j among those of i (each its own neighbour too) in two graphs over
    (red, green, blue, s x, s y): 20 neighbours with s = 2 and 10 with s = 0.1, as in Melas-Kyriazi et al. 2022 (arXiv:2205.07839). All
    weights of an image of N > 20 locations sum to 60 N.

    Args:
        images: images ``(B, 3, H, W)`` in [0, 1], averaged over each location.
        rows: rows of locations.
        columns: columns of locations.
    """
    colours = adaptive_avg_pool2d(images.float(), (rows, columns)).flatten(2).transpose(1, 2)
    down, across = (torch.linspace(0, 1, count, device=images.device) for count in (rows, columns))
    positions = torch.cartesian_prod(down, across).flip(1).expand(len(images), -1, 2)
    count = rows * columns
    affinity = torch.zeros(len(images), count, count, device=images.device)
    for neighbours, weight in NEIGHBOURS:
        points = torch.cat([colours, weight * positions], 2)
        nearest = torch.cdist(points, points).topk(min(neighbours, count), dim=2, largest=False).indices
        adjacency = torch.zeros_like(affinity).scatter_(2, nearest, 1.0)
        affinity += adjacency + adjacency.transpose(1, 2)
    return affinity
