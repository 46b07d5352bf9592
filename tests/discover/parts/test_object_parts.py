"""Planted parts, and scores with known values."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import selfsight
from selfsight.backbones.loading import load_representation
from selfsight.core.errors import UsageError
from selfsight.data.opening import open_source
from selfsight.discover.dense.features import FeatureBatch, FeatureSpec
from selfsight.discover.parts.contrast import learn_parts
from selfsight.discover.parts.parts import co_segmentation, find_parts
from selfsight.measure.metrics.parts import part_map, score_parts

PHI = load_representation("untrained:resnet_tiny?width=8", size=32)


def _looked(count: int = 6) -> tuple[list[FeatureBatch], np.ndarray]:
    """Images of an object with two parts on varying backgrounds; their features, and ground truth."""
    generator = torch.Generator().manual_seed(0)
    found, truth = [], np.zeros((count, 12, 12), dtype=np.int64)
    features = torch.zeros(count, 8, 12, 12)
    features[:, 4:] = torch.randn(count, 4, 1, 1, generator=generator)
    for row in range(count):
        top, left = 1 + row % 4, 1 + row % 3
        truth[row, top : top + 6, left : left + 4], truth[row, top : top + 6, left + 4 : left + 8] = 1, 2
        for part in (1, 2):
            features[row][:, truth[row] == part] = torch.eye(8)[part, :, None] + 0.0
    features += 0.05 * torch.randn(features.shape, generator=generator)
    feature_batch = FeatureBatch(
        PHI, torch.from_numpy(truth)[:, None].repeat_interleave(8, 2).repeat_interleave(8, 3).expand(-1, 3, -1, -1) / 2.0
    )
    feature_batch.__dict__["features"] = features
    found.append(feature_batch)
    return found, truth


def test_shared_objects_are_separated_from_backgrounds(monkeypatch):
    batches, truth = _looked()
    salience = torch.from_numpy(truth > 0).flatten(1).float() - 0.5
    salience[0] *= -1  # of one picture it is wrong, and outvoted
    monkeypatch.setattr("selfsight.discover.parts.parts._salience", lambda _: salience)
    ground = co_segmentation(lambda: iter(batches))
    assert (ground(batches[0]).numpy() == (truth > 0)).all()


def test_contrastive_training_finds_planted_parts(monkeypatch):
    batches, truth = _looked()
    told = torch.from_numpy(truth)
    monkeypatch.setattr(
        "selfsight.discover.parts.contrast._transformed_features", lambda feature_batch, turns: _turned(feature_batch.features, turns)
    )
    wrong = told.clamp(min=1).clone()
    wrong[:, ::3] = 3 - wrong[:, ::3]  # a third of what it begins with is wrong
    head = learn_parts(lambda: iter(batches), lambda _: told > 0, lambda _: wrong, 2, steps=60)
    features = torch.nn.functional.normalize(batches[0].features, dim=1).movedim(1, -1)
    found = head(features).argmax(-1) + 1
    assert float((found == told)[told > 0].float().mean()) > 0.99


def _turned(features, turns):
    grid = torch.nn.functional.affine_grid(turns, list(features.shape), align_corners=False)
    return torch.nn.functional.grid_sample(features, grid, align_corners=False)


@pytest.mark.parametrize("method", ["shared", "contrast", "colour"])
def test_every_part_finder_is_deterministic(method):
    source = open_source("world:shapes?count=5&size=32", size=32)
    options = {"steps": 5} if method == "contrast" else {}
    look = FeatureSpec(32, "stages.1")
    one, other = (find_parts(PHI, source, method, parts=3, feature_spec=look, foreground="border", **options) for _ in range(2))
    assert all((left == right).all() for left, right in zip(one.maps, other.maps, strict=True))
    assert one.word == "parts"
    assert {int(found.max()) for found in one.maps} <= {0, 1, 2, 3}
    assert any(len(np.unique(found)) > 2 for found in one.maps)


def test_one_part_is_the_object_and_refinement_works(tmp_path):
    source = open_source("world:shapes?count=4&size=32", size=32)
    look = FeatureSpec(32, "stages.1")
    alone = find_parts(PHI, source, parts=1, feature_spec=look, foreground="border")
    finer = find_parts(PHI, source, parts=1, feature_spec=look, foreground="border", refine=True)
    assert {int(found.max()) for found in alone.maps} == {1}
    assert finer.maps[0].shape == (32, 32)
    finer.save(tmp_path)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "parts" / "0.png")) > 0, finer.at(0, (32, 32)) > 0)
    assert json.loads((tmp_path / "parts.json").read_text())["info"]["within"] == "border"
    with pytest.raises(UsageError, match="too few for 999999"):
        find_parts(PHI, source, parts=999_999, feature_spec=look, foreground="border")


def test_true_parts_depend_on_the_class_and_are_scored_on_objects():
    boxes = np.array([[0, 0, 1, 1, 3], [0, 0, 1, 1, 0]], dtype=np.float32)
    assert part_map(np.array([[0, 1, 2], [3, 4, 0]]), boxes).tolist() == [[0, 7, 8], [1, 2, 0]]
    source = selfsight.open("world:shapes?count=30&size=32")
    truth = source.truth(np.arange(30))
    known = [part_map(parts, boxes) for parts, boxes in zip(truth.parts, truth.boxes, strict=True)]
    turned = np.concatenate([[0], 1 + np.random.default_rng(0).permutation(20)])
    sizes = [(32, 32)] * 30
    right = score_parts(lambda row, _: turned[known[row]], source, 20, sizes)
    assert {name: score.value for name, score in right.items()} == pytest.approx({"nmi": 1.0, "ari": 1.0})
    outside = score_parts(lambda row, _: np.where(known[row] > 0, known[row], 5), source, 20, sizes)
    assert outside["ari"].value == pytest.approx(1.0)  # what is painted outside of things does not count
    blind = score_parts(lambda row, _: np.ones((32, 32), dtype=np.int64), source, 20, sizes)
    assert blind["nmi"].value == pytest.approx(0.0, abs=1e-9)
    assert score_parts(lambda row, _: np.ones((8, 8)), selfsight.open("photo:astronaut?count=2"), 3, [(8, 8)] * 2) is None
