"""Effects of options that ablations switch off."""

import pytest
import torch

from selfsight.backbones.table import build_backbone
from selfsight.core.clock import Clock
from selfsight.data.views.image.recipes import small_multi_crop
from selfsight.objectives.contrast import nt_xent
from selfsight.workflows.train.config import world_options

from small import trial, world


@pytest.fixture(scope="module")
def pictures():
    return world()


def test_simclr_without_a_head_contrasts_backbone_features(pictures):
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


def test_codebook_is_fitted_to_patches_of_the_whole_image(pictures):
    method = trial("beit", pictures, size=32).method
    places = torch.arange(64.0).view(8, 8).repeat_interleave(4, 0).repeat_interleave(4, 1)  # each patch of 4 px shows its own number
    seen: list[torch.Tensor] = []

    def extract(network):
        seen.append(network(places.expand(2, 3, 32, 32)))
        return torch.arange(2), seen[0].repeat(50, 1)

    method.relabel(extract, Clock())
    shown = seen[0].view(2, 16, -1)[:, :, 0].long()
    assert torch.equal(shown[0], shown[1])
    assert len(shown[0].unique()) == 16
    assert len((shown[0] % 8).unique()) > 4
    assert len((shown[0] // 8).unique()) > 4


def test_views_of_the_world_are_rotated_for_joint_embedding():
    turned = {name: world_options(name)["recipe"].view.turn for name in ("pirl", "jigsaw", "cpc", "rotation_decoupling")}
    assert turned == {"pirl": 0.75, "jigsaw": 0.0, "cpc": 0.0, "rotation_decoupling": 0.0}
    assert world_options("simclr")["recipe"].second.turn == 0.75
    assert all(world_options(name)["recipe"].view.crop.scale == (0.5, 1.0) for name in turned)
    assert world_options("jigsaw")["recipe"].even
    assert world_options("rotnet") == {}


def test_more_blocks_make_a_deeper_network():
    shallow, deep = (build_backbone(f"resnet_tiny?width=8&blocks={blocks}", size=32) for blocks in (1, 2))
    assert deep.layers == shallow.layers
    assert [len(stage) for stage in deep.stages] == [2, 2, 2, 2]
    assert deep.dim == shallow.dim
    assert deep.stride == shallow.stride
