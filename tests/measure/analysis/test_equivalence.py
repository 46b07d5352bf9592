"""Stitches without effect, and one with a known solution."""

import numpy as np
import pytest
import torch
from torch import nn

from selfsight.backbones.image.resnet import resnet_tiny
from selfsight.backbones.image.vit import vit_nano
from selfsight.core.errors import UsageError
from selfsight.core.readout import Readout
from selfsight.core.representation import Backbone, Representation
from selfsight.measure.analysis.equivalence import Stitch, StitchEvaluator, fit_by_task, head_of, stitched_error, stitching


def plain(backbone: Backbone, size: int = 16) -> Representation:
    return Representation(backbone, mean=(0.4,) * 3, std=(0.3,) * 3, size=size)


def pictures(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Two classes: dark and bright."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    return (0.6 * torch.rand(count, 3, 16, 16, generator=rng) + 0.4 * labels[:, None, None, None]), labels


def judge_of(backbone: Backbone) -> StitchEvaluator:
    torch.manual_seed(0)
    return StitchEvaluator(plain(backbone), nn.Linear(backbone.dim, 5))


@pytest.mark.parametrize("build", [lambda: resnet_tiny(size=16, width=4), lambda: vit_nano(size=16)])
def test_stitching_a_network_to_itself_by_the_identity_changes_nothing(build):
    judge, (shown, _) = judge_of(build()), pictures(8)
    said = judge.logits(shown)
    for layer in judge.phi.layers:
        grid = judge.phi.grid(shown, layer)
        stitch = Stitch(grid.shape[1], grid.shape[1], (grid.shape[2], grid.shape[3]), start="identity")
        torch.testing.assert_close(judge.logits(shown, {layer: lambda _, grid=grid, stitch=stitch: stitch(grid)}), said, atol=1e-5, rtol=0)
        truth = said.argmax(1)
        assert stitched_error(judge.phi, layer, judge, layer, stitch, (shown, truth)).value == 0


def test_a_linear_stitch_inverts_mixed_channels():
    judge, mixed = judge_of(resnet_tiny(size=16, width=4)), resnet_tiny(size=16, width=4)
    mixed.load_state_dict(judge.phi.backbone.state_dict())
    with torch.no_grad():  # the same stem, its channels in another order
        order = torch.tensor([2, 0, 3, 1])
        mixed.stem[0].weight.copy_(mixed.stem[0].weight[order])
    shown, _ = pictures(128)
    labels = judge.logits(shown).argmax(1)
    stitch = Stitch(4, 4, (16, 16), start="identity")
    with torch.no_grad():
        stitch.filters.weight.copy_(torch.eye(4)[order.argsort()][:, :, None, None])
    assert stitched_error(plain(mixed), "stem", judge, "stem", stitch, (shown, labels)).value == 0


def test_stitching_errors_of_networks_of_different_widths():
    judge, train, test = judge_of(resnet_tiny(size=16, width=4)), pictures(64), pictures(32, 1)
    both = nn.ModuleList([judge.phi.backbone, judge.head])
    fit_by_task(both, lambda rows: judge.logits(train[0][rows]), train[1], steps=60)
    first = plain(resnet_tiny(size=16, width=6))
    before = {name: value.clone() for name, value in judge.phi.backbone.state_dict().items()}
    found = stitching(first, judge, train, test, layer="stages.1", at="stages.0", steps=40, rate=0.03)
    assert found.stitch.filters.weight.shape == (4, 12, 1, 1)
    assert found.stitch.size == (16, 16)  # the deeper grid is brought to the size of the shallower
    assert found.original.value < 0.05
    assert found.trained.value < 0.1 < found.random.value
    assert found.original == judge.error(*test)
    assert all(torch.equal(before[name], value) for name, value in judge.phi.backbone.state_dict().items())
    again = stitching(first, judge, train, test, layer="stages.1", at="stages.0", steps=40, rate=0.03)
    assert torch.equal(found.stitch.filters.weight, again.stitch.filters.weight)


def test_a_module_learns_its_task():
    rows = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    labels, module = (rows[:, 0] > 0).long(), nn.Linear(4, 2)
    fit_by_task(module, lambda chosen: module(rows[chosen]), labels, steps=100, rate=0.1)
    assert (module(rows).argmax(1) == labels).float().mean() > 0.98


def test_a_probe_becomes_a_head():
    arrays = {"weight": np.eye(2, 3, dtype=np.float32), "bias": np.ones(2, np.float32)}
    arrays |= {"mean": np.full(3, 2.0, np.float32), "scale": np.full(3, 0.5, np.float32)}
    said = head_of(Readout("linear", "output", arrays))(torch.tensor([[3.0, 2.0, 0.0]]))
    assert said.tolist() == [[3.0, 1.0]]
    with pytest.raises(UsageError, match="centroids"):
        head_of(Readout("centroids", "output", {}))


def test_layers_without_a_grid_are_rejected():
    judge = judge_of(resnet_tiny(size=16, width=4))
    with pytest.raises(UsageError):
        judge.logits(pictures(2)[0], {"nowhere": lambda grid: grid})
