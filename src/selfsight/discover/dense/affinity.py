"""How alike the places of a picture are: by features of any layer and facet, and by colour."""

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
"""Of a colour: how many, and what a picture's side counts beside the range of a colour (Melas-Kyriazi et al. 2022)."""


@dataclass(frozen=True)
class Graph:
    """A symmetric affinity W of places, as what a spectral method needs of it.

    Attributes:
        times: ``x W`` for rows x (batch, row, place): memory is read along its lines, which is twice as fast as ``W x``.
        degrees: the sums of its rows, (batch, place), none below 0.
        dense: the matrix, where it is held.
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
    """One vector a place.

    Args:
        phi: the representation.
        images: whose sides are multiples of the network's stride.
        layer: a layer's output, instead of a facet.
        facet: of an attention block: keys (as most that find objects use), queries, values; token: the network's last grid;
            auto: keys where there is attention, else the last grid.
        block: which block, from the end with -1.

    Raises:
        UsageError: the network has no such layer, block or facet.
    """
    if layer is not None and facet not in ("auto", "token"):
        raise UsageError(f"The layer {layer!r} has no {facet}s to choose.", "Name a layer, or a facet and a block.")
    if layer is not None or facet == "token" or (facet == "auto" and not phi.has_attention):
        return phi.grid(images, layer)
    return phi.facet(images, "key" if facet == "auto" else facet, block)


def cosines(features: DenseFeatures) -> Affinity:
    """``W_ij = cos(f_i, f_j)``, negative ones and all."""
    unit = normalize(features.flatten(2), dim=1)
    return unit.transpose(1, 2) @ unit


def affinity_graph(weights: Affinity) -> Graph:
    """A graph of a matrix, whose negative weights are taken as none."""
    kept = weights.clamp(min=0)
    return Graph(lambda given: given @ kept, kept.sum(2), kept)


def chunked_graph(features: DenseFeatures, rows: int = 2048) -> Graph:
    """The graph of positive cosines, made again for every product, some rows at a time: for pictures of many places."""
    unit = normalize(features.flatten(2), dim=1)

    def times(given: Tensor) -> Tensor:
        blocks = unit.split(rows, 2)
        return torch.cat([given @ (unit.transpose(1, 2) @ block).clamp(min=0) for block in blocks], 2)

    return Graph(times, times(torch.ones_like(unit[:, :1]))[:, 0])


def nystrom_graph(features: DenseFeatures, count: int, *, seed: int = 0) -> Graph:
    """Positive cosines of all places to some, and from these to all: Nyström's ``W ≈ C M⁺ Cᵀ`` (Fowlkes et al. 2004, IEEE PAMI 26).

    Exact where all places are landmarks. ``M⁺`` drops directions below 1e-5 of the largest.

    Args:
        features: one vector a place.
        count: how many landmarks, drawn once for all pictures.
        seed: of the draw.
    """
    unit = normalize(features.flatten(2), dim=1)
    drawn = torch.randperm(unit.shape[2], generator=torch.Generator().manual_seed(seed))[:count].sort().values.to(unit.device)
    some = unit[:, :, drawn]
    columns = (unit.transpose(1, 2) @ some).clamp(min=0)
    inverse = torch.linalg.pinv((some.transpose(1, 2) @ some).clamp(min=0).double(), rtol=1e-5, hermitian=True).to(unit.dtype)

    def times(given: Tensor) -> Tensor:
        return given @ columns @ inverse @ columns.transpose(1, 2)

    return Graph(times, times(torch.ones_like(unit[:, :1]))[:, 0].clamp(min=0))


def colour_affinity(images: Float[Tensor, "batch 3 height width"], rows: int, columns: int) -> Affinity:
    """Neighbours in colour and place, counted: of the matting Laplacian with nearest neighbours (Chen, Li & Tang 2013).

    ``W_ij`` counts how often i is among the nearest of j and j among those of i (each its own nearest too) in two graphs over
    (red, green, blue, s x, s y): 20 neighbours with s = 2 and 10 with s = 0.1, as Melas-Kyriazi et al. 2022 (arXiv:2205.07839)
    use it. All weights of a picture of N > 20 places sum to 60 N.

    Args:
        images: in [0, 1]; they are averaged over each place.
        rows, columns: of places.
    """
    small = adaptive_avg_pool2d(images.float(), (rows, columns)).flatten(2).transpose(1, 2)
    down, across = (torch.linspace(0, 1, count, device=images.device) for count in (rows, columns))
    places = torch.cartesian_prod(down, across).flip(1).expand(len(images), -1, 2)
    count = rows * columns
    found = torch.zeros(len(images), count, count, device=images.device)
    for most, weight in NEIGHBOURS:
        points = torch.cat([small, weight * places], 2)
        near = torch.cdist(points, points).topk(min(most, count), dim=2, largest=False).indices
        one = torch.zeros_like(found).scatter_(2, near, 1.0)
        found += one + one.transpose(1, 2)
    return found
