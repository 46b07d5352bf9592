"""Balanced assignment, k-means, whitening."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from test_objectives import few, papers, rows, seeds, turn
from torch.testing import assert_close

from selfsight.core.errors import UsageError
from selfsight.objectives.assign import (
    BalancedAssignment,
    Clustering,
    balanced_assignment,
    balanced_assignment_in_chunks,
    balanced_weights,
    by_size,
    concentrations,
    kmeans,
    sinkhorn,
    transport_plan,
    whitened,
)
from selfsight.objectives.seeding import swapped_seeds


@given(seed=seeds, count=some.integers(2, 8), clusters=some.integers(2, 5), rounds=some.integers(1, 4))
@few
def test_sinkhorn_equals_the_paper(seed, count, clusters, rounds):
    scores = rows(seed, count, clusters).tanh()
    expected = torch.tensor(papers.sinkhorn(scores.tolist(), 0.05, rounds), dtype=torch.float64)
    assert_close(sinkhorn(scores, epsilon=0.05, rounds=rounds), expected, rtol=1e-8, atol=1e-12)


@given(seed=seeds, count=some.integers(2, 12), clusters=some.integers(2, 6))
@few
def test_sinkhorn_gives_equal_cluster_masses(seed, count, clusters):
    scores = rows(seed, count, clusters).tanh()
    found = sinkhorn(scores, epsilon=0.5, rounds=300)
    assert_close(found.sum(1), torch.ones(count, dtype=torch.float64))
    assert_close(found.sum(0), torch.full((clusters,), count / clusters, dtype=torch.float64), rtol=1e-4, atol=1e-4)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    assert_close(sinkhorn(scores[order], epsilon=0.5, rounds=300), found[order])
    assert_close(sinkhorn(scores + 3, epsilon=0.5, rounds=300), found)  # a constant says nothing


@given(seed=seeds, count=some.integers(2, 8), clusters=some.integers(2, 5), rounds=some.integers(0, 4))
@few
def test_transport_equals_the_paper(seed, count, clusters, rounds):
    probabilities, wanted = rows(seed, count, clusters).softmax(1), rows(seed + 1, clusters).softmax(0)
    expected = torch.tensor(papers.transport_plan(probabilities.tolist(), wanted.tolist(), 4.0, rounds), dtype=torch.float64)
    found = transport_plan(probabilities.log(), wanted, sharpness=4.0, tolerance=0.0, most=rounds)
    assert_close(found.exp(), expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("zipf", [0.0, 1.0])
def test_transport_gives_every_cluster_its_share(zipf):
    wanted = torch.arange(1, 11, dtype=torch.float64) ** -zipf
    wanted /= wanted.sum()
    found = transport_plan((3 * rows(0, 5000, 10)).log_softmax(1), wanted, sharpness=25.0, tolerance=1e-3)
    assert_close(found.logsumexp(1).exp(), torch.full((5000,), 1 / 5000, dtype=torch.float64))
    sizes = torch.bincount(found.argmax(1), minlength=10).double() / 5000
    assert_close(sizes, wanted, rtol=0.02, atol=0.002)
    sharp = transport_plan(100 * rows(0, 50, 4).log_softmax(1), torch.full((4,), 0.25))
    assert torch.isfinite(sharp.logsumexp(1)).all()


def exact(log: torch.Tensor, shares: torch.Tensor, sharpness: float = 1.0) -> torch.Tensor:
    return transport_plan(log, shares, sharpness=sharpness, tolerance=1e-12, most=20_000).exp()


@given(seed=seeds)
@few
def test_transport_of_two_by_two_is_known(seed):
    table = rows(seed, 2, 2).exp()
    (a, b), (c, d) = table.tolist()
    root = np.sqrt(a * d / (b * c))
    found = exact(table.log(), torch.tensor([0.5, 0.5], dtype=torch.float64))
    assert_close(found.diagonal(), torch.full((2,), root / (2 * (1 + root)), dtype=torch.float64), rtol=1e-9, atol=0)


@given(seed=seeds, count=some.integers(2, 9), clusters=some.integers(2, 6), sharpness=some.sampled_from([1.0, 4.0]))
@few
def test_transport_meets_its_marginals_and_keeps_odds(seed, count, clusters, sharpness):
    log, wanted = rows(seed, count, clusters).log_softmax(1), rows(seed + 1, clusters).softmax(0)
    found = exact(log, wanted, sharpness)
    assert_close(found.sum(0), wanted, rtol=0, atol=1e-9)  # the shares asked for, not one over them
    assert_close(found.sum(1), torch.full((count,), 1 / count, dtype=torch.float64), rtol=0, atol=1e-9)
    plan = found.log()
    odds = plan[0, 0] + plan[-1, -1] - plan[0, -1] - plan[-1, 0]
    assert_close(odds, sharpness * (log[0, 0] + log[-1, -1] - log[0, -1] - log[-1, 0]), rtol=1e-6, atol=1e-6)
    scaled = log + rows(seed + 2, count, 1) + rows(seed + 3, 1, clusters)  # rows and columns of P times anything
    assert_close(exact(scaled, wanted, sharpness), found, rtol=1e-6, atol=1e-9)


def test_transport_of_constant_scores_is_the_product_of_the_marginals():
    wanted = torch.tensor([0.1, 0.2, 0.7], dtype=torch.float64)
    assert_close(exact(torch.zeros(5, 3), wanted), wanted.expand(5, 3) / 5)


def test_transport_supports_tiny_probabilities():
    log = torch.full((6, 3), np.log(1e-30), dtype=torch.float64)
    log[torch.arange(6), torch.arange(6) % 3] = 0.0
    found = transport_plan(log, torch.full((3,), 1 / 3), sharpness=25.0)  # 1e-750 is no float64
    assert torch.isfinite(found).all()
    assert torch.equal(found.argmax(1), torch.arange(6) % 3)
    assert_close(found.exp().sum(0), torch.full((3,), 1 / 3, dtype=torch.float64))


@pytest.mark.parametrize("seed", range(4))
def test_sharp_transport_is_the_optimal_matching(seed):
    scores = rows(seed, 6, 6)
    found = transport_plan(scores, torch.full((6,), 1 / 6), sharpness=200.0, tolerance=1e-6, most=20_000)
    _, columns = linear_sum_assignment(scores.numpy(), maximize=True)
    assert found.argmax(1).tolist() == columns.tolist()
    lost = float(scores[torch.arange(6), columns].mean() - (found.exp() * scores).sum())
    assert -1e-4 <= lost <= np.log(6) / 200  # what entropy can buy


@pytest.mark.parametrize("spread", [0.02, 1.0])
@pytest.mark.parametrize("part", [7, 1024])
def test_balanced_assignment_in_chunks_equals_the_full_one(spread, part):
    features, weight, bias = rows(0, 500, 4), spread * rows(1, 10, 4), spread * rows(2, 10)
    shares = torch.arange(1, 11).double() ** -0.5
    shares /= shares.sum()
    logits = features @ weight.T + bias
    found = balanced_assignment_in_chunks(lambda some: features[some] @ weight.T + bias, 500, shares, part=part)
    assert isinstance(found, BalancedAssignment)
    assert torch.equal(found.labels, balanced_assignment(logits.log_softmax(1), shares))
    assert torch.equal(found.labels, (found.sharpness * logits + found.offsets).argmax(1))
    sizes = torch.bincount(found.labels, minlength=10) / 500
    assert found.wrong == pytest.approx(float((sizes - shares).abs().sum()) / 2)
    assert found.wrong <= 0.02
    single = balanced_assignment_in_chunks(lambda some: (features[some] @ weight.T + bias).float(), 500, shares, part=part)
    assert (single.labels != found.labels).double().mean() < 0.01
    with pytest.raises(UsageError, match="shares"):
        balanced_assignment_in_chunks(lambda some: logits[some], 500, 2 * shares)


@pytest.mark.parametrize("shares", [[0.5, 0.6], [1.0, 0.0]])
def test_invalid_shares_are_rejected(shares):
    with pytest.raises(UsageError, match="shares"):
        transport_plan(rows(0, 4, 2).log_softmax(1), torch.tensor(shares))


def test_sinkhorn_does_not_overflow():
    found = sinkhorn(torch.tensor([[100.0, 0.0], [100.0, 1.0]]), epsilon=0.01)
    assert torch.isfinite(found).all()
    assert_close(found.sum(1), torch.ones(2))


def clouds(seed: int, clusters: int = 4, count: int = 30, dim: int = 5) -> tuple[torch.Tensor, np.ndarray]:
    centres = 20 * torch.eye(clusters, dim, dtype=torch.float64)
    return torch.cat([centres[k] + rows(seed + k, count, dim) for k in range(clusters)]), np.repeat(np.arange(clusters), count)


def inertia(data: torch.Tensor, found: Clustering) -> float:
    return float((data - found.centroids[found.labels]).square().sum())


@pytest.mark.parametrize("seed", range(4))
def test_kmeans_equals_scikit_learn_on_clouds(seed):
    data, truth = clouds(seed)
    found = kmeans(data, 4, seed=seed, restarts=4)
    theirs = KMeans(4, n_init=4, random_state=seed).fit(data.numpy())
    assert adjusted_rand_score(theirs.labels_, found.labels.numpy()) == 1
    assert adjusted_rand_score(truth, found.labels.numpy()) == 1
    assert found.inertia == pytest.approx(theirs.inertia_, rel=1e-6)
    assert found.inertia == pytest.approx(inertia(data, found), rel=1e-6)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("clusters", "count", "dim", "apart"), [(20, 40, 16, 5.0), (30, 20, 24, 5.0), (50, 40, 32, 3.0)])
def test_kmeans_finds_separate_classes_as_well_as_scikit_learn(clusters, count, dim, apart, seed):
    """For each seed: plain Lloyd iterations leave two seeds in one class, with up to 1.6 times the inertia."""
    data = (apart * rows(seed, clusters, 1, dim) + rows(seed + 100, clusters, count, dim)).flatten(0, 1).float()
    theirs = KMeans(clusters, n_init=1, random_state=seed).fit(data.numpy()).inertia_
    assert kmeans(data, clusters, seed=seed + 200).inertia <= 1.01 * theirs


def test_local_search_moves_a_second_seed_of_a_class_to_one_without():
    data = (20 * torch.eye(4, dtype=torch.float64))[:, None] + 0.1 * rows(0, 4, 25, 4)
    flat = data.flatten(0, 1)
    wrong = data[[0, 0, 1, 2], [0, 1, 0, 0]]  # none in the last class
    found = swapped_seeds(flat, wrong, 0)
    assert sorted(torch.cdist(found, data.mean(1)).argmin(1).tolist()) == [0, 1, 2, 3]
    assert_close(swapped_seeds(flat, wrong, 0, steps=0), wrong)
    assert_close(swapped_seeds(flat[:1].repeat(9, 1), flat[:2], 0), flat[:2])  # equal rows


def test_kmeans_seeds_far_from_the_origin():
    """Eight points that differ by 1 and are 1000 from the origin, each many times: every one has its centre."""
    points = 1000 + torch.eye(8)
    found = kmeans(points.repeat(50, 1), 8, rounds=1)
    assert len(found.labels.unique()) == 8
    assert_close(found.centroids.sort(0).values, points.sort(0).values)


@given(seed=seeds, count=some.integers(6, 40), clusters=some.integers(1, 6))
@few
def test_kmeans_inertia_decreases_until_convergence(seed, count, clusters):
    data = rows(seed, count, 3)
    course = [kmeans(data, clusters, seed=seed, rounds=rounds).inertia for rounds in range(1, 12)]
    assert all(after <= before * (1 + 1e-9) + 1e-9 for before, after in pairwise(course))
    found = kmeans(data, clusters, seed=seed, rounds=200)
    for cluster in range(clusters):
        members = data[found.labels == cluster]
        assert len(members)
        assert_close(found.centroids[cluster], members.mean(0))
    assert torch.equal(torch.cdist(data, found.centroids).argmin(1), found.labels)


@given(seed=seeds)
@settings(max_examples=10, deadline=None)
def test_kmeans_is_a_function_of_its_seed(seed):
    data = rows(seed, 40, 3)
    torch.manual_seed(1)
    first = kmeans(data, 5, seed=3)
    torch.manual_seed(2)
    again = kmeans(data, 5, seed=3)
    assert torch.equal(first.labels, again.labels)
    assert kmeans(data, 5, seed=3, restarts=5).inertia <= first.inertia


def test_empty_clusters_take_far_samples():
    data = torch.cat([torch.zeros(20, 2), torch.tensor([[10.0, 0.0], [0.0, 10.0]])]).double()
    for seed in range(10):
        found = kmeans(data, 3, seed=seed)
        assert found.inertia == pytest.approx(0, abs=1e-9)
        assert torch.bincount(found.labels, minlength=3).tolist().count(0) == 0
    same = kmeans(torch.ones(5, 2), 3)  # fewer different samples than clusters
    assert same.inertia == pytest.approx(0, abs=1e-6)
    assert torch.isfinite(same.centroids).all()


def test_spherical_kmeans_depends_on_directions_only():
    data = rows(0, 60, 4)
    found = kmeans(data, 3, spherical=True)
    longer = kmeans(data * rows(1, 60, 1).exp(), 3, spherical=True)
    assert torch.equal(found.labels, longer.labels)
    assert_close(found.centroids.norm(dim=1), torch.ones(3, dtype=torch.float64))


def test_fewer_samples_than_clusters_are_rejected():
    with pytest.raises(UsageError, match="2 samples cannot make 3 clusters"):
        kmeans(torch.zeros(2, 2), 3)


@given(seed=seeds, dim=some.integers(1, 4))
@few
def test_whitened_rows_are_pca(seed, dim):
    data = rows(seed, 30, 5) * torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0], dtype=torch.float64)
    found = whitened(data, dim)
    assert found.shape == (30, dim)
    assert_close(found.norm(dim=1), torch.ones(30, dtype=torch.float64))
    values, vectors = np.linalg.eigh(np.cov(data.numpy().T, bias=True))
    slow = (data.numpy() - data.numpy().mean(0)) @ vectors[:, -dim:] / np.sqrt(values[-dim:])
    slow = torch.from_numpy(slow / np.linalg.norm(slow, axis=1, keepdims=True))
    assert_close((found @ found.T).abs(), (slow @ slow.T).abs(), rtol=1e-3, atol=1e-3)
    moved = whitened(data @ turn(seed + 1, 5) + 3, dim)
    assert_close(moved @ moved.T, found @ found.T, rtol=1e-5, atol=1e-6)


def test_whitening_of_poor_data_is_finite():
    flat = torch.ones(10, 4)
    assert torch.isfinite(whitened(flat, 3)).all()
    line = torch.arange(10.0)[:, None] * torch.ones(4)
    assert torch.isfinite(whitened(line, 3)).all()
    assert whitened(rows(0, 3, 8), 6).shape == (3, 2)  # three samples span two directions


@given(seed=seeds, clusters=some.integers(2, 6))
@few
def test_balanced_weights_give_every_cluster_the_same_total(seed, clusters):
    labels = torch.randint(clusters, (30,), generator=torch.Generator().manual_seed(seed))
    weights = balanced_weights(labels, clusters + 2)
    totals = torch.zeros(clusters + 2).index_add_(0, labels, weights[labels])
    present = torch.bincount(labels, minlength=clusters + 2) > 0
    assert_close(totals[present], totals[present].mean().expand(int(present.sum())))
    assert float(weights[labels].mean()) == pytest.approx(1, rel=1e-5)
    assert not weights[~present].any()


@given(seed=seeds, dim=some.integers(2, 4))
@few
def test_concentration_equals_the_paper(seed, dim):
    some_rows, labels, centroids = rows(seed, 40, dim), torch.arange(40) % 3, rows(seed + 1, 3, dim)
    found = concentrations(some_rows, Clustering(labels, centroids, 0.0, 1), 0.2)
    expected = torch.tensor(papers.concentrations(some_rows.tolist(), labels.tolist(), centroids.tolist(), 0.2), dtype=torch.float64)
    middle = expected.argsort()[1]
    low, high = torch.quantile(expected, torch.tensor([0.1, 0.9], dtype=torch.float64))
    kept = expected.clamp(low, high)
    assert_close(found, 0.2 * kept / kept.mean())
    assert float(found.mean()) == pytest.approx(0.2)
    assert found.argsort()[1] == middle


def test_concentration_of_clusters_of_one_is_the_largest():
    some_rows, labels = rows(0, 21, 2), torch.tensor([0] * 10 + [1] * 10 + [2])
    centroids = torch.stack([some_rows[labels == number].mean(0) for number in range(3)])
    found = concentrations(some_rows, Clustering(labels, centroids, 0.0, 1), 0.2)
    assert found[2] == found.max()


def test_the_largest_share_goes_to_the_largest_cluster():
    chances = torch.tensor([[0.2, 0.5, 0.3], [0.1, 0.3, 0.6], [0.2, 0.5, 0.3]]).double().log()
    assert_close(by_size(torch.tensor([1.0, 2.0, 7.0]), chances), torch.tensor([0.1, 0.7, 0.2], dtype=torch.float64))


def test_cluster_sizes_are_the_requested_shares():
    chances = torch.log_softmax(3 * rows(0, 4000, 8), 1)
    shares = by_size(torch.arange(1, 9).double() ** -1.0, chances)
    labels = balanced_assignment(chances, shares)
    assert torch.equal(labels, transport_plan(chances, shares).argmax(1))  # sharp enough as it is
    found = torch.bincount(labels, minlength=8) / 4000
    assert (found - shares).abs().max() < 0.02
    assert found.argmax() == chances.exp().sum(0).argmax()


@pytest.mark.parametrize("fall", [0.0, 1.0])
def test_cluster_sizes_are_met_for_uninformative_scores(fall):
    chances = torch.log_softmax(0.02 * (rows(0, 3000, 16) + 0.3 * rows(1, 1, 16)), 1)
    shares = by_size(torch.arange(1, 17).double() ** -fall, chances)

    def wrong(labels):
        return float((torch.bincount(labels, minlength=16) / 3000 - shares).abs().sum()) / 2

    assert wrong(balanced_assignment(chances, shares, sharpness=10.0)) <= 0.02
    if fall:
        assert wrong(transport_plan(chances, shares, sharpness=10.0).argmax(1)) > 0.3  # a soft plan's largest share wins
