"""Recovery of known maps."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import one_hot

from selfsight.backbones.image.hog import HOG
from selfsight.backbones.image.resnet import resnet_tiny
from selfsight.backbones.image.vit import vit_nano
from selfsight.core.errors import UsageError
from selfsight.core.representation import Backbone, Features, Representation
from selfsight.measure.analysis.equivalence import StitchEvaluator
from selfsight.measure.analysis.equivariance import Transport, channel_invariance, compensation_errors, equivariance, grids, invariant_share
from selfsight.measure.analysis.linear_maps import fit_local, fit_ridge
from selfsight.measure.analysis.transformations import Transformation, flipped, nearby, recoloured, rotated, scaled, warp


class Filters(Backbone):
    """One convolution with circular padding."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.dim, self.stride, self.channels, self.layers = len(weight), 1, 3, ("conv",)
        self.conv = nn.Conv2d(3, len(weight), 3, padding=1, padding_mode="circular", bias=False)
        self.conv.weight = nn.Parameter(weight)

    def forward(self, images):
        grid = self.conv(images)
        return Features(grid.mean((2, 3)), grid)


def plain(backbone: Backbone, size: int = 8) -> Representation:
    return Representation(backbone, mean=(0.0,) * 3, std=(1.0,) * 3, size=size)


def noise(count: int, size: int = 8, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("upright", [False, True])
def test_flips_and_quarter_turns_move_pixels_exactly(upright):
    pictures = noise(2)
    assert torch.equal(flipped(upright=upright).apply(pictures), pictures.flip(2 if upright else 3))
    assert torch.equal(rotated(90).apply(pictures), pictures.rot90(-1, (2, 3)))  # clockwise


def test_transformations_are_inverted():
    smooth = nn.functional.interpolate(noise(2, 4), 32, mode="bicubic")
    for change in (rotated(30), scaled(1.2)):
        back = warp(change.apply(smooth), change.target)
        assert (back - smooth)[:, :, 8:24, 8:24].abs().max() < 0.02


def test_neighbourhoods_are_centred_at_the_source_position():
    near = nearby(flipped().source, 4, 5, 3)
    assert near.shape == (20, 9)
    assert near[:, 4].tolist() == [row * 5 + 4 - column for row in range(4) for column in range(5)]
    assert near[0].tolist() == [3, 4, 4, 3, 4, 4, 8, 9, 9]  # the corner's repeat the border


def test_symmetric_filters_follow_a_flip_exactly():
    weight = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(1))
    for filters, error in ((weight + weight.flip(3), 0.0), (weight, None)):
        found = equivariance(plain(Filters(filters)), noise(40), noise(10, seed=1), flipped(), kinds=("identity", "permutation"))
        moved = found["conv"].values["permutation"].value
        assert found["conv"].values["identity"].value > 0.3
        assert moved < 1e-6 if error == 0.0 else moved > 0.3


def test_ridge_finds_a_planted_map_in_both_forms():
    rng = torch.Generator().manual_seed(0)
    for count, dim in ((60, 12), (30, 40)):
        base = torch.randn(count, min(dim, 8), generator=rng, dtype=torch.float64)
        rows = base @ torch.randn(min(dim, 8), dim, generator=rng, dtype=torch.float64)
        planted = torch.randn(dim, 5, generator=rng, dtype=torch.float64)
        fit = fit_ridge(rows[:25], rows[:25] @ planted + 3, 1e-12)
        assert len(fit.factors) == (2 if dim > 25 else 1)
        assert (fit(rows[25:]) - rows[25:] @ planted - 3).abs().max() < 1e-6


@pytest.mark.parametrize("shared", [False, True])
def test_local_maps_find_planted_filters(shared, monkeypatch):
    monkeypatch.setattr("selfsight.measure.analysis.linear_maps.PORTION", 5000)  # several portions
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(80, 2, 5, 5, generator=rng, dtype=torch.float64)
    weight = torch.randn(3, 2, 3, 3, generator=rng, dtype=torch.float64)
    if shared:  # the place that each comes from alone, turned
        near, y = nearby(rotated(90).source, 5, 5, 3), nn.functional.conv2d(x.rot90(-1, (2, 3)), weight[:, :, 1:2, 1:2])
    else:
        near = nearby(lambda places: places, 5, 5, 3)
        y = nn.functional.conv2d(nn.functional.pad(x, (1, 1, 1, 1), mode="replicate"), weight)
    fit = fit_local(x[:60], y[:60], near, 1e-12, shared=shared)
    assert (fit(x[60:]) - y[60:]).abs().max() < 1e-6


