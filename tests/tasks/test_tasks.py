"""Fine-tuning of a copy: frozen layers, learning, and positions of boxes."""

import numpy as np
import pytest
import torch
from torch.nn.functional import one_hot

from selfsight.backbones.image.resnet import resnet_tiny
from selfsight.backbones.image.vit import vit_nano
from selfsight.core.errors import DataError, UsageError
from selfsight.core.representation import Representation
from selfsight.data.loader import load_images
from selfsight.data.readers.memory import ArraySource
from selfsight.data.source import VOID, Truth
from selfsight.measure.analysis.inputs import AnalysisInput
from selfsight.measure.metrics.overlap import class_iou, class_map
from selfsight.measure.probes.layers import LabelPair
from selfsight.tasks.classify import finetune, finetune_classifier, labelled_share
from selfsight.tasks.dense_head import Neck, stretched_views
from selfsight.tasks.detect import BoxHead, assign_cells, cell_centres, detect, mirrored
from selfsight.tasks.segment import _counted, pixel_loss, segment
from selfsight.tasks.tuning import TuneConfig, trainable_copy

SIZE = 16


def phi(kind: str = "resnet") -> Representation:
    torch.manual_seed(0)
    backbone = resnet_tiny(size=SIZE, width=8) if kind == "resnet" else vit_nano(size=SIZE, patch=4)
    return Representation(backbone, mean=(0.5,) * 3, std=(0.25,) * 3, size=SIZE)


def rectangles(count: int, seed: int) -> ArraySource:
    """One rectangle per image, red (class 0) or green (class 1), on noise."""
    rng = np.random.default_rng(seed)
    pictures = rng.integers(0, 60, (count, 3, SIZE, SIZE)).astype(np.uint8)
    masks, boxes, labels = np.zeros((count, SIZE, SIZE), np.uint8), [], np.arange(count) % 2
    for row, label in enumerate(labels):
        left, top = rng.integers(0, SIZE - 8, 2)
        wide, tall = rng.integers(5, 9, 2)
        masks[row, top : top + tall, left : left + wide] = 1
        pictures[row, label][masks[row] > 0] = 230
        boxes.append(np.array([[left, top, left + wide, top + tall, label]], np.float32))
    return ArraySource(pictures, Truth(labels=labels, classes=("red", "green"), masks=list(masks), boxes=boxes))


NETWORK, TRAIN, TEST = phi(), rectangles(64, 0), rectangles(40, 1)
ASKED = AnalysisInput(TRAIN, TEST, LabelPair(np.arange(64) % 2, np.arange(40) % 2, ("red", "green")))


def test_frozen_layers_do_not_change():
    before = phi()
    model = finetune_classifier(before, TRAIN, np.arange(64) % 2, 2, start="stages.2", config=TuneConfig(2, 16))
    old, new = before.backbone.state_dict(), model.backbone.state_dict()
    early = [name for name in old if not name.startswith(("stages.2", "stages.3"))]
    assert early
    assert all(torch.equal(old[name], new[name]) for name in early)
    assert not all(torch.equal(old[name], new[name]) for name in old if name.startswith("stages.3"))
    assert torch.equal(old["stages.0.0.conv1.weight"], before.backbone.state_dict()["stages.0.0.conv1.weight"])
    assert not any(weight.requires_grad for weight in trainable_copy(before, None).backbone.parameters())
    with pytest.raises(UsageError, match=r"stages\.9"):
        trainable_copy(before, "stages.9")


def test_classes_are_learnt_without_changing_the_original():
    network = phi()
    kept = {name: value.clone() for name, value in network.backbone.state_dict().items()}
    config = TuneConfig(12, 16, rate=4e-3)
    found = finetune(network, ASKED, config=config)
    assert set(found.values) == {"whole/100% of labels", "whole/10% of labels", "from stages.2/100% of labels"}
    assert found.values["whole/100% of labels"].value > 0.9
    assert all(torch.equal(value, kept[name]) for name, value in network.backbone.state_dict().items())
    assert finetune(network, ASKED, config=config).values == found.values
    with pytest.raises(DataError, match="needs labels"):
        finetune(network, AnalysisInput(TRAIN, TEST))


