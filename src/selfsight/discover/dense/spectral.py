"""Eigenvectors of the places of pictures: the smoothest ways to tell them apart (Shi & Malik 2000, IEEE PAMI 22).

For affinities W and degrees ``D = diag(W 1)``: ``(D - W) v = μ D v``, with μ from 0 to 2, ``vᵀ D v = 1``. Equally, with
``S = D^-½ W D^-½``: ``S u = (1 - μ) u`` and ``v = D^-½ u``; the first, ``u ∝ D^½ 1`` with μ = 0, is known, so that it is taken off
and the next are found as the largest of S by a block Krylov method (Golub & Underwood 1977) in all pictures at once: a pass
over W costs as much for eight vectors as for one, and a space of a few passes is enough.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from selfsight.core.errors import UsageError
from selfsight.discover.dense.affinity import Graph

__all__ = ["Spectrum", "spectrum"]

Solver = Literal["auto", "dense", "krylov"]

DENSE = 160
"""Up to so many places all eigenvectors are found at once."""
PASSES = 40
ROOM = 3
"""Vectors in a block beside those that are wanted."""


@dataclass(frozen=True)
class Spectrum:
    """The smoothest eigenvectors of some pictures of one shape, the constant one first.

    Attributes:
        values: (batch, vector) μ, ascending, from 0.
        vectors: (batch, vector, place); the larger side of each is negative, so that what is positive is the minority.
        degrees: (batch, place).
        residual: the largest ``‖S u - (1 - μ) u‖`` of each picture.
    """

    values: Float[Tensor, "batch vector"]
    vectors: Float[Tensor, "batch vector place"]
    degrees: Float[Tensor, "batch place"]
    residual: Float[Tensor, " batch"]

    def parts(self, signal: Float[Tensor, "batch place"]) -> Float[Tensor, "batch vector"]:
        """How much of each vector is in a signal: ``vᵀ D f``; with all vectors ``Σ (vᵀ D f)² = fᵀ D f`` (Parseval)."""
        return torch.einsum("bvp,bp,bp->bv", self.vectors, self.degrees, signal)

    def rebuilt(self, parts: Float[Tensor, "batch vector"]) -> Float[Tensor, "batch place"]:
        """The signal that has these parts, and none of the vectors that are not here."""
        return torch.einsum("bvp,bv->bp", self.vectors, parts)

    def clusters(self) -> Int[Tensor, " batch"]:
        """How many clusters the largest gap between neighbouring eigenvalues speaks for, from 1."""
        return self.values.diff(dim=1).argmax(1) + 1


@torch.no_grad()
def spectrum(graph: Graph, count: int, *, solver: Solver = "auto", tolerance: float = 1e-5, seed: int = 0) -> Spectrum:
    """The ``count`` smoothest eigenvectors after the constant one.

    Args:
        graph: the affinities.
        count: how many.
        solver: all at once (needs the matrix), block by block, or by the number of places.
        tolerance: of the residual ``‖S u - (1 - μ) u‖``, at which passes end; after 40 they end anyway.
        seed: of the first block.

    Raises:
        UsageError: there are not so many places, or the matrix that ``dense`` needs is not held.
    """
    batch, places = graph.degrees.shape
    if not 0 < count < places:
        raise UsageError(f"{count} vectors are asked of {places} places.", f"Ask for 1 to {places - 1}.")
    if solver == "dense" and graph.dense is None:
        raise UsageError("All eigenvectors at once need the matrix, which this graph does not hold.", "Use the solver krylov.")
    degrees = torch.where(graph.degrees < 1e-12, torch.ones_like(graph.degrees), graph.degrees)
    root = degrees.rsqrt()
    small = graph.dense is not None and places <= max(DENSE, 4 * count)
    if solver == "dense" or (solver == "auto" and small):
        assert graph.dense is not None
        shares, inner = _dense(graph.dense * root[:, :, None] * root[:, None], root, count)
        residual = shares.new_zeros(batch)
    else:
        shares, inner, residual = _krylov(graph, root, count, tolerance, seed)
    constant = degrees.sum(1, keepdim=True).rsqrt().expand(-1, places)
    vectors = torch.cat([constant[:, None], inner * root[:, None]], 1)
    values = torch.cat([torch.zeros_like(shares[:, :1]), 1 - shares], 1)
    return Spectrum(values, _turned(vectors), degrees, residual)


def _turned(vectors: Tensor) -> Tensor:
    """Signs such that what is positive is the minority; at half, such that the largest entry is positive."""
    share = (vectors > 0).float().mean(2, keepdim=True)
    peak = vectors.gather(2, vectors.abs().argmax(2, keepdim=True))
    turn = ((share > 0.5) & (share < 1)) | ((share == 0.5) & (peak < 0))
    return torch.where(turn, -vectors, vectors)


def _dense(matrix: Tensor, root: Tensor, count: int) -> tuple[Tensor, Tensor]:
    known = _unit(1 / root)
    values, vectors = torch.linalg.eigh(matrix - 3 * known.transpose(1, 2) @ known)  # the known one becomes the smallest: 1 - 3
    return values[:, -count:].flip(1), vectors[:, :, -count:].flip(2).transpose(1, 2)


def _unit(vector: Float[Tensor, "batch place"]) -> Float[Tensor, "batch 1 place"]:
    return (vector / vector.norm(dim=1, keepdim=True))[:, None]


def _krylov(graph: Graph, root: Tensor, count: int, tolerance: float, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Largest eigenvalues of S below the known one, their vectors (batch, vector, place) and residuals."""
    batch, places = root.shape
    width = min(count + ROOM, places - 1)
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(width, places, generator=generator).to(root).expand(batch, -1, -1)
    basis = _unit(1 / root)
    images = basis  # S of the known one is itself
    block = _apart(first, basis)
    shares, inner, residual = root.new_zeros(0), root, root
    for done in range(PASSES):
        new = graph.times(block * root[:, None]) * root[:, None]
        basis, images = torch.cat([basis, block], 1), torch.cat([images, new], 1)
        left = places - basis.shape[1]
        last = done == PASSES - 1 or not left
        if last or (done % 2 == 1 and basis.shape[1] > 2 * count):
            shares, inner, residual = _ritz(basis[:, 1:], images[:, 1:], count)
            if last or float(residual.amax()) < tolerance:
                break
        block = _apart(new[:, :left], basis)
    return shares, inner, residual


def _apart(block: Tensor, basis: Tensor) -> Tensor:
    """An orthonormal basis of what a block adds to another basis, or of anything where it adds less than it has rows.

    Once more for what rounding leaves; then as long as directions that came from rounding alone still lie in the basis.
    """
    shared = block @ basis.transpose(1, 2)
    for done in range(5):
        block = torch.linalg.qr((block - shared @ basis).transpose(1, 2)).Q.transpose(1, 2)
        shared = block @ basis.transpose(1, 2)
        if done and float(shared.abs().amax()) < 100 * torch.finfo(block.dtype).eps:
            break
    return block.contiguous()


def _ritz(basis: Tensor, images: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best eigenvectors within a basis, of which the matrix makes ``images`` (Rayleigh and Ritz)."""
    inner = basis @ images.transpose(1, 2)
    values, turns = torch.linalg.eigh((inner + inner.transpose(1, 2)) / 2)
    values, turns = values[:, -count:].flip(1), turns[:, :, -count:].flip(2).transpose(1, 2)
    vectors = turns @ basis
    residual = (turns @ images - values[..., None] * vectors).norm(dim=2).amax(1)
    return values, vectors, residual
