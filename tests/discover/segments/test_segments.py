"""Planted semantic segments."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from selfsight.backbones.loading import load_representation
from selfsight.core.errors import UsageError
from selfsight.data.opening import open_source
from selfsight.discover.dense.features import FeatureBatch, FeatureSpec
from selfsight.discover.segments.segment import segment_images
from selfsight.discover.segments.segmenters import spectral
from selfsight.measure.metrics.overlap import score_segments
from selfsight.workflows.discover.run import discover

PHI = load_representation("untrained:resnet_tiny?width=8", size=32)
WORLD = "world:shapes?count=6&size=32"


def _planted() -> FeatureBatch:
    feature_batch = FeatureBatch(PHI, torch.zeros(1, 3, 96, 96), FeatureSpec(vectors=2))
    features = torch.zeros(1, 4, 12, 12)
    features[:, 0] = 1
    features[0, :, 2:5, 2:6] = torch.tensor([0.1, 1, 0, 0])[:, None, None]
    features[0, :, 7:10, 5:10] = torch.tensor([0.1, 0, 1, 0])[:, None, None]
    feature_batch.__dict__["features"] = features
    return feature_batch


def test_planted_segments_are_found_and_the_border_is_background() -> None:
    (piece,) = spectral(_planted(), segments=3, crops=False)
    assert piece.vectors.shape == (2, 4)
    assert (piece.numbers > 0).sum() == 3 * 4 + 3 * 5
    assert len(np.unique(piece.numbers[2:5, 2:6])) == len(np.unique(piece.numbers[7:10, 5:10])) == 1
    assert piece.numbers[2, 2] != piece.numbers[7, 5]


@pytest.mark.parametrize("method", ["spectral", "object", "patch", "iic", "colour"])
def test_every_segmenter_is_deterministic(method: str) -> None:
    source = open_source(WORLD, size=32)
    look = FeatureSpec(32, vectors=3)
    one, other = (segment_images(PHI, source, method, classes=2, feature_spec=look) for _ in range(2))
    assert len(one.maps) == 6
    assert all((left == right).all() for left, right in zip(one.maps, other.maps, strict=True))
    assert max(int(found.max()) for found in one.maps) <= one.classes
    assert one.at(0, (32, 32)).shape == (32, 32)


def test_maps_are_refined_learnt_and_saved(tmp_path: Path) -> None:
    source = open_source(WORLD, size=32)
    plain = segment_images(PHI, source, "object", classes=2, feature_spec=FeatureSpec(32))
    finer = segment_images(PHI, source, "object", classes=2, feature_spec=FeatureSpec(32), learn=True, refine=True)
    assert finer.maps[0].shape == (32, 32) != plain.maps[0].shape
    finer.save(tmp_path)
    files = sorted((tmp_path / "segments").rglob("*.png"))
    assert len(files) == 6
    assert np.array_equal(np.asarray(Image.open(files[0])), finer.at(0, finer.sizes[0]))
    assert (tmp_path / "segments.json").is_file()


def test_ground_truth_has_a_mean_iou_of_one_and_baselines_are_scored() -> None:
    source = open_source(WORLD, size=32)
    truth = source.truth(np.arange(6))
    assert truth.masks is not None
    assert truth.boxes is not None
    classes = len(truth.classes)
    known = [np.concatenate([[0], boxes[:, 4].astype(int) + 1])[mask] for mask, boxes in zip(truth.masks, truth.boxes, strict=True)]
    turned = np.random.default_rng(0).permutation(classes + 1)  # whatever kinds are called
    score = score_segments(lambda row, _: turned[known[row]], source, classes, [(32, 32)] * 6)
    assert score is not None
    assert score.value == 1.0
    _, scores = discover(PHI, source, "segments", "object", classes=3, feature_spec=FeatureSpec(32))
    assert list(scores["mean IoU"]) == ["object", "untrained", "colour"]


def test_invalid_arguments_are_rejected() -> None:
    source = open_source("world:shapes?count=2&size=32", size=32)
    with pytest.raises(UsageError, match="segmenter"):
        segment_images(PHI, source, "magic", classes=2)
    with pytest.raises(UsageError, match="too few for 9 classes"):
        segment_images(PHI, source, "object", classes=9, feature_spec=FeatureSpec(32))
