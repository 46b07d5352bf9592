"""Perturbations: requested area, relevant regions, relevant channels."""

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from selfsight.core.errors import UsageError
from selfsight.explain.attribution import saliency as attribution
from selfsight.explain.attribution.perturbation import (
    _area_penalty,
    _span_of,
    between,
    extremal,
    extremal_channels,
    extremal_perturbation,
    meaningful_perturbation,
    pyramid,
    smooth_mask,
)
from selfsight.explain.attribution.saliency import score_fraction
from selfsight.explain.targets import Target, unit

from nets import Ways, chain, logit, phi_of, spot


@pytest.mark.parametrize("side", [32, 64])
@pytest.mark.parametrize("mode", ["preserve", "delete", "dual"])
def test_the_relevant_square_is_found_with_the_requested_area(side: int, mode: str) -> None:
    phi, images, target = spot(side)
    areas = (0.05, 0.1, 0.4)
    found = extremal_perturbation(phi, images, target, areas=areas, mode=mode, steps=100)
    assert (found.visible - torch.tensor(areas)).abs().max() < 0.02
    low, high = side // 8, side * 3 // 8
    assert found.masks[:, 1:, low:high, low:high].mean() > 0.85  # the square is a sixteenth of the image
    assert (found.share[:, 1] > 0.85).all() if mode != "delete" else (found.share[:, 1] < 0.1).all()
    assert found.masked_score.shape == (2, 3)


def test_areas_are_met_on_large_images() -> None:
    phi, images, target = spot(224)
    found = extremal_perturbation(phi, images[:1], target, areas=(0.05, 0.1, 0.2, 0.4), steps=100)
    assert (found.visible - torch.tensor((0.05, 0.1, 0.2, 0.4))).abs().max() < 0.02


def test_areas_are_met_on_images_that_are_not_square() -> None:
    phi = phi_of(Ways("plain"))
    found = extremal_perturbation(phi, torch.rand(1, 3, 40, 24), logit(), areas=(0.2,), steps=60)
    assert found.masks.shape == (1, 1, 40, 24)
    assert abs(float(found.visible) - 0.2) < 0.02


def test_masks_are_correct_where_the_blur_scores_higher() -> None:
    phi, images, target = spot(32)
    flat = Target("flatness", lambda rows: 3 - rows, target.which)  # largest where nothing is seen
    found = extremal_perturbation(phi, images, flat, areas=(0.1, 0.4), steps=100)
    assert (found.visible - torch.tensor((0.1, 0.4))).abs().max() < 0.02
    assert found.share.isnan().all()
    raised = (found.masked_score - found.full_score[:, None]) / (found.baseline_score - found.full_score)[:, None]
    assert (raised > 0.7).all()  # the mask lies where nothing counts, though it could cover the square
    assert _span_of(found.full_score, found.baseline_score).min() > 0
    level = score_fraction(torch.tensor([[1.0, 3.0], [1.0, 1.0]]), torch.tensor([3.0, 0.0]), torch.tensor([1.0, 0.0]))
    assert level[0].tolist() == [0.0, 1.0]
    assert level[1].isnan().all()


def test_invalid_areas_are_rejected() -> None:
    phi, images, target = spot(32)
    for areas in ((), (0.0,), (1.5,)):
        with pytest.raises(UsageError, match="between 0 and 1"):
            extremal_perturbation(phi, images, target, areas=areas)


def test_a_mask_is_one_where_all_cells_are_open_and_smooth_elsewhere() -> None:
    assert_close(smooth_mask(torch.ones(1, 12, 9)), torch.ones(1, 12, 9))
    assert_close(smooth_mask(torch.zeros(1, 12, 9)), torch.zeros(1, 12, 9))
    one = torch.zeros(1, 32, 32)
    one[0, 16, 16] = 1
    found = smooth_mask(one)[0]
    assert found[16, 16] > 0.999
    assert (found > 0.01).sum() == 49
    assert max(found.diff(dim=0).abs().max(), found.diff(dim=1).abs().max()) < 0.76
    assert_close(found, found.T)


def test_the_penalty_is_zero_for_a_binary_mask_of_that_area() -> None:
    mask = torch.zeros(2, 100)
    mask[:, :20] = 1
    assert _area_penalty(mask[:, torch.randperm(100)], torch.tensor([0.2, 0.3])).tolist() == pytest.approx([0.0, 0.1])


