"""Lottery tickets of a tiny problem, and fixed masks."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from selfsight.core.errors import UsageError
from selfsight.measure.analysis.lottery import cluster_agreement, lottery, masked_weights, prunable, prune


def make(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 2))


def rings(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Near the centre or far from it, in two of eight dimensions."""
    rows = torch.randn(count, 8, generator=torch.Generator().manual_seed(seed))
    return rows, (rows[:, :2].square().sum(1) > 1.4).long()


def train(network: nn.Module, steps: int = 120) -> float:
    (rows, labels), (asked, truth) = rings(256, 0), rings(256, 1)
    learner = torch.optim.Adam(network.parameters(), lr=0.02, weight_decay=1e-4)
    network.train()
    for _ in range(steps):
        learner.zero_grad()
        cross_entropy(network(rows), labels).backward()
        learner.step()
    network.eval()
    with torch.no_grad():
        return float((network(asked).argmax(1) == truth).float().mean())


def test_the_smallest_weights_are_pruned_per_layer():
    network = nn.Sequential(nn.Linear(5, 1), nn.ReLU(), nn.Linear(1, 2))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[0.1, -5.0, 0.2, -0.3, 4.0]]))
        network[2].weight.copy_(torch.tensor([[100.0], [-200.0]]))
    assert prunable(network) == ("0.weight", "2.weight")
    masks = {name: torch.ones_like(dict(network.named_parameters())[name], dtype=torch.bool) for name in prunable(network)}
    once = prune(network, masks, {"0.weight": 0.2, "2.weight": 0.2})
    assert once["0.weight"].tolist() == [[False, True, True, True, True]]
    assert once["2.weight"].tolist() == [[False], [True]]  # a fifth of two, rounded up
    twice = prune(network, once, {"0.weight": 0.5, "2.weight": 0.5})
    assert twice["0.weight"].tolist() == [[False, True, False, False, True]]
    assert twice["2.weight"].tolist() == [[False], [True]]  # the last one stays


def test_pruned_weights_stay_zero_while_others_learn():
    network = make(0)
    masks = {name: torch.rand(dict(network.named_parameters())[name].shape) < 0.5 for name in prunable(network)}
    before = {name: value.clone() for name, value in network.named_parameters()}
    with masked_weights(network, masks):
        train(network, steps=5)
    for name, mask in masks.items():
        weight = dict(network.named_parameters())[name]
        assert (weight[~mask] == 0).all()
        assert (weight[mask] != before[name][mask]).any()
    train(network, steps=2)  # afterwards all of them learn again
    assert all((dict(network.named_parameters())[name][~mask] != 0).any() for name, mask in masks.items())


def test_tickets_of_a_tiny_problem():
    starts = []

    def watched(network: nn.Module) -> float:
        starts.append({name: value.clone() for name, value in network.state_dict().items()})
        return train(network)

    tickets = lottery(make, watched, rounds=4, rate=0.3, last=0.5)
    lefts = [ticket.left for ticket in tickets]
    assert lefts[0] == 1
    assert lefts == sorted(lefts, reverse=True)
    assert lefts[1] == pytest.approx(1 - (77 + 10) / 320)  # 0.3 of 256 and 0.15 of 64, rounded up
    assert tickets[0].score > 0.85
    assert tickets[-1].score > 0.75  # with a third of its weights
    for number, ticket in enumerate(tickets):  # ticket and control are asked in turn
        start, control = starts[2 * number], starts[2 * number + 1]
        mask = ticket.masks["0.weight"]
        assert torch.equal(start["0.weight"], starts[0]["0.weight"] * mask)  # rewound
        assert torch.equal(start["1.running_mean"], torch.zeros(32))
        assert (control["0.weight"][~mask] == 0).all()
        assert not torch.equal(control["0.weight"], start["0.weight"])
        assert len(ticket.control) == 1


def test_networks_without_prunable_weights_are_rejected():
    with pytest.raises(UsageError, match="pruned"):
        lottery(lambda seed: nn.ReLU(), train)


def test_clusterings_agree_where_there_are_clusters_and_not_in_noise():
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 4, 300)
    clear = [np.eye(4)[kind] @ rng.standard_normal((4, dim)) * 5 + 0.1 * rng.standard_normal((300, dim)) for dim in (8, 12, 8)]
    told = cluster_agreement(clear, 4)
    np.testing.assert_allclose(told.between, np.ones(3))
    np.testing.assert_allclose(told.within, np.ones(3))
    noise = cluster_agreement([rng.standard_normal((300, 8)) for _ in range(2)], 4)
    assert abs(noise.between[0]) < 0.05
    with pytest.raises(UsageError):
        cluster_agreement(clear[:1], 4)
