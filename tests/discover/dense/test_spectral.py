"""Graphs with known eigenvectors, and agreement of solvers."""

import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles
from scipy.sparse.linalg import eigsh, lobpcg
from torch import Tensor

from selfsight.core.errors import UsageError
from selfsight.discover.dense.affinity import Graph, affinity_graph, chunked_graph, cosines, nystrom_graph
from selfsight.discover.dense.spectral import Spectrum, spectrum


def blocks(sizes: list[int], inside: float, across: float) -> Tensor:
    member = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    return torch.where(member[:, None] == member, inside, across).double()[None]


def cloud(places: int = 400, batch: int = 2) -> Tensor:
    """Features with a few dominant directions, (batch, dim, rows, columns)."""
    generator = torch.Generator().manual_seed(0)
    some = torch.randn(batch, 24, 6, generator=generator, dtype=torch.float64)
    share = torch.randn(batch, 6, places, generator=generator, dtype=torch.float64).softmax(1)
    return (some @ share + 0.1 * torch.randn(batch, 24, places, generator=generator, dtype=torch.float64)).unflatten(2, (places // 20, 20))


def whitened(found: Spectrum) -> Tensor:
    """``D^½ v``, which are orthonormal: (batch, place, vector)."""
    return (found.vectors * found.degrees.sqrt()[:, None]).transpose(1, 2)


@pytest.mark.parametrize("solver", ["dense", "krylov"])
def test_eigenvalues_of_two_blocks_equal_the_formula(solver):
    """``μ₂ = q (n₂ / d₁ + n₁ / d₂)``, which is the normalised cut, and ``v = (a, b)`` with ``a / b = - n₂ d₂ / (n₁ d₁)``."""
    (small, large), inside, across = (12, 30), 1.0, 0.05
    found = spectrum(affinity_graph(blocks([small, large], inside, across)), 3, solver=solver, tolerance=1e-9)
    first, second = small * inside + large * across, large * inside + small * across
    assert float(found.values[0, 1]) == pytest.approx(across * (large / first + small / second))
    vector = found.vectors[0, 1]
    assert float(vector[0] / vector[-1]) == pytest.approx(-large * second / (small * first))
    assert float(vector[0]) > 0  # the minority is positive
    assert found.values[0, 2:].tolist() == pytest.approx([1.0, 1.0])
    assert found.clusters().tolist() == [2]


def test_equal_blocks_share_an_eigenspace():
    """``μ = K q / (p + (K - 1) q)``, K - 1 times."""
    count, inside, across = 4, 1.0, 0.1
    found = spectrum(affinity_graph(blocks([10] * count, inside, across)), 5, solver="dense")
    assert found.values[0, 1:count].tolist() == pytest.approx([count * across / (inside + (count - 1) * across)] * (count - 1))
    assert found.values[0, count:].tolist() == pytest.approx([1.0] * (6 - count))
    indicators = torch.eye(count, dtype=torch.float64).repeat_interleave(10, 0)
    assert subspace_angles(whitened(found)[0, :, :count].numpy(), indicators.numpy()).max() < 1e-7
    assert found.clusters().tolist() == [count]


def test_all_solvers_and_graphs_give_the_same_eigenspace():
    features = cloud()
    weights = cosines(features).clamp(min=0)
    exact = spectrum(affinity_graph(weights), 5, solver="dense")
    graphs: dict[str, Graph] = {
        "held": affinity_graph(weights),
        "made again": chunked_graph(features, rows=64),
        "landmarks": nystrom_graph(features, weights.shape[1]),
    }
    spaces = {name: whitened(spectrum(graph, 5, solver="krylov", tolerance=1e-10)) for name, graph in graphs.items()}
    for row in range(len(features)):
        matrix = weights[row].numpy()
        degrees = matrix.sum(1)
        values, vectors = eigsh(np.diag(degrees) - matrix, k=6, sigma=-1e-9, which="LM", M=np.diag(degrees))
        assert exact.values[row].tolist() == pytest.approx(sorted(values), abs=1e-8)
        peer = np.sqrt(degrees)[:, None] * vectors
        start = np.random.default_rng(0).standard_normal((len(matrix), 6))
        other = lobpcg(np.diag(degrees) - matrix, start, B=np.diag(degrees), largest=False, tol=1e-10, maxiter=400)[1]
        peers = {"eigsh": peer, "lobpcg": np.sqrt(degrees)[:, None] * other}
        for name, space in {**spaces, **peers, "exact": whitened(exact)}.items():
            basis = space if name in peers else space[row].numpy()
            angle = subspace_angles(basis, whitened(exact)[row].numpy()).max()
            assert angle < (1e-5 if name == "landmarks" else 1e-6), name  # whose inverse leaves small directions out


def test_vectors_are_orthonormal_and_solve_the_equation():
    weights = cosines(cloud()).clamp(min=0)
    found = spectrum(affinity_graph(weights), 5, solver="krylov", tolerance=1e-10)
    shares = torch.einsum("bvp,bp,bwp->bvw", found.vectors, found.degrees, found.vectors)
    torch.testing.assert_close(shares, torch.eye(6, dtype=torch.float64).expand(2, -1, -1), atol=1e-8, rtol=0)
    left = found.degrees[:, None] * found.vectors - found.vectors @ weights
    right = found.values[..., None] * found.degrees[:, None] * found.vectors
    torch.testing.assert_close(left, right, atol=1e-7, rtol=0)
    assert float(found.residual.max()) < 1e-8


def test_eigenvectors_are_invariant_to_scale_and_order():
    weights = cosines(cloud()).clamp(min=0)
    plain = spectrum(affinity_graph(weights), 4, solver="krylov", tolerance=1e-10)
    scaled = spectrum(affinity_graph(7 * weights), 4, solver="krylov", tolerance=1e-10)
    torch.testing.assert_close(plain.values, scaled.values, atol=1e-9, rtol=0)
    torch.testing.assert_close(plain.vectors, scaled.vectors * 7**0.5, atol=1e-6, rtol=0)
    order = torch.randperm(weights.shape[1], generator=torch.Generator().manual_seed(1))
    turned = spectrum(affinity_graph(weights[:, order][:, :, order]), 4, solver="krylov", tolerance=1e-10)
    torch.testing.assert_close(plain.vectors[:, :, order], turned.vectors, atol=1e-6, rtol=0)


def test_all_vectors_reconstruct_a_signal():
    weights = cosines(cloud(100)).clamp(min=0)
    found = spectrum(affinity_graph(weights), 99, solver="dense")
    signal = torch.randn(2, 100, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    torch.testing.assert_close(found.reconstruct(found.coefficients(signal)), signal)
    torch.testing.assert_close(found.coefficients(signal).square().sum(1), (found.degrees * signal.square()).sum(1))


def test_single_precision_is_accurate():
    features = cloud(900, batch=3)
    exact = whitened(spectrum(affinity_graph(cosines(features)), 5, solver="dense"))
    near = whitened(spectrum(affinity_graph(cosines(features.float())), 5, solver="krylov"))
    assert max(subspace_angles(a.numpy(), b.double().numpy()).max() for a, b in zip(exact, near, strict=True)) < 1e-3


@pytest.mark.parametrize(("places", "count"), [(10, 5), (17, 3), (23, 11), (40, 20)])
def test_few_locations_are_supported(places, count):
    """The last block has the remaining width."""
    generator = torch.Generator().manual_seed(places)
    features = torch.randn(2, 30, places, 1, generator=generator, dtype=torch.float64)
    exact = spectrum(affinity_graph(cosines(features)), count, solver="dense")
    blockwise = spectrum(chunked_graph(features, rows=7), count, solver="krylov", tolerance=1e-10)
    torch.testing.assert_close(blockwise.values, exact.values, atol=1e-8, rtol=0)
    for one, other in zip(whitened(blockwise), whitened(exact), strict=True):
        assert subspace_angles(one.numpy(), other.numpy()).max() < 1e-6


def test_isolated_locations_are_supported():
    weights = blocks([5, 5], 1.0, 0.2)
    weights[0, 0] = weights[0, :, 0] = 0
    found = spectrum(affinity_graph(weights), 2)
    assert bool(found.vectors.isfinite().all())


def test_invalid_arguments_are_rejected():
    graph = affinity_graph(blocks([3, 3], 1.0, 0.1))
    with pytest.raises(UsageError, match="6 vectors cannot be computed for 6 locations") as refusal:
        spectrum(graph, 6)
    assert "1 to 5" in refusal.value.remedy
    with pytest.raises(UsageError, match="does not hold"):
        spectrum(chunked_graph(cloud(40)), 2, solver="dense")
