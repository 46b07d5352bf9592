"""Objectives compared with slow reference implementations of the papers, known properties, and finite differences."""

import re
import sys
from collections.abc import Callable
from importlib import import_module
from math import cos, exp, log, pi
from pathlib import Path
from pkgutil import iter_modules

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from torch import Tensor
from torch.nn.functional import normalize, softmax
from torch.testing import assert_close

import selfsight.objectives
from selfsight.objectives.adversarial import (
    discriminator_accuracy,
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    wasserstein_distance,
)
from selfsight.objectives.agree import (
    across_pairs,
    across_views,
    cosine_distance,
    counting,
    masked_cross_entropy,
    mean_absolute_error,
    mean_squared_error,
    mutual_information,
    neighbour_consistency,
    soft_cross_entropy,
)
from selfsight.objectives.colour import rebalancing, soft_bins
from selfsight.objectives.contrast import (
    binary_nce,
    info_nce,
    instance_discrimination,
    jensen_shannon_pairs,
    nt_xent,
    supervised_contrastive,
)
from selfsight.objectives.decorrelate import correlation_to_identity, covariance_energy, variance_hinge
from selfsight.objectives.reconstruct import (
    gaussian_likelihood,
    masked_mae,
    masked_mse,
    normal_divergence,
    patches,
    standard_patches,
    weighted_mse,
)
from selfsight.objectives.spread import alignment, effective_rank, embedding_spread, gaussianity, nearest_spread, uniformity

sys.path.insert(0, str(Path(__file__).parent.parent / "oracles"))
import papers

seeds = some.integers(0, 2**31)
sizes = some.integers(2, 7)
few = settings(max_examples=25, deadline=None)