def test_every_kind_of_map_on_hog_and_on_tokens():
    found = equivariance(plain(HOG(size=32), 32), noise(30, 32), noise(10, 32, seed=1), rotated(45))
    assert set(found["blocks"].values) == {"constant", "identity", "permutation", "sparse", "shared", "ridge"}
    assert "over 9 of 9 positions" in found["blocks"].protocol
    tokens = plain(vit_nano(size=16), 16)
    last = tokens.layers[-1]
    exact = Transformation("none", lambda pictures: pictures)
    assert equivariance(tokens, noise(4, 16), noise(4, 16), exact, layers=(last,), kinds=("identity",))[last].values["identity"].value == 0


def test_unknown_kinds_are_rejected():
    with pytest.raises(UsageError, match="kind of map"):
        equivariance(plain(HOG(size=32), 32), noise(2, 32), noise(2, 32), flipped(), kinds=("sparsest",))


def test_invariance_of_channels_from_one_to_zero():
    x, other = (torch.randn(4000, 1, 2, 2, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    silent = torch.zeros_like(x)
    found = channel_invariance(torch.cat([x, x, x, silent], 1), torch.cat([x, other, -x, silent], 1))
    np.testing.assert_allclose(found, [1, 0, -1, 1], atol=0.05)


def test_colour_transformations_keep_positions():
    grey = recoloured(np.full((3, 3), 1 / 3))
    shown = grey.apply(noise(2))
    torch.testing.assert_close(shown, noise(2).mean(1, keepdim=True).expand(-1, 3, -1, -1))
    assert torch.equal(warp(noise(2), grey.source), noise(2))


def halves(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Whether the upper or the lower half is bright."""
    labels = torch.arange(count) % 2
    bright = one_hot(labels, 2).float()[:, None, :, None].repeat_interleave(4, 2).expand(-1, 3, 8, 8)
    return bright * 0.5 + 0.5 * noise(count, seed=seed), labels


def test_moving_positions_back_undoes_a_flip():
    backbone = plain(Filters(torch.eye(3)[:, :, None, None] * torch.ones(1, 1, 3, 3)))
    judge = StitchEvaluator(backbone, lambda rows: rows)
    (train, labels), (test, truth) = halves(64, 0), halves(64, 1)

    class Upper(Filters):
        def forward(self, images):
            grid = self.conv(images)
            return Features(grid[:, :1, :4].mean((2, 3)) - grid[:, :1, 4:].mean((2, 3)), grid)

    judge = StitchEvaluator(plain(Upper(backbone.backbone.conv.weight.detach())), lambda rows: torch.cat([rows, -rows], 1))
    bars = compensation_errors(judge, (train, labels), (test, truth), flipped(upright=True), steps=5)
    assert (bars.original.value, bars.changed.value) == (0, 1)
    assert (bars.by_position["conv"].value, bars.by_map["conv"].value) == (0, 0)
    before = bars.maps["conv"].filters.weight.clone()
    flipped_test = (flipped(upright=True).apply(test), truth)
    assert invariant_share(judge, "conv", bars.maps["conv"], flipped_test) == 1
    assert torch.equal(bars.maps["conv"].filters.weight, before)


def test_only_the_maps_are_trained():
    phi = plain(resnet_tiny(size=8, width=4))
    before = {name: value.clone() for name, value in phi.backbone.state_dict().items()}
    head = nn.Linear(phi.backbone.dim, 2)
    train, test = halves(64, 0), halves(32, 1)
    bars = compensation_errors(StitchEvaluator(phi, head), train, test, flipped(upright=True), layers=("stem",), steps=3)
    assert all(torch.equal(before[name], value) for name, value in phi.backbone.state_dict().items())
    assert all(weight.grad is None for weight in phi.backbone.parameters())
    fresh = Transport(flipped().target, 4)
    assert not torch.equal(bars.maps["stem"].filters.weight, fresh.filters.weight)
    grid = grids(phi, train[0], "stem")
    assert torch.equal(fresh(grid), grid.flip(3))
