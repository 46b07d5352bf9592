"""Views are batched unless batch norm compares them."""

import torch
from torch import nn

from selfsight.backbones.table import build_backbone
from selfsight.core.part import run_chain, run_each


class Counted(nn.Module):
    """A module that counts its calls."""

    def __init__(self, link: nn.Module) -> None:
        super().__init__()
        self.link, self.calls = link, 0

    def forward(self, value: torch.Tensor) -> object:
        self.calls += 1
        return self.link(value)


def test_views_of_one_size_are_batched_with_equal_results() -> None:
    torch.manual_seed(0)
    backbone, head = Counted(build_backbone("vit_nano?patch=8", size=32).double()), Counted(nn.Linear(192, 5).double())
    views = [torch.rand(3, 3, side, side, dtype=torch.float64) for side in (32, 32, 16, 16, 16)]
    together = run_each((backbone, head), views)
    assert (backbone.calls, head.calls) == (2, 1)
    for row, view in zip(together, views, strict=True):
        torch.testing.assert_close(row, run_chain((backbone, head), view), rtol=1e-10, atol=1e-12)


def test_batch_norm_gets_one_view_at_a_time() -> None:
    norm = Counted(nn.BatchNorm1d(4, affine=False))
    left, right = run_each((norm,), [torch.randn(8, 4), 5 + torch.randn(8, 4)])
    assert norm.calls == 2
    assert left.mean(0).abs().max() < 1e-5
    assert right.mean(0).abs().max() < 1e-5
