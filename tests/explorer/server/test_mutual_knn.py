"""Comparison of two networks, and projections."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from selfsight.core.errors import MissingExtra, UsageError
from selfsight.explorer.prepare import projection as places
from selfsight.explorer.prepare.projection import available_projections, project
from selfsight.explorer.server.mutual_knn import mutual_knn

DICE = np.random.default_rng(0)


def test_rotated_features_agree_and_random_ones_are_at_chance():
    rows = DICE.normal(size=(300, 16)).astype(np.float32)
    turn = np.linalg.qr(DICE.normal(size=(16, 16)))[0].astype(np.float32)
    same = mutual_knn(rows, 3 * rows @ turn)
    assert same["mean"] == 1.0
    other = mutual_knn(rows, DICE.normal(size=(300, 8)).astype(np.float32))
    assert other["chance"] == pytest.approx(10 / 299, abs=1e-4)
    assert abs(other["mean"] - other["chance"]) < 0.015
    assert other["of"] == 300


def test_images_of_lowest_agreement_come_first():
    """Half of the images have other features in the second network."""
    rows = DICE.normal(size=(200, 16)).astype(np.float32)
    moved = rows.copy()
    moved[:100] = DICE.normal(size=(100, 16))
    found = mutual_knn(rows, moved)
    assert all(one["row"] < 100 for one in found["differ"])
    assert all(one["row"] >= 100 for one in found["agree"])
    one = found["differ"][0]
    unit = rows.copy()
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    alike = unit @ unit[one["row"]]
    alike[one["row"]] = -9
    assert one["left"] == np.argsort(-alike)[:6].tolist()


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_images_are_reported(count):
    rows = np.ones((count, 4), np.float32)
    assert mutual_knn(rows, rows) == {"mean": None, "chance": None, "of": count, "differ": [], "agree": []}


def test_few_images_are_all_neighbours():
    found = mutual_knn(np.eye(4, dtype=np.float32), DICE.normal(size=(4, 3)).astype(np.float32))
    assert (found["mean"], found["chance"]) == (1, 1)
    assert all(sorted([one["row"], *one["left"]]) == [0, 1, 2, 3] for one in found["differ"])


def test_projections_keep_similar_images_close():
    middles = 3 * DICE.normal(size=(4, 12))
    kinds = np.arange(200) % 4
    rows = (middles[kinds] + 0.3 * DICE.normal(size=(200, 12))).astype(np.float32)
    found = project(rows, "pca")
    assert (found.shape, found.dtype, found.tolist()) == ((200, 2), np.float32, project(rows, "pca").tolist())
    apart = ((found[:, None] - found[None]) ** 2).sum(2)
    np.fill_diagonal(apart, np.inf)
    assert (kinds[apart.argmin(1)] == kinds).mean() > 0.95
    assert np.quantile(np.abs(found), 0.99, axis=0) == pytest.approx([1, 1], abs=0.1)
    assert project(np.ones((5, 1), np.float32), "pca").shape == (5, 2)


def test_missing_package_of_a_projection_is_reported(monkeypatch):
    monkeypatch.setattr(places, "find_spec", lambda _: None)
    assert available_projections() == ("pca",)
    with pytest.raises(MissingExtra, match="pacmap"):
        project(np.eye(5, dtype=np.float32), "pacmap")
    with pytest.raises(UsageError, match="no map"):
        project(np.eye(5, dtype=np.float32), "paca")


def test_projections_get_centred_unit_vectors_and_the_seed(monkeypatch):
    seen = {}

    def made(**options):
        seen.update(options)
        return SimpleNamespace(fit_transform=lambda rows, **_: seen.update(rows=rows) or rows[:, :2] * 7 + 100)

    monkeypatch.setattr(places, "find_spec", lambda _: True)
    monkeypatch.setitem(sys.modules, "pacmap", SimpleNamespace(PaCMAP=made))
    found = project(DICE.normal(size=(50, 6)).astype(np.float32) + 9, "pacmap", seed=4)
    assert seen["random_state"] == 4
    assert np.linalg.norm(seen["rows"], axis=1) == pytest.approx(np.ones(50), abs=1e-5)
    assert np.abs(found).max() == pytest.approx(1, abs=0.01)
