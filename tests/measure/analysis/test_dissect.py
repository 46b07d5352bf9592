"""A planted unit, and concepts with known values."""

import numpy as np
import pytest
import torch
from torch import nn

from selfsight.backbones.image.vit import vit_nano
from selfsight.core.errors import DataError
from selfsight.core.representation import Backbone, Features, Representation
from selfsight.data.opening import open_source
from selfsight.data.readers.memory import ArraySource
from selfsight.data.source import VOID, Truth
from selfsight.measure.analysis.dissect import Concepts, dissect, random_rotation, region_concepts, scene_concepts, segment_concepts

SIZE, COUNT = 16, 24


class Channels(Backbone):
    """The channels of the image as units."""

    def __init__(self) -> None:
        super().__init__()
        self.dim, self.stride, self.channels, self.layers = 3, 1, 3, ("same",)
        self.same = nn.Identity()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images):
        grid = self.same(images) * self.scale
        return Features(grid.mean((2, 3)), grid)


def phi() -> Representation:
    return Representation(Channels(), mean=(0.0,) * 3, std=(1.0,) * 3, size=SIZE)


def planted() -> ArraySource:
    """Red is active exactly on the object of every third image; green is noise, blue is never active."""
    rng = np.random.default_rng(0)
    pictures = np.zeros((COUNT, 3, SIZE, SIZE), np.uint8)
    pictures[:, 1] = rng.integers(0, 255, (COUNT, SIZE, SIZE))
    masks = np.zeros((COUNT, SIZE, SIZE), np.uint8)
    for row in range(COUNT):
        masks[row, 2:6, row % 8 : row % 8 + 4] = 1
        if row % 3 == 0:
            pictures[row, 0] = 255 * masks[row] - np.minimum(rng.integers(0, 9, masks[row].shape), 255 * masks[row])
    truth = Truth(labels=np.arange(COUNT) % 3, classes=("cat", "dog", "hen"), masks=list(masks))
    return ArraySource(pictures, truth)


def test_a_planted_unit_has_an_iou_of_one():
    source = planted()
    share = COUNT // 3 * 16 / (COUNT * SIZE * SIZE)
    found = dissect(phi(), source, segment_concepts(source.truth(np.arange(COUNT))), quantile=share, batch=5)
    assert found.ious[0].tolist() == [1, 0, 0]
    assert found.detectors()[0] == ("cat", 1.0)
    assert 2 not in found.detectors()  # which is never on
    assert found.unique()["object"] >= 1
    assert all(row % 3 == 0 for row in found.top[0][: COUNT // 3])
    assert "thresholds" in found.protocol


def test_the_threshold_is_the_requested_quantile():
    source = planted()
    found = dissect(phi(), source, segment_concepts(source.truth(np.arange(COUNT))), quantile=0.01)
    green = source.images[:, 1] / 255
    assert (green > found.thresholds[1] + 1e-6).mean() <= 0.01 <= (green >= found.thresholds[1] - 1e-6).mean()


def test_the_union_counts_images_of_the_category_only():
    """A unit that is active everywhere: the union of a concept contains only images that show its category."""
    pictures = np.full((2, 3, SIZE, SIZE), 255, np.uint8)
    masks = np.zeros((2, 1, SIZE, SIZE), dtype=bool)
    masks[0, 0, :4] = True
    lone = Concepts(("strip",), ("stripes",), lambda row: masks[row])
    half = np.zeros((2, 1, SIZE, SIZE), dtype=bool)
    half[:, 0, :8] = True
    both = lone + Concepts(("half",), ("halves",), lambda row: half[row])
    pictures[0, 0, -1, -1] = pictures[1, 0, -1, -1] = 0  # so that some value lies below
    found = dissect(phi(), ArraySource(pictures), both, quantile=(2 * SIZE * SIZE - 2) / (2 * SIZE * SIZE))
    np.testing.assert_allclose(found.ious[0], [4 * SIZE / (SIZE * SIZE - 1), 2 * 8 * SIZE / (2 * SIZE * SIZE - 2)])


def test_concepts_of_boxes_and_of_values():
    mask = np.array([[0, 1, 2], [0, 1, 0]])
    boxes = [np.array([[1, 0, 2, 2, 1], [2, 0, 3, 1, 0]], dtype=np.float32)]
    truth = Truth(classes=("a", "b"), masks=[mask], boxes=boxes)
    assert segment_concepts(truth).masks(0).astype(int).tolist() == [(mask == 2).astype(int).tolist(), (mask == 1).astype(int).tolist()]
    grounds = region_concepts(truth, "ground", ["sand"], background=True)
    assert grounds.masks(0)[0].tolist() == (mask == 0).tolist()
    with pytest.raises(DataError, match="no masks"):
        region_concepts(Truth(), "x", [])
    numbered = segment_concepts(Truth(masks=[np.array([[0, 3, VOID], [0, 7, 3]])], classes=("a", "b", "c")))
    assert numbered.names == ("c", "object 7")
    assert numbered.masks(0).astype(int).tolist() == [[[0, 1, 0], [0, 0, 1]], [[0, 0, 0], [0, 1, 0]]]
    left_out = np.array([[0, VOID, 1]])
    assert region_concepts(Truth(masks=[left_out]), "x", ["y"]).masks(0)[0].tolist() == [[False, False, True]]
    assert segment_concepts(Truth(masks=[left_out], labels=np.array([0]), classes=("a",))).masks(0)[0].tolist() == [[False, False, True]]


def test_random_directions_are_orthogonal_and_seeded():
    turn = random_rotation(12, 3)
    torch.testing.assert_close(turn @ turn.T, torch.eye(12), atol=1e-5, rtol=0)
    assert torch.equal(turn, random_rotation(12, 3))
    assert not torch.equal(turn, random_rotation(12, 4))
    source = planted()
    concepts = segment_concepts(source.truth(np.arange(COUNT)))
    share = COUNT // 3 * 16 / (COUNT * SIZE * SIZE)
    turned = dissect(phi(), source, concepts, quantile=share, turn=random_rotation(3))
    assert turned.ious.max() < 1
    assert "after a rotation" in turned.protocol
    same = dissect(phi(), source, concepts, quantile=share, turn=torch.eye(3))
    assert same.ious[0].tolist() == [1, 0, 0]


def test_tokens_and_scenes():
    source = open_source("world:shapes?count=12&size=16", size=16)
    concepts = scene_concepts(source.truth(np.arange(12)))
    assert set(concepts.categories) == {"shape", "texture", "ground", "brightness"}
    tokens = Representation(vit_nano(size=16), mean=(0.5,) * 3, std=(0.25,) * 3, size=16)
    found = dissect(tokens, source, concepts, layer=tokens.layers[-1], quantile=0.1)
    assert found.ious.shape == (tokens.backbone.dim, len(concepts.names))
    assert (found.ious >= 0).all()
    assert (found.ious <= 1).all()