def rows(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def shares(seed: int, *shape: int) -> Tensor:
    return softmax(2 * rows(seed, *shape), 1)


def turn(seed: int, dim: int) -> Tensor:
    return torch.linalg.qr(rows(seed, dim, dim))[0]


def hidden(seed: int, batch: int, count: int, masked: int) -> Tensor:
    return rows(seed, batch, count).argsort(1) < masked


PAIRS: dict[str, tuple[Callable[..., Tensor], Callable[..., float]]] = {
    "info_nce": (lambda a, b: info_nce(a, b, 0.3), lambda a, b: papers.info_nce(a, b, 0.3)),
    "nt_xent": (lambda a, b: nt_xent(a, b, 0.3), lambda a, b: papers.nt_xent(a, b, 0.3)),
    "cosine_distance": (cosine_distance, papers.cosine_distance),
    "alignment": (lambda a, b: alignment(a, b, 3.0), lambda a, b: papers.alignment(a, b, 3.0)),
}
"""Losses of pairs of rows that see cosines alone."""


@pytest.mark.parametrize("name", PAIRS)
@given(seed=seeds, count=sizes, dim=sizes)
@few
def test_pairwise_losses_equal_the_papers(name, seed, count, dim):
    ours, theirs = PAIRS[name]
    left, right = rows(seed, count, dim), rows(seed + 1, count, dim)
    assert float(ours(left, right)) == pytest.approx(theirs(left.tolist(), right.tolist()), rel=1e-9)


@pytest.mark.parametrize("name", PAIRS)
@given(seed=seeds, count=sizes, dim=sizes)
@few
def test_pairwise_losses_are_invariant_to_order_rotation_and_length(name, seed, count, dim):
    ours = PAIRS[name][0]
    left, right = rows(seed, count, dim), rows(seed + 1, count, dim)
    expected = ours(left, right)
    order, rotation = torch.randperm(count, generator=torch.Generator().manual_seed(seed)), turn(seed + 2, dim)
    lengths = rows(seed + 3, count, 1).exp()
    assert_close(ours(left[order], right[order]), expected)
    assert_close(ours(left @ rotation, right @ rotation), expected)
    assert_close(ours(left * lengths, right * 7), expected)


@given(seed=seeds, count=sizes, dim=sizes, others=sizes)
@few
def test_info_nce_with_a_dictionary(seed, count, dim, others):
    query, key, negatives = rows(seed, count, dim), rows(seed + 1, count, dim), normalize(rows(seed + 2, others, dim))
    found = info_nce(query, key, 0.2, negatives=negatives)
    assert float(found) == pytest.approx(papers.info_nce(query.tolist(), key.tolist(), 0.2, negatives.tolist()), rel=1e-9)
    assert_close(info_nce(query, key, 0.2, negatives=negatives.flip(0)), found)


def test_info_nce_between_ln_k_and_zero():
    same = torch.ones(8, 4, dtype=torch.float64)
    assert float(info_nce(same, same, 0.1)) == pytest.approx(log(8))
    assert float(nt_xent(same, same, 0.1)) == pytest.approx(log(15))
    apart = torch.eye(8, dtype=torch.float64)
    assert float(info_nce(apart, apart, 0.01)) < 1e-6
    assert float(nt_xent(apart, apart, 0.01)) < 1e-6


@given(seed=seeds, count=sizes, clusters=sizes)
@few
def test_soft_cross_entropy_equals_the_paper(seed, count, clusters):
    logits, target = 3 * rows(seed, count, clusters), shares(seed + 1, count, clusters)
    found = soft_cross_entropy(logits, target)
    assert float(found) == pytest.approx(papers.soft_cross_entropy(logits.tolist(), target.tolist()), rel=1e-9)
    assert_close(soft_cross_entropy(logits + 5, target), found)
    best = soft_cross_entropy(target.log(), target)
    assert_close(best, torch.special.entr(target).sum(1).mean())
    assert float(best) <= float(found) + 1e-12


@given(seed=seeds, count=some.integers(4, 9), dim=some.integers(2, 5))
@few
def test_cross_correlation_equals_the_paper(seed, count, dim):
    left, right = 3 * rows(seed, count, dim), 3 * rows(seed + 1, count, dim)
    found = correlation_to_identity(left, right, 0.3)
    assert float(found) == pytest.approx(papers.correlation_to_identity(left.tolist(), right.tolist(), 0.3), rel=1e-3)  # its ε
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    coordinates = torch.randperm(dim, generator=torch.Generator().manual_seed(seed))
    assert_close(correlation_to_identity(left[order], right[order], 0.3), found)
    assert_close(correlation_to_identity(left[:, coordinates], right[:, coordinates], 0.3), found)
    assert_close(correlation_to_identity(left + 4, right - 2, 0.3), found)
    assert_close(
        correlation_to_identity(1000 * left, 1000 * right, 0.3),
        correlation_to_identity(10_000 * left, right * 1000, 0.3),
        rtol=1e-6,
        atol=0,
    )


def test_correlation_of_whitened_rows_is_the_identity():
    whitened = torch.linalg.qr(rows(0, 50, 5) - rows(0, 50, 5).mean(0))[0] * 50**0.5
    assert float(correlation_to_identity(whitened, whitened, 1.0)) < 1e-6


@given(seed=seeds, count=some.integers(3, 8), dim=sizes)
@few
def test_variance_and_covariance_equal_the_paper(seed, count, dim):
    some_rows = rows(seed, count, dim)
    assert float(variance_hinge(some_rows)) == pytest.approx(papers.variance_hinge(some_rows.tolist()), rel=1e-9)
    assert float(covariance_energy(some_rows)) == pytest.approx(papers.covariance_energy(some_rows.tolist()), rel=1e-9)
    assert_close(covariance_energy(some_rows.flip(0) + 5), covariance_energy(some_rows))
    assert_close(variance_hinge(-some_rows + 5), variance_hinge(some_rows))
    assert float(variance_hinge(some_rows * 1000)) < float(variance_hinge(some_rows * 0)) == pytest.approx(0.99)


@given(seed=seeds, count=sizes, clusters=sizes)
@few
def test_mutual_information_equals_the_paper(seed, count, clusters):
    left, right = shares(seed, count, clusters), shares(seed + 1, count, clusters)
    found = mutual_information(left, right)
    assert float(found) == pytest.approx(papers.mutual_information(left.tolist(), right.tolist()), rel=1e-8, abs=1e-12)
    assert_close(mutual_information(right, left), found)
    order = torch.randperm(clusters, generator=torch.Generator().manual_seed(seed))
    assert_close(mutual_information(left[:, order], right[:, order]), found)
    assert -1e-12 <= float(found) <= log(clusters)


def test_mutual_information_of_extremes():
    certain = torch.eye(4, dtype=torch.float64).repeat(5, 1)
    assert float(mutual_information(certain, certain)) == pytest.approx(log(4))
    assert float(mutual_information(torch.full_like(certain, 0.25), certain)) == pytest.approx(0, abs=1e-12)


@given(seed=seeds, count=sizes, negatives=sizes)
@few
def test_noise_contrastive_estimation_equals_the_paper(seed, count, negatives):
    own, others, partition = rows(seed, count), rows(seed + 1, count, negatives), rows(seed + 2, 1)[0] + 3
    expected = papers.binary_nce(own.tolist(), others.tolist(), float(partition), 50)
    assert float(binary_nce(own, others, partition, 50)) == pytest.approx(expected, rel=1e-9)
    assert torch.isfinite(binary_nce(own * 1000, others * 1000, partition, 50))


@given(seed=seeds, count=sizes, dim=sizes)
@few
def test_variational_bound_terms_equal_the_paper(seed, count, dim):
    one, other, width = rows(seed, count, dim), rows(seed + 1, count, dim), rows(seed + 2, 1)[0]
    assert float(gaussian_likelihood(one, other, width)) == pytest.approx(
        papers.gaussian_likelihood(one.tolist(), other.tolist(), float(width)), rel=1e-9
    )
    assert float(normal_divergence(one, other)) == pytest.approx(papers.normal_divergence(one.tolist(), other.tolist()), rel=1e-9)
    drawn = torch.distributions.kl_divergence(
        torch.distributions.Normal(one, (other / 2).exp()), torch.distributions.Normal(torch.zeros_like(one), torch.ones_like(one))
    )
    assert_close(normal_divergence(one, other), drawn.sum(1).mean())


@given(seed=seeds, masked=some.integers(0, 4))
@few
def test_masked_cross_entropy_equals_the_paper(seed, masked):
    logits, target, mask = rows(seed, 12, 5), shares(seed + 1, 12, 5), hidden(seed, 3, 4, masked)
    mask[0] = False
    found = masked_cross_entropy(logits, target, mask)
    assert float(found) == pytest.approx(papers.masked_cross_entropy(logits.tolist(), target.tolist(), mask.tolist()), rel=1e-9)
    assert_close(masked_cross_entropy(torch.where(mask.flatten()[:, None], logits, 9.0), target, mask), found)


@given(seed=seeds, count=sizes, dim=sizes)
@few
def test_counting_equals_the_paper(seed, count, dim):
    parts, whole, other = rows(seed, count, dim), rows(seed + 1, count, dim), rows(seed + 2, count, dim)
    expected = papers.counting(parts.tolist(), whole.tolist(), other.tolist(), 3.0)
    assert float(counting(parts, whole, other, 3.0)) == pytest.approx(expected, rel=1e-9)
    assert float(counting(parts, parts, parts + 10, 3.0)) == 0


@given(seed=seeds, count=sizes, dim=sizes)
@few
def test_supervised_contrastive_loss_equals_the_paper(seed, count, dim):
    views = rows(seed, 2 * count, dim)
    labels = torch.arange(count).remainder(3).repeat(2)
    found = supervised_contrastive(views, labels, 0.3)
    assert float(found) == pytest.approx(papers.supervised_contrastive(views.tolist(), labels.tolist(), 0.3), rel=1e-9)
    every = supervised_contrastive(views, torch.arange(count).repeat(2), 0.3)  # a class an image is SimCLR
    assert_close(every, nt_xent(views[:count], views[count:], 0.3))


@given(seed=seeds, count=sizes)
@few
def test_jensen_shannon_bound_equals_the_paper(seed, count):
    scores, alike = rows(seed, count, count), torch.eye(count, dtype=torch.bool)
    found = jensen_shannon_pairs(scores, alike)
    assert float(found) == pytest.approx(papers.jensen_shannon_pairs(scores.tolist(), alike.tolist()), rel=1e-9)
    assert float(jensen_shannon_pairs(0 * scores, alike)) == pytest.approx(2 * log(2))
    assert float(jensen_shannon_pairs(100 * (2.0 * alike - 1), alike)) < 1e-9


@given(seed=seeds, count=sizes, dim=sizes)
@few
def test_koleo_equals_the_paper(seed, count, dim):
    some_rows = rows(seed, count, dim)
    assert float(nearest_spread(some_rows)) == pytest.approx(papers.nearest_spread(some_rows.tolist()), rel=1e-6, abs=1e-9)
    assert float(nearest_spread(torch.ones(4, 3, dtype=torch.float64))) == pytest.approx(-log(1e-8))


@given(seed=seeds, count=sizes, dim=sizes)
@few
def test_sigreg_equals_the_paper(seed, count, dim):
    some_rows, along = rows(seed, count, dim), normalize(rows(seed + 1, 3, dim))
    assert float(gaussianity(some_rows, along)) == pytest.approx(papers.gaussianity(some_rows.tolist(), along.tolist()), rel=1e-9)


def test_sigreg_is_lowest_for_normal_rows():
    along = normalize(rows(1, 64, 8))
    normal = float(gaussianity(rows(0, 2000, 8), along))
    assert normal < 2  # a statistic of the order of one, whatever the number of rows
    wrong = [rows(0, 2000, 8) * 2, rows(0, 2000, 8) + 0.5, torch.zeros(2000, 8).double(), rows(0, 2000, 1).expand(-1, 8)]
    assert min(float(gaussianity(each, along)) for each in wrong) > 20 * normal


@pytest.mark.parametrize("shift", [2.0, 10.05, 20.1])
def test_sigreg_sees_large_shifts(shift):
    normal = torch.special.ndtri((torch.arange(4000, dtype=torch.float64) + 0.5) / 4000)
    found = float(gaussianity((normal + shift)[:, None], torch.ones(1, 1)))
    overlap = 2 * (2 * pi / 3) ** 0.5  # 2 ∫ exp(-3t²/2) (1 - cos(shift t)) dt
    assert found == pytest.approx(4000 * overlap * (1 - exp(-(shift**2) / 6)), rel=0.005)


def test_sigreg_uses_the_released_grid():
    """Of two points at ±a the characteristic function is cos(at); weights dt at the ends and 2 dt between, dt = 3/16, on t from 0 to 3."""
    terms = [
        (cos(1.5 * t) - exp(-(t**2) / 2)) ** 2 * exp(-(t**2) / 2) * (1 if t in {0, 3} else 2) * 3 / 16
        for t in (3 * k / 16 for k in range(17))
    ]
    assert float(gaussianity(torch.tensor([[1.5], [-1.5]]).double(), torch.ones(1, 1))) == pytest.approx(2 * sum(terms), rel=1e-12)


@given(seed=seeds, count=sizes, dim=sizes)
@few
def test_gradient_penalty_equals_the_paper(seed, count, dim):
    gradient = rows(seed, count, dim)
    assert float(gradient_penalty(gradient)) == pytest.approx(papers.gradient_penalty(gradient.tolist()), rel=1e-9)
    assert float(gradient_penalty(normalize(gradient))) < 1e-20
    real, fake = rows(seed + 1, count), rows(seed + 2, count)
    assert float(wasserstein_distance(real, fake)) == pytest.approx(papers.mean(real.tolist()) - papers.mean(fake.tolist()))


@given(seed=seeds, count=sizes)
@few
def test_weighted_squared_error_equals_the_paper(seed, count):
    guess, target, weight = rows(seed, count, 1, 2, 3), rows(seed + 1, count, 1, 2, 3), rows(seed + 2, count, 1, 2, 3).exp()
    flat = [part.flatten(1).tolist() for part in (guess, target, weight)]
    assert float(weighted_mse(guess, target, weight)) == pytest.approx(papers.weighted_mse(*flat), rel=1e-9)
    assert_close(weighted_mse(guess, target, 5 * weight), weighted_mse(guess, target, weight))


@given(seed=seeds, count=sizes, dim=sizes)
@few
def test_contrast_without_unit_length_is_a_softmax_of_products(seed, count, dim):
    query, key = rows(seed, count, dim), rows(seed + 1, count, dim)
    expected = papers.mean(
        [
            log(sum(exp(papers.dot(q, k) / 2) for k in key.tolist())) - papers.dot(q, key[i].tolist()) / 2
            for i, q in enumerate(query.tolist())
        ]
    )
    assert float(info_nce(query, key, 2.0, unit=False)) == pytest.approx(expected, rel=1e-9)


@given(seed=seeds, count=sizes, clusters=sizes)
@few
def test_scan_loss_equals_the_paper(seed, count, clusters):
    one, other = shares(seed, count, clusters), shares(seed + 1, count, clusters)
    assert float(neighbour_consistency(one, other, 5.0)) == pytest.approx(
        papers.neighbour_consistency(one.tolist(), other.tolist(), 5.0), rel=1e-9
    )
    certain = torch.eye(clusters, dtype=torch.float64).repeat(3, 1)
    assert float(neighbour_consistency(certain, certain, 5.0)) == pytest.approx(-5 * log(clusters))


@given(seed=seeds, count=sizes, bins=some.integers(3, 9))
@few
def test_colour_targets_equal_the_paper(seed, count, bins):
    values, middles = rows(seed, count, 2), rows(seed + 1, bins, 2)
    found = soft_bins(values, middles, nearest=3, sigma=0.7)
    assert_close(found, torch.tensor(papers.soft_bins(values.tolist(), middles.tolist(), 3, 0.7), dtype=torch.float64))
    rare = shares(seed + 2, 1, bins)[0]
    assert_close(rebalancing(rare, 0.3), torch.tensor(papers.rebalancing(rare.tolist(), 0.3), dtype=torch.float64))
    assert float((rare * rebalancing(rare)).sum()) == pytest.approx(1)


def test_mean_absolute_error_is_a_mean():
    guess = rows(0, 3, 2, 4)
    assert float(mean_absolute_error(guess, guess - 2)) == pytest.approx(2)


@given(seed=seeds, count=sizes, dim=sizes, more=sizes)
@few
def test_instance_discrimination_equals_the_paper(seed, count, dim, more):
    some_rows, bank = rows(seed, count, dim), normalize(rows(seed + 1, count + more, dim))
    index = torch.randperm(count + more, generator=torch.Generator().manual_seed(seed))[:count]
    found = instance_discrimination(some_rows, bank, index, 0.2)
    assert float(found) == pytest.approx(papers.instance_discrimination(some_rows.tolist(), bank.tolist(), index.tolist(), 0.2), rel=1e-9)
    one = index[:1]
    others = torch.cat([bank[: int(one)], bank[int(one) + 1 :]])  # all but its own: drawn and whole are then the same
    assert_close(instance_discrimination(some_rows[:1], bank, one, 0.2, others), instance_discrimination(some_rows[:1], bank, one, 0.2))


def test_views_are_compared_with_other_views_only():
    views = [rows(seed, 5, 3) for seed in range(4)]  # the first two have targets
    pairs = [(1, 0), (2, 0), (3, 0), (0, 1), (2, 1), (3, 1)]
    expected = papers.mean([papers.cosine_distance(views[guess].tolist(), views[target].tolist()) for guess, target in pairs])
    assert float(across_views(cosine_distance, views, views[:2])) == pytest.approx(expected, rel=1e-9)
    assert float(across_pairs(cosine_distance, views, 2)) == pytest.approx(expected, rel=1e-9)


def test_mean_squared_error_is_a_mean():
    guess = rows(0, 3, 2, 4)
    assert float(mean_squared_error(guess, guess + 2)) == pytest.approx(4)


@given(seed=seeds)
@few
def test_patches_are_in_raster_order(seed):
    images = rows(seed, 2, 3, 4, 6)
    found = patches(images, 2)
    for image, cut in zip(images, found, strict=True):
        assert cut.tolist() == papers.patches(image.tolist(), 2)
    for patch, ours in zip(found[0].tolist(), standard_patches(found)[0].tolist(), strict=True):
        assert ours == pytest.approx(papers.standard(patch), rel=1e-9)


@given(seed=seeds, masked=some.integers(1, 5))
@few
def test_masked_error_averages_over_masked_patches(seed, masked):
    guess, target, mask = rows(seed, 3, 5, 4), rows(seed + 1, 3, 5, 4), hidden(seed, 3, 5, masked)
    found = masked_mse(guess, target, mask)
    assert float(found) == pytest.approx(papers.masked_error(guess.tolist(), target.tolist(), mask.tolist(), 2), rel=1e-9)
    absolute = papers.masked_error(guess.tolist(), target.tolist(), mask.tolist(), 1)
    assert float(masked_mae(guess, target, mask)) == pytest.approx(absolute, rel=1e-9)
    seen = torch.where(mask[..., None], guess, guess + 100)
    assert_close(masked_mse(seen, target, mask), found)
    assert float(masked_mse(target, target, mask)) == 0


@pytest.mark.parametrize("loss", [masked_mse, masked_mae])
def test_images_without_a_masked_patch_are_left_out(loss):
    guess, target, mask = rows(0, 3, 5, 4).requires_grad_(), rows(1, 3, 5, 4), hidden(0, 3, 5, 2)
    mask[1] = False
    found = loss(guess, target, mask)
    assert_close(found, loss(guess[::2], target[::2], mask[::2]))
    found.backward()
    assert torch.isfinite(guess.grad).all()
    assert not guess.grad[1].any()
    nothing = loss(guess, target, torch.zeros_like(mask))
    assert float(nothing.detach()) == 0
    assert not torch.autograd.grad(nothing, guess)[0].any()


def test_images_without_weight_are_left_out():
    guess, target, weight = rows(0, 3, 2, 4, 4).requires_grad_(), rows(1, 3, 2, 4, 4), rows(2, 3, 1, 4, 4).exp()
    weight[1] = 0
    found = weighted_mse(guess, target, weight)
    assert_close(found, weighted_mse(guess[::2], target[::2], weight[::2]))
    found.backward()
    assert torch.isfinite(guess.grad).all()
    assert not guess.grad[1].any()
    assert float(weighted_mse(guess.detach(), target, 0 * weight)) == 0


@given(seed=seeds, count=some.integers(3, 8), dim=sizes)
@few
def test_spread_equals_the_paper(seed, count, dim):
    some_rows = rows(seed, count, dim)
    assert float(embedding_spread(some_rows)) == pytest.approx(papers.embedding_spread(some_rows.tolist()), rel=1e-9)
    assert float(uniformity(some_rows)) == pytest.approx(papers.uniformity(some_rows.tolist(), 2.0), rel=1e-9)
    rotation = turn(seed + 1, dim)
    assert_close(uniformity(some_rows.flip(0) @ rotation), uniformity(some_rows))
    assert_close(effective_rank(some_rows.flip(0) @ rotation * 3 + 1), effective_rank(some_rows))


def test_zero_rows_are_a_collapse():
    zero, normal = torch.zeros(50, 8, dtype=torch.float64), rows(0, 50, 8)
    assert float(uniformity(zero)) == pytest.approx(0)
    assert float(nearest_spread(zero)) == pytest.approx(-log(1e-8))
    assert float(embedding_spread(zero)) == 0
    assert float(effective_rank(zero)) == pytest.approx(1)
    half = torch.cat([torch.zeros(25, 8, dtype=torch.float64), normal[25:]])
    assert float(uniformity(half)) > float(uniformity(normal)) + 1
    assert float(nearest_spread(half)) > float(nearest_spread(normal)) + 5
    for loss in (uniformity, nearest_spread):
        assert torch.isfinite(torch.autograd.functional.jacobian(loss, zero)).all()


def test_spread_of_extremes():
    many = rows(0, 4000, 16)
    assert float(embedding_spread(many)) == pytest.approx(1, abs=0.02)
    assert float(embedding_spread(many[:1].expand(10, -1))) == pytest.approx(0, abs=1e-9)
    assert float(effective_rank(many)) == pytest.approx(16, rel=0.01)
    assert float(effective_rank(many[:, :1] @ many[:1])) == pytest.approx(1, abs=1e-6)
    assert float(effective_rank(many[:1].expand(10, -1))) == pytest.approx(1, abs=0.2)
    wide = torch.linalg.qr(rows(1, 12, 5))[0] - torch.linalg.qr(rows(1, 12, 5))[0].mean(0)
    values = torch.linalg.svdvals(wide)
    share = values / values.sum()
    assert float(effective_rank(wide)) == pytest.approx(float((-(share * share.log()).sum()).exp()))
    assert float(uniformity(torch.ones(5, 3, dtype=torch.float64))) == pytest.approx(0)
    opposite = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    assert float(uniformity(opposite)) == pytest.approx(-8)
    assert float(alignment(opposite, -opposite)) == pytest.approx(4)


@given(seed=seeds, count=sizes)
@few
def test_adversarial_losses_equal_the_papers(seed, count):
    real, fake = 3 * rows(seed, count), 3 * rows(seed + 1, count)
    assert float(discriminator_loss(real, fake)) == pytest.approx(papers.discriminator_loss(real.tolist(), fake.tolist()), rel=1e-9)
    assert float(generator_loss(fake)) == pytest.approx(papers.generator_loss(fake.tolist()), rel=1e-9)
    assert_close(discriminator_loss(real, fake), discriminator_loss(-fake, -real))


def test_critic_accuracy_is_half_at_chance():
    real, fake = torch.tensor([2.0, -1.0, 3.0, 4.0], requires_grad=True), torch.tensor([-1.0, 5.0, -2.0, 1.0])
    assert float(discriminator_accuracy(real, fake)) == (3 / 4 + 1 / 2) / 2
    assert not discriminator_accuracy(real, fake).requires_grad
    assert float(discriminator_accuracy(-real, real)) == pytest.approx(1 / 4)


def test_adversarial_losses_are_finite_for_a_confident_critic():
    sure = torch.tensor([1000.0, -1000.0])
    assert torch.isfinite(discriminator_loss(sure, sure))
    assert torch.isfinite(generator_loss(sure))


SMOOTH: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    **{name: ours for name, (ours, _) in PAIRS.items()},
    "info_nce with a dictionary": lambda a, b: info_nce(a, b, 0.3, negatives=normalize(rows(9, 3, 4))),
    "soft_cross_entropy": lambda a, b: soft_cross_entropy(a, softmax(b, 1)),
    "correlation_to_identity": lambda a, b: correlation_to_identity(a, b, 0.3),
    "uniformity": lambda a, b: uniformity(a + b),
    "covariance_energy": lambda a, b: covariance_energy(a + b),
    "variance_hinge": lambda a, b: variance_hinge(a + b, 3.0),
    "mean_squared_error": mean_squared_error,
    "mutual_information": lambda a, b: mutual_information(softmax(a, 1), softmax(b, 1)),
    "binary_nce": lambda a, b: binary_nce(a[:, 0], b, a.sum(), 20),
    "discriminator_loss": discriminator_loss,
    "generator_loss": lambda a, b: generator_loss(a * b),
    "gaussian_likelihood": lambda a, b: gaussian_likelihood(a, b, b.mean()),
    "normal_divergence": normal_divergence,
    "counting": lambda a, b: counting(a, b, a * b, 3.0),
    "masked_cross_entropy": lambda a, b: masked_cross_entropy(a, softmax(b, 1), hidden(0, 2, 3, 2)),
    "masked_mae": lambda a, b: masked_mae(a.view(2, 3, 4), b.view(2, 3, 4), hidden(0, 2, 3, 2)),
    "masked_mse": lambda a, b: masked_mse(a.view(2, 3, 4), standard_patches(b.view(2, 3, 4)), hidden(0, 2, 3, 2)),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_gradient_equals_finite_differences(name):
    left, right = rows(1, 6, 4).requires_grad_(), rows(2, 6, 4).requires_grad_()
    assert torch.autograd.gradcheck(SMOOTH[name], (left, right))


@pytest.mark.parametrize("name", SMOOTH)
def test_loss_is_single_precision_under_autocast(name):
    left, right = rows(1, 6, 4).float(), rows(2, 6, 4).float()
    exact = SMOOTH[name](left, right)
    with torch.autocast("cpu", torch.bfloat16):
        cast = SMOOTH[name](left, right)
        halves = SMOOTH[name](left.bfloat16(), right.bfloat16())
    assert cast.dtype == halves.dtype == torch.float32
    assert_close(cast, exact, rtol=1e-6, atol=1e-7)
    assert_close(halves, exact, rtol=0.1, atol=0.1)


def test_every_objective_is_tested_here():
    here = Path(__file__).parent
    tested = "".join(path.read_text() for path in here.glob("test_*.py"))
    for module in iter_modules(selfsight.objectives.__path__):
        for name in import_module(f"selfsight.objectives.{module.name}").__all__:
            assert len(re.findall(rf"\b{name}\b", tested)) > 1 or module.name == "precision", f"{module.name}.{name} is not tested"
