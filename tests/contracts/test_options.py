"""What options change: those that experiments on a method turn off, one by one."""

import pytest
import torch

from selfsight.backbones.table import build_backbone
from selfsight.data.views.recipes import small_multi_crop
from selfsight.objectives.contrast import nt_xent

from small import trial, world


@pytest.fixture(scope="module")
def pictures():
    return world()


def test_simclr_without_a_head_contrasts_what_the_backbone_says(pictures):
    case = trial("simclr", pictures, options={"dim": 0})
    left, right = (case.method.backbone(view).pooled for view in case.views.large)
    assert case.losses() == [pytest.approx(float(nt_xent(left, right, 0.2).detach()), rel=1e-5)]


def test_simclr_with_a_linear_head_has_one_matrix(pictures):
    method = trial("simclr", pictures, options={"hidden": 0, "dim": 8}).method
    assert [tuple(values.shape) for values in method.projector.parameters()] == [(8, method.backbone.dim), (8,)]


def test_small_views_of_simclr_agree_with_each_large_one(pictures):
    case = trial("simclr", pictures, options={"recipe": small_multi_crop(1)})
    first, second, small = (case.method.projector(case.method.backbone(view).pooled) for view in (*case.views.large, *case.views.small))
    pairs = (first, second), (second, first), (small, first), (small, second)
    wanted = torch.stack([nt_xent(*pair, 0.2) for pair in pairs]).mean()
    assert case.losses() == [pytest.approx(float(wanted.detach()), rel=1e-5)]


def test_more_blocks_make_a_deeper_network_of_the_same_stages():
    shallow, deep = (build_backbone(f"resnet_tiny?width=8&blocks={blocks}", size=32) for blocks in (1, 2))
    assert deep.layers == shallow.layers
    assert [len(stage) for stage in deep.stages] == [2, 2, 2, 2]
    assert deep.dim == shallow.dim
    assert deep.stride == shallow.stride