def test_pyramid_interpolates_from_blur_to_image() -> None:
    images = torch.rand(2, 3, 16, 16)
    levels = pyramid(images)
    assert torch.equal(levels[:, -1], images)
    for value, expected in ((1.0, levels[:, -1]), (0.0, levels[:, 0]), (0.5, (levels[:, 3] + levels[:, 4]) / 2)):
        assert_close(between(levels, torch.full((2, 1, 16, 16), value)), expected)


def test_the_mean_colour_baseline_does_not_depend_on_the_image() -> None:
    images = torch.randn(2, 3, 16, 16)
    levels = pyramid(images, "mean")
    assert torch.equal(levels[:, -1], images)
    assert not levels[:, 0].any()
    assert_close(between(levels, torch.full((2, 1, 16, 16), 0.3)), 0.3 * images)
    phi, shown, target = spot(32)
    found = extremal_perturbation(phi, shown, target, areas=(0.1,), substrate="mean", steps=60)
    assert_close(found.baseline_score, target.score(phi, torch.zeros(2, 3, 32, 32), torch.arange(2)))
    assert float(found.share.min()) > 0.8


def test_the_map_of_several_areas_points_at_the_square() -> None:
    phi, images, target = spot(32)
    found = extremal(phi, images, target, areas=(0.05, 0.1), steps=60)
    assert all(4 <= value < 12 for place in found.flatten(1).argmax(1).tolist() for value in divmod(place, 32))
    hidden = meaningful_perturbation(phi, images, target, steps=60)
    assert found.shape == hidden.shape == (2, 1, 32, 32)
    inside = hidden[:, :, 4:12, 4:12].mean()
    assert inside > 3 * (hidden.mean() * 16 - inside) / 15


@pytest.mark.parametrize("mode", ["preserve", "delete"])
def test_finds_the_relevant_channels(mode: str) -> None:
    class Few(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first, self.weights = nn.Conv2d(3, 20, 3), torch.zeros(20)
            self.weights[[3, 11]] = 1.0

        def forward(self, images: Tensor) -> Tensor:
            return (self.first(images).abs().mean((2, 3)) * self.weights).sum(1, keepdim=True)

    phi = phi_of(Few())
    found = extremal_channels(phi, torch.rand(2, 3, 16, 16), logit(0), "module.first", areas=(0.1, 0.5), mode=mode, steps=60)
    assert found.masks.shape == (2, 2, 20, 1)
    assert (found.masks[:, 0, [3, 11], 0] > 0.9).all()
    assert (found.visible[:, 0] - 0.1).abs().max() < 0.02
    assert (found.share[:, 0] > 0.95).all() if mode == "preserve" else (found.share[:, 0] < 0.05).all()


def test_the_network_is_unchanged() -> None:
    net = chain()
    phi = phi_of(net)
    net.train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    extremal_perturbation(phi, torch.rand(1, 3, 16, 16), unit("module.4", 2), areas=(0.2,), steps=4)
    meaningful_perturbation(phi, torch.rand(1, 3, 16, 16), logit(), steps=2)
    extremal_channels(phi, torch.rand(1, 3, 16, 16), logit(), "module.1", steps=2)
    assert all(part.training for part in net.modules())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in net.parameters())
    assert not any(part._forward_hooks for part in net.modules())
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_many_images_are_processed_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    phi = phi_of(chain())
    images = torch.rand(5, 3, 16, 16)
    target = logit().at(torch.tensor([0, 1, 2, 3, 4]))
    whole = extremal_perturbation(phi, images, target, areas=(0.2, 0.4), steps=10)
    monkeypatch.setattr(attribution, "CHUNK", 4)
    found = extremal_perturbation(phi, images, target, areas=(0.2, 0.4), steps=10)
    assert_close(found.masks, whole.masks, rtol=0, atol=1e-3)
    assert_close(found.masked_score, whole.masked_score, rtol=1e-3, atol=1e-4)
    assert_close(found.full_score, whole.full_score)
    monkeypatch.setattr(attribution, "CHUNK", 64)
    channels = extremal_channels(phi, images, target, "module.4", areas=(0.25, 0.5), steps=10)
    hidden = meaningful_perturbation(phi, images, target, steps=3)
    monkeypatch.setattr(attribution, "CHUNK", 2)
    assert_close(extremal_channels(phi, images, target, "module.4", areas=(0.25, 0.5), steps=10).masks, channels.masks, rtol=0, atol=1e-3)
    assert_close(meaningful_perturbation(phi, images, target, steps=3), hidden, rtol=0, atol=1e-3)
