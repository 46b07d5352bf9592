"""Seeds of k-means: distinct classes are found, and an exchange only ever lowers the sum of squared distances."""

import pytest
import torch

from selfsight.objectives.seeding import spread_seeds, swapped_seeds


def classes(count: int, each: int = 30, dim: int = 8, seed: int = 0) -> torch.Tensor:
    """Compact classes, far from each other and from the origin."""
    generator = torch.Generator().manual_seed(seed)
    centres = 100 + 50 * torch.randn(count, dim, generator=generator)
    return (centres[:, None] + 0.1 * torch.randn(count, each, dim, generator=generator)).flatten(0, 1)


def inertia(rows: torch.Tensor, seeds: torch.Tensor) -> float:
    return float(torch.cdist(rows.double(), seeds.double()).square().min(1).values.sum())


@pytest.mark.parametrize("seed", range(5))
def test_spread_seeds_are_rows_of_different_classes(seed):
    rows = classes(6)
    seeds = spread_seeds(rows, 6, seed)
    nearest = torch.cdist(seeds, rows, compute_mode="donot_use_mm_for_euclid_dist").min(1)
    assert float(nearest.values.max()) == 0
    assert sorted((nearest.indices // 30).tolist()) == list(range(6))
    assert torch.equal(seeds, spread_seeds(rows, 6, seed))
    assert len(spread_seeds(rows, 1, seed)) == 1


def test_spread_seeds_of_equal_rows():
    assert torch.equal(spread_seeds(torch.ones(10, 3), 4, 0), torch.ones(4, 3))


@pytest.mark.parametrize("seed", range(5))
def test_swapped_seeds_leave_no_class_without_a_seed(seed):
    """Two seeds lie in one class, and none in another."""
    rows = classes(6)
    bad = torch.cat([rows[[0, 1]], rows[[30, 60, 90, 120]]])
    good = swapped_seeds(rows, bad, seed)
    assert sorted((torch.cdist(good, rows).argmin(1) // 30).tolist()) == list(range(6))
    assert inertia(rows, good) < inertia(rows, bad) / 1000


@pytest.mark.parametrize("seed", range(5))
def test_swapped_seeds_never_raise_the_sum(seed):
    rows = torch.randn(200, 5, generator=torch.Generator().manual_seed(seed))
    seeds = rows[:12]
    assert inertia(rows, swapped_seeds(rows, seeds, seed)) <= inertia(rows, seeds) * (1 + 1e-6)
    assert torch.equal(swapped_seeds(rows, seeds[:1], seed), seeds[:1])
    assert torch.allclose(swapped_seeds(rows, seeds, seed, steps=0), seeds, atol=1e-6)
