import torch

from selfsight.core.rng import seed_rng, seeded_rng


def test_seeds_are_those_of_torch() -> None:
    torch.manual_seed(5)
    expected = torch.rand(4)
    seed_rng(5)
    assert torch.equal(torch.rand(4), expected)
    seed_rng(6)
    assert not torch.equal(torch.rand(4), expected)


def test_a_seeded_block_leaves_the_generator_as_it_was() -> None:
    seed_rng(1)
    expected = torch.rand(2)
    seed_rng(1)
    with seeded_rng(5):
        inside = torch.rand(4)
    assert torch.equal(torch.rand(2), expected)
    with seeded_rng(5):
        assert torch.equal(torch.rand(4), inside)
