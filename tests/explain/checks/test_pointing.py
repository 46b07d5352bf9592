"""Scores of attribution maps with known quality."""

import pytest
import torch
from torch import nn

from selfsight.core.errors import UsageError
from selfsight.explain.attribution.perturbation import BLUR, blurred
from selfsight.explain.checks.pointing import boxes_of, centre_map, curves, fit_threshold, localised, near, pointing_game, random_map
from selfsight.explain.targets import Target, direction

from nets import chain, logit, phi_of, pictures


def objects(*corners: tuple[int, int], side: int = 8, size: int = 32) -> torch.Tensor:
    found = torch.zeros(len(corners), size, size, dtype=torch.bool)
    for row, (top, left) in enumerate(corners):
        found[row, top : top + side, left : left + side] = True
    return found


def test_hits_within_the_tolerance_count() -> None:
    there = objects((10, 10))
    maps = torch.zeros(1, 1, 32, 32)
    for place, hit in (((10, 10), True), ((10, 7), True), ((10, 6), False), ((8, 8), True), ((7, 7), False)):
        maps.zero_()
        maps[0, 0, place[0], place[1]] = 1
        assert (pointing_game(maps, there, tolerance=4).overall == 1) is hit, place
    assert torch.equal(near(there, 0), there)


def test_accuracy_is_the_mean_over_classes_with_baselines() -> None:
    there = objects((0, 0), (0, 0), (0, 0), (20, 20))
    maps = torch.zeros(4, 1, 32, 32)
    maps[:, :, 2, 2] = 1
    found = pointing_game(maps, there, torch.tensor([0, 0, 0, 1]), tolerance=1)
    assert (found.accuracy, found.overall, found.centre) == (0.5, 0.75, 0.0)
    assert found.random == pytest.approx(64 / 1024)
    assert found.difficult is None
    hard = pointing_game(maps, there, distractors=torch.tensor([True, False, False, True]), tolerance=1)
    assert hard.difficult == 0.5
    centre = pointing_game(centre_map((4, 1, 32, 32)), objects((12, 12), (12, 12), (0, 0), (0, 0)), tolerance=1)
    assert centre.accuracy == centre.centre == 0.5


@pytest.mark.parametrize("threshold", ["value", "energy", "mean"])
def test_boxes_are_tight(threshold: str) -> None:
    there = objects((4, 6), (10, 20), side=7)
    maps = there[:, None].float() - 3
    assert boxes_of(maps, threshold, 0.5).tolist() == [[4, 6, 11, 13], [10, 20, 17, 27]]
    assert localised(boxes_of(maps, threshold, 0.5), there).all()
    noise = random_map((2, 1, 32, 32))
    assert not localised(boxes_of(noise, threshold, 0.5), there).any()


def test_the_threshold_is_fitted() -> None:
    there = objects((4, 6), (10, 20), side=9)
    maps = there[:, None].float() + 0.3 * random_map((2, 1, 32, 32))
    assert not localised(boxes_of(maps, "value", 0.1), there).any()
    assert localised(boxes_of(maps, "value", fit_threshold(maps, there, "value")), there).all()


def test_curves_of_a_linear_network_are_known() -> None:
    weights = torch.zeros(3 * 64)
    weights[:8] = 1.0  # the first row of the first channel counts
    phi = phi_of(nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), nn.Flatten()), 8)
    with torch.no_grad():
        phi.backbone.module[0].weight.copy_(torch.eye(3)[:, :, None, None])
    images = torch.full((2, 3, 8, 8), 0.9)
    good = torch.zeros(2, 1, 8, 8)
    good[:, :, 0] = 1
    found = curves(phi, images, direction(weights), good, steps=8, substrate="mean")
    assert found.deletion[0].tolist() == pytest.approx([1.0] + [0.0] * 8, abs=1e-6)
    assert found.insertion[0].tolist() == pytest.approx([0.0] + [1.0] * 8, abs=1e-6)
    assert found.areas == pytest.approx({"deletion": 1 / 16, "insertion": 15 / 16}, abs=1e-6)
    bad = curves(phi, images, direction(weights), -good, steps=8, substrate="mean").areas
    assert bad == pytest.approx({"deletion": 15 / 16, "insertion": 1 / 16}, abs=1e-6)
    with pytest.raises(UsageError, match="cannot be made"):
        curves(phi, images, direction(weights), good, steps=65)


def test_curves_end_at_the_image_and_its_substrate() -> None:
    phi, images = phi_of(chain()), pictures()
    unlike = Target("unlike", lambda rows: -rows, 1)  # larger for the images than for their blur, where the logit is smaller
    assert curves(phi, images, logit(), random_map((3, 1, 16, 16)), steps=4).deletion.isnan().all()
    found = curves(phi, images, unlike, random_map((3, 1, 16, 16)), steps=4)
    assert found.deletion[:, 0].tolist() == pytest.approx([1.0] * 3, abs=1e-5)
    assert found.deletion[:, -1].tolist() == pytest.approx([0.0] * 3, abs=1e-5)
    assert found.insertion[:, 0].tolist() == pytest.approx([0.0] * 3, abs=1e-5)
    assert found.insertion[:, -1].tolist() == pytest.approx([1.0] * 3, abs=1e-5)


def test_a_target_per_image_keeps_its_image() -> None:
    phi = phi_of(nn.Sequential(nn.Conv2d(3, 3, 1), nn.Flatten()), 8)
    target = Target("own", lambda rows: rows[:, :2], torch.tensor([0, 1]))
    images = torch.rand(2, 3, 8, 8)
    sides = target.score(phi, phi.normalise(images)) - target.score(phi, blurred(phi.normalise(images), BLUR))
    target = Target("own", lambda rows: rows[:, :2] * sides.sign(), torch.tensor([0, 1]))
    found = curves(phi, images, target, random_map((2, 1, 8, 8)), steps=4)
    assert found.deletion[:, 0].tolist() == pytest.approx([1.0, 1.0], abs=1e-4)
