"""Correspondences: exact on shifted images."""

import numpy as np
import pytest
import torch

from selfsight.backbones.pretrained import timm_backbone
from selfsight.backbones.table import build_backbone
from selfsight.core.errors import UsageError
from selfsight.core.representation import Representation
from selfsight.discover.dense.correspond import best_buddies, log_binned, points_of, token_stride, transfer
from selfsight.measure.metrics.points import pck


def _vit() -> Representation:
    torch.manual_seed(0)
    return Representation(build_backbone("vit_nano?patch=8", size=32), mean=(0.5,) * 3, std=(0.5,) * 3, size=32)


def test_keypoints_follow_a_shifted_image() -> None:
    generator = torch.Generator().manual_seed(0)
    wide = torch.randn(32, 12, 15, generator=generator)
    left, right = wide[:, :, :12], wide[:, :, 3:]
    points = points_of(np.array([1, 40, 64, 143]), (12, 12), (96, 96))
    inside = points[:, 0] > 3 * 8
    found = transfer(points, left, right, ((96, 96), (96, 96)))
    aim = points - [24, 0]
    score = pck([found[inside]], [aim[inside]], [96.0], reach=0.05)
    assert inside.sum() == 3
    assert score.by_keypoint.value == 1.0
    assert score.by_image.value == 1.0
    assert pck([found[inside] + 10], [aim[inside]], [96.0], reach=0.05).by_keypoint.value == 0.0


def test_centres_of_locations_in_pixels() -> None:
    assert points_of(np.array([0, 5]), (3, 4), (24, 32)).tolist() == [[4.0, 4.0], [12.0, 12.0]]


def test_best_buddies_of_an_image_with_itself_and_with_its_permutation() -> None:
    rows = torch.randn(16, 30, generator=torch.Generator().manual_seed(0))
    own = best_buddies(rows, rows)
    assert sorted(own.tolist()) == [[place, place] for place in range(30)]
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    moved = best_buddies(rows, rows[:, order])
    assert all(int(order[there]) == here for here, there in moved)
    seen = torch.zeros(30, dtype=torch.bool)
    seen[:4] = True
    assert len(best_buddies(rows, rows, seen=(seen, torch.ones(30, dtype=torch.bool)))) == 4
    assert len(best_buddies(rows, rows, most=5)) == 5


def test_log_bins_of_a_constant_map_are_equal_blocks() -> None:
    values = torch.arange(4.0)[None, :, None, None].expand(1, 4, 9, 9)
    binned = log_binned(values)
    assert binned.shape == (1, 17 * 4, 9, 9)
    torch.testing.assert_close(binned, values.repeat(1, 17, 1, 1))


def test_log_bins_contain_neighbouring_locations() -> None:
    grid = torch.arange(25.0).view(1, 1, 5, 5)
    around = log_binned(grid, 1)[0, :, 2, 2]
    assert around.tolist() == [12, 6, 7, 8, 11, 13, 16, 17, 18]
    assert log_binned(grid, 1)[0, 1, 0, 0] == 0  # beyond the corner stands the corner


@pytest.mark.parametrize("whose", ["ours", "timm"])
def test_the_own_stride_changes_nothing_and_half_of_it_doubles_the_grid(whose: str) -> None:
    phi = _vit()
    if whose == "timm":
        backbone = timm_backbone("vit_tiny_patch16_224", pretrained=False, size=64, options={"depth": 1})
        phi = Representation(backbone, mean=(0.5,) * 3, std=(0.5,) * 3, size=64)
    images = torch.rand(2, 3, phi.size, phi.size, generator=torch.Generator().manual_seed(0))
    stride, cells = phi.backbone.stride, phi.size // phi.backbone.stride
    with torch.no_grad():
        plain = phi.grid(images)
        with token_stride(phi, stride):
            assert torch.equal(phi.grid(images), plain)
        with token_stride(phi, stride // 2):
            assert phi.grid(images).shape[2:] == phi.facet(images, "key").shape[2:] == (2 * cells, 2 * cells)
        assert torch.equal(phi.grid(images), plain)
    with pytest.raises(UsageError, match="cannot begin every 3"), token_stride(phi, 3):
        pass


def test_overlapping_patches_have_the_stated_centres() -> None:
    """The embedding of the dense token i is that of the patch around ``stride (i + 1/2)``."""
    phi = _vit()
    conv = phi.backbone.patch_embed
    images = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), token_stride(phi, 4):
        dense = conv(images)  # pyright: ignore[reportCallIssue]
    with torch.no_grad():
        moved = conv(images[:, :, 2:26, 2:26])  # pyright: ignore[reportCallIssue]
    torch.testing.assert_close(dense[:, :, 1:7:2, 1:7:2], moved, rtol=1e-4, atol=1e-5)


def test_a_network_without_patches_is_rejected() -> None:
    phi = Representation(build_backbone("resnet_tiny", size=32), mean=(0.5,) * 3, std=(0.5,) * 3, size=32)
    with pytest.raises(UsageError, match="no patches"), token_stride(phi, 4):
        pass
