"""Eigenvectors of affinity graphs: the relaxed normalised cut (Shi & Malik 2000, IEEE PAMI 22).

For affinities W and degrees ``D = diag(W 1)``: ``(D - W) v = μ D v`` with μ in [0, 2] and ``vᵀ D v = 1``. Equivalently, with
``S = D^-½ W D^-½``: ``S u = (1 - μ) u`` and ``v = D^-½ u``. The first eigenvector, ``u ∝ D^½ 1`` with μ = 0, is known and is deflated. The
next ones are the largest of S, by a block Krylov method (Golub & Underwood 1977) for all images at once: a product with W costs as much
for eight vectors as for one, and a few products suffice.
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
"""Up to this number of locations a dense eigensolver is used."""
PASSES = 40
ROOM = 3
"""Extra vectors per block."""


@dataclass(frozen=True)
class Spectrum:
    """The smoothest eigenvectors of images of one shape, the constant one first.

    Attributes:
        values: (batch, vector) μ, ascending from 0.
        vectors: (batch, vector, place); the sign is such that the positive side is the minority.
        degrees: (batch, place).
        residual: the largest ``‖S u - (1 - μ) u‖`` of each image.
    """

    values: Float[Tensor, "batch vector"]
    vectors: Float[Tensor, "batch vector place"]
    degrees: Float[Tensor, "batch place"]
    residual: Float[Tensor, " batch"]

    def coefficients(self, signal: Float[Tensor, "batch place"]) -> Float[Tensor, "batch vector"]:
        """Coefficients ``vᵀ D f`` of a signal; with all vectors ``Σ (vᵀ D f)² = fᵀ D f`` (Parseval)."""
        return torch.einsum("bvp,bp,bp->bv", self.vectors, self.degrees, signal)

    def reconstruct(self, coefficients: Float[Tensor, "batch vector"]) -> Float[Tensor, "batch place"]:
        """The signal with these coefficients."""
        return torch.einsum("bvp,bv->bp", self.vectors, coefficients)

    def clusters(self) -> Int[Tensor, " batch"]:
        """Number of clusters by the largest gap between neighbouring eigenvalues, from 1."""
        return self.values.diff(dim=1).argmax(1) + 1


@torch.no_grad()
def spectrum(graph: Graph, count: int, *, solver: Solver = "auto", tolerance: float = 1e-5, seed: int = 0) -> Spectrum:
    """The ``count`` smoothest eigenvectors after the constant one.

    Args:
        graph: the affinities.
        count: number of eigenvectors.
        solver: dense (needs the matrix), block Krylov, or by the number of locations.
        tolerance: tolerance of the residual ``‖S u - (1 - μ) u‖``; at most 40 iterations.
        seed: seed of the first block.

    Raises:
        UsageError: there are too few locations, or the matrix for ``dense`` is not stored.
    """
    batch, places = graph.degrees.shape
    if not 0 < count < places:
        raise UsageError(f"{count} vectors cannot be computed for {places} locations.", f"Use 1 to {places - 1}.")
    if solver == "dense" and graph.dense is None:
        raise UsageError("The dense solver needs the matrix, which this graph does not hold.", "Use the solver krylov.")
    degrees = torch.where(graph.degrees < 1e-12, torch.ones_like(graph.degrees), graph.degrees)
    inverse_root = degrees.rsqrt()
    small = graph.dense is not None and places <= max(DENSE, 4 * count)
    if solver == "dense" or (solver == "auto" and small):
        assert graph.dense is not None
        eigenvalues, eigenvectors = _dense(graph.dense * inverse_root[:, :, None] * inverse_root[:, None], inverse_root, count)
        residual = eigenvalues.new_zeros(batch)
    else:
        eigenvalues, eigenvectors, residual = _krylov(graph, inverse_root, count, tolerance, seed)
    constant = degrees.sum(1, keepdim=True).rsqrt().expand(-1, places)
    vectors = torch.cat([constant[:, None], eigenvectors * inverse_root[:, None]], 1)
    values = torch.cat([torch.zeros_like(eigenvalues[:, :1]), 1 - eigenvalues], 1)
    return Spectrum(values, _oriented(vectors), degrees, residual)


def _oriented(vectors: Tensor) -> Tensor:
    """Flip signs so that the positive side is the minority; at equal halves, so that the largest entry is positive."""
    fraction = (vectors > 0).float().mean(2, keepdim=True)
    peak = vectors.gather(2, vectors.abs().argmax(2, keepdim=True))
    flip = ((fraction > 0.5) & (fraction < 1)) | ((fraction == 0.5) & (peak < 0))
    return torch.where(flip, -vectors, vectors)


def _dense(matrix: Tensor, inverse_root: Tensor, count: int) -> tuple[Tensor, Tensor]:
    known = _unit(1 / inverse_root)
    values, vectors = torch.linalg.eigh(matrix - 3 * known.transpose(1, 2) @ known)  # shifts the known eigenvalue from 1 to -2
    return values[:, -count:].flip(1), vectors[:, :, -count:].flip(2).transpose(1, 2)


def _unit(vector: Float[Tensor, "batch place"]) -> Float[Tensor, "batch 1 place"]:
    return (vector / vector.norm(dim=1, keepdim=True))[:, None]


def _krylov(graph: Graph, inverse_root: Tensor, count: int, tolerance: float, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Largest eigenvalues of S below the known one, their vectors (batch, vector, place) and residuals."""
    batch, places = inverse_root.shape
    width = min(count + ROOM, places - 1)
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(width, places, generator=generator).to(inverse_root).expand(batch, -1, -1)
    basis = _unit(1 / inverse_root)
    images = basis  # S maps the known eigenvector to itself
    block = _orthogonalised(start, basis)
    eigenvalues, eigenvectors, residual = inverse_root.new_zeros(0), inverse_root, inverse_root
    for iteration in range(PASSES):
        product = graph.times(block * inverse_root[:, None]) * inverse_root[:, None]
        basis, images = torch.cat([basis, block], 1), torch.cat([images, product], 1)
        remaining = places - basis.shape[1]
        last = iteration == PASSES - 1 or not remaining
        if last or (iteration % 2 == 1 and basis.shape[1] > 2 * count):
            eigenvalues, eigenvectors, residual = _ritz(basis[:, 1:], images[:, 1:], count)
            if last or float(residual.amax()) < tolerance:
                break
        block = _orthogonalised(product[:, :remaining], basis)
    return eigenvalues, eigenvectors, residual


def _orthogonalised(block: Tensor, basis: Tensor) -> Tensor:
    """Orthonormal basis of the component of a block outside another basis, or of random directions where that is rank-deficient.

    Orthogonalisation is repeated for rounding errors, and as long as directions from rounding still overlap the basis.
    """
    overlap = block @ basis.transpose(1, 2)
    for repeat in range(5):
        block = torch.linalg.qr((block - overlap @ basis).transpose(1, 2)).Q.transpose(1, 2)
        overlap = block @ basis.transpose(1, 2)
        if repeat and float(overlap.abs().amax()) < 100 * torch.finfo(block.dtype).eps:
            break
    return block.contiguous()


def _ritz(basis: Tensor, images: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Best eigenvectors within a basis (Rayleigh-Ritz); ``images`` is the matrix applied to the basis."""
    projected = basis @ images.transpose(1, 2)
    values, coefficients = torch.linalg.eigh((projected + projected.transpose(1, 2)) / 2)
    values, coefficients = values[:, -count:].flip(1), coefficients[:, :, -count:].flip(2).transpose(1, 2)
    vectors = coefficients @ basis
    residual = (coefficients @ images - values[..., None] * vectors).norm(dim=2).amax(1)
    return values, vectors, residual