def test_a_fraction_of_labels_is_stratified():
    labels = np.array([0] * 50 + [1] * 20 + [2] * 3 + [-1] * 7)
    rows = labelled_share(labels, 0.1)
    assert np.bincount(labels[rows]).tolist() == [5, 2, 1]
    assert (rows == labelled_share(labels, 0.1)).all()
    assert (labelled_share(labels, 1.0) == np.arange(73)).all()


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_pixels_are_learnt(kind):
    found = segment(phi(kind), ASKED, config=TuneConfig(40, 16, rate=4e-3)).values
    assert found["mean IoU"].value > 0.6 > 0.4 > found["mean IoU if all were ground"].value
    with pytest.raises(DataError, match="masks of the training"):
        segment(phi(kind), AnalysisInput(ArraySource(TRAIN.images), TEST))


def test_boxes_are_learnt():
    found = detect(phi(), ASKED, config=TuneConfig(45, 16, rate=4e-3)).values
    assert found["AP50"].value > 0.6
    assert found["AP50"].value >= found["AP"].value
    with pytest.raises(DataError, match="boxes of the training"):
        detect(phi(), AnalysisInput(ArraySource(TRAIN.images), TEST))


def test_cells_predict_the_smallest_box_around_their_centre():
    cells = 8
    large, small = [0.0, 0.0, 1.0, 1.0], [0.4, 0.4, 0.6, 0.6]
    found = assign_cells(torch.tensor([large, small]), cells).reshape(cells, cells)
    assert (found[3:5, 3:5] == 1).all()  # centres at .4375 and .5625 are inside both
    assert (found >= 0).sum() == 16  # within one and a half cells of the middle, on both sides
    speck = assign_cells(torch.tensor([[0.30, 0.30, 0.32, 0.32]]), cells).reshape(cells, cells)
    assert torch.nonzero(speck >= 0).tolist() == [[2, 2]]  # smaller than a cell, and still found
    assert (assign_cells(torch.zeros(0, 4), cells) == -1).all()
    assert cell_centres(2).tolist() == [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]


def test_annotations_are_mirrored_with_the_image():
    """Predictions of the mirrored ground truth have zero loss on mirrored images, others do not."""
    flip, batch = torch.tensor([True, False]), load_images(TRAIN, np.array([0, 1]))
    assert torch.equal(stretched_views(batch, SIZE, flip)[0].flip(2), stretched_views(batch, SIZE)[0])
    painted = torch.from_numpy(np.stack([class_map(TRAIN.truth(np.arange(2)), row, np.array([SIZE, SIZE])) for row in (0, 1)]))
    said = one_hot(torch.stack([painted[0].flip(1), painted[1]]), 3).permute(0, 3, 1, 2) * 99.0
    loss = pixel_loss(list(painted.numpy()), SIZE)
    assert loss(said, batch, flip) == 0
    assert loss(said, batch, ~flip) > 1
    boxes = torch.tensor([[0.1, 0.2, 0.5, 0.6, 1]])
    assert mirrored(boxes).tolist() == [pytest.approx([0.5, 0.2, 0.9, 0.6, 1])]
    assert torch.equal(assign_cells(mirrored(boxes)[:, :4], 8).reshape(8, 8), assign_cells(boxes[:, :4], 8).reshape(8, 8).flip(1))


def test_fused_layers_are_evenly_spaced_from_first_to_deepest():
    neck = Neck(NETWORK)
    assert neck.names == ("stages.3", "stages.2", "stages.0", "stem")
    assert neck.cells == SIZE // 2  # the stem has a cell a pixel
    assert Neck(NETWORK, names=["stages.1"]).names == ("stages.1",)
    assert neck(torch.rand(2, 3, SIZE, SIZE)).shape == (2, 64, SIZE // 2, SIZE // 2)


def test_the_global_random_state_is_unchanged():
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    finetune_classifier(NETWORK, TRAIN, np.arange(64) % 2, 2, config=TuneConfig(1, 8))
    assert torch.equal(torch.rand(3), wanted)


def test_an_untrained_head_predicts_background():
    model = BoxHead(phi(), 3).eval()
    logits, boxes = model(torch.zeros(2, 3, SIZE, SIZE))
    assert logits.sigmoid().max() < 0.05
    assert (boxes[..., 2:] > boxes[..., :2]).all()


def test_mean_iou_averages_over_occurring_classes():
    assert class_iou(np.array([[6, 2, 0], [2, 6, 0], [0, 0, 0]])) == pytest.approx(0.6)


def test_classes_with_large_numbers_are_counted():
    train, test = [np.array([[0, 1000], [3000, VOID]])], [np.array([[2000, 0]])]
    count, first, second = _counted(train, test)
    assert count == 4
    assert first[0].tolist() == [[0, 1], [3, VOID]]
    assert second[0].tolist() == [[2, 0]]
    same = [np.array([[0, 7], [255, VOID]])]
    assert _counted(same, test[:0])[:2] == (256, same)
