"""Centred kernel alignment: known values, a reference implementation, and invariances."""

from itertools import combinations

import numpy as np
import pytest
import torch

from selfsight.core.errors import DataError, UsageError
from selfsight.measure.analysis.similarity import _hsic, _traces, cka, similarity_of_batches, similarity_table


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def slow_hsic(left: np.ndarray, right: np.ndarray) -> float:
    """Song et al. 2012, eq. 4: the mean over ordered quadruples of different samples."""
    grams = [rows @ rows.T for rows in (left, right)]
    count = len(left)
    found = []
    for i in range(count):
        for j in range(count):
            for q in range(count):
                for r in range(count):
                    if len({i, j, q, r}) == 4:
                        found.append(grams[0][i, j] * (grams[1][i, j] + grams[1][q, r] - 2 * grams[1][i, q]))
    return float(np.mean(found))


def test_unbiased_estimate_equals_the_mean_over_quadruples():
    left, right = noise(0, 7, 3), noise(1, 7, 2) + noise(0, 7, 3)[:, :2]
    found = _hsic([torch.from_numpy(rows) for rows in (left, right)], unbiased=True)
    assert float(found[0, 1]) == pytest.approx(slow_hsic(left, right), rel=1e-10)
    assert float(found[0, 0]) == pytest.approx(slow_hsic(left, left), rel=1e-10)
    expected = slow_hsic(left, right) / np.sqrt(slow_hsic(left, left) * slow_hsic(right, right))
    assert cka(left, right) == pytest.approx(expected, rel=1e-10)


def test_four_samples_with_a_known_value():
    left, right = np.array([[1.0], [1.0], [-1.0], [-1.0]]), np.array([[1.0], [-1.0], [1.0], [-1.0]])
    # K~ is 1 for two pairs and -1 for four: tr(K~K~) = 12, K~1 = -1 each, 1ᵀK~1 = -4: (12 + 16/6 - 8/2) / 4 = 8/3
    # two of the six pairs have the same sign in both: tr(K~L~) = 2 (2 - 4) = -4, and (-4 + 16/6 - 8/2) / 4 = -4/3
    assert cka(left, left) == pytest.approx(1)
    assert cka(left, right) == pytest.approx(-0.5)
    assert cka(left, right, unbiased=False) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("count", "dim", "biased"), [(64, 512, 0.89), (256, 512, 0.67), (1024, 2048, 0.67), (5000, 512, 0.09)])
def test_only_the_biased_estimate_is_high_for_noise(count, dim, biased):
    left, right = noise(0, count, dim), noise(1, count, dim)
    assert cka(left, right, unbiased=False) == pytest.approx(biased, abs=0.01)
    assert abs(cka(left, right)) <= 0.02


def test_cka_is_invariant_to_rotation_scale_and_shift():
    left = noise(0, 50, 6)
    right = left[:, :3] @ noise(1, 3, 4) + 0.5 * noise(2, 50, 4)
    turned = left @ np.linalg.qr(noise(3, 6, 6))[0] * 7 + 100
    for unbiased in (True, False):
        assert cka(turned, right, unbiased=unbiased) == pytest.approx(cka(left, right, unbiased=unbiased), rel=1e-9)
        assert cka(left, turned, unbiased=unbiased) == pytest.approx(1, rel=1e-9)
        assert cka(right, left, unbiased=unbiased) == pytest.approx(cka(left, right, unbiased=unbiased))
    order = np.random.default_rng(4).permutation(50)
    assert cka(left[order], right[order]) == pytest.approx(cka(left, right))
    assert abs(cka(left[order], right)) < 0.2


def test_feature_products_and_gram_matrices_give_the_same_cka():
    wide = [torch.from_numpy(noise(seed, 10, dim)) for seed, dim in enumerate((40, 60))]
    long = [torch.from_numpy(noise(seed, 60, dim)) for seed, dim in enumerate((3, 5))]
    for features in (wide, long):
        slow = [[float((left.T @ right).square().sum()) for right in features] for left in features]
        np.testing.assert_allclose(_traces(features).numpy(), slow, rtol=1e-10)
    assert cka(wide[0].numpy(), wide[1].numpy(), unbiased=False) == pytest.approx(
        float((_centred(wide[0]).T @ _centred(wide[1])).norm() ** 2)
        / float((_centred(wide[0]).T @ _centred(wide[0])).norm() * (_centred(wide[1]).T @ _centred(wide[1])).norm())
    )


def _centred(rows: torch.Tensor) -> torch.Tensor:
    return rows - rows.mean(0)


def test_sums_over_batches_equal_the_full_value():
    left = noise(0, 8, 3)
    right = left + noise(1, 8, 3)
    every = [[left[list(rows)], right[list(rows)]] for rows in combinations(range(8), 5)]
    np.testing.assert_allclose(similarity_of_batches(every), similarity_table([left, right]), rtol=1e-9)
    assert cka(left, right, batch=8) == pytest.approx(cka(left, right))  # one batch is all


def test_batched_cka_is_close_to_the_full_one():
    left = noise(0, 2000, 20)
    right = left @ noise(1, 20, 30) + 3 * noise(2, 2000, 30)
    whole = cka(left, right)
    assert cka(left, right, batch=50) == pytest.approx(whole, abs=0.02)
    assert cka(left, right, batch=50, unbiased=False) > whole + 0.08
    small = [cka(left[start : start + 5], right[start : start + 5], batch=None) for start in range(0, 2000, 5)]
    assert abs(cka(left, right, batch=5) - whole) < abs(np.mean(small) - whole)  # a mean of ratios is not a ratio of means


def test_table_contains_every_pair():
    features = [noise(0, 30, 4), noise(1, 30, 5), noise(0, 30, 4) * 3]
    table = similarity_table(features)
    assert table.shape == (3, 3)
    np.testing.assert_allclose(table.diagonal(), 1)
    np.testing.assert_allclose(table, table.T)
    assert table[0, 2] == pytest.approx(1)
    assert table[0, 1] == pytest.approx(cka(features[0], features[1]))
    half = [rows.astype(np.float16) for rows in features]
    np.testing.assert_allclose(similarity_table(half), table, atol=1e-3)


def test_constant_features_have_no_similarity():
    assert cka(np.ones((9, 3)), noise(0, 9, 2)) == 0
    assert cka(np.ones((9, 3)), np.ones((9, 3))) == 0


def test_invalid_comparisons_are_rejected():
    with pytest.raises(UsageError, match="3 and 5 samples"):
        similarity_table([noise(0, 5, 2), noise(0, 3, 2)])
    with pytest.raises(DataError, match="3 samples are too few"):
        cka(noise(0, 3, 2), noise(1, 3, 2))
    with pytest.raises(DataError, match="no samples"):
        similarity_of_batches([])
