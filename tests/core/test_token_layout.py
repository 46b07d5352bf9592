"""Layout of tokens and feature maps."""

import pytest
import torch
from torch import nn

from selfsight.core.errors import UsageError
from selfsight.core.token_layout import TokenLayout

TOKENS = torch.arange(2 * 8 * 3, dtype=torch.float32).view(2, 8, 3)
CELLS = (2, 3)


@pytest.mark.parametrize(("pool", "expected"), [("cls", TOKENS[:, 0]), ("mean", TOKENS[:, 2:].mean(1))])
def test_tokens_are_pooled_as_declared(pool, expected):
    assert torch.equal(TokenLayout(prefix=2, pool=pool).pooled(TOKENS, CELLS), expected)


def test_grid_leaves_out_prefix_tokens_in_raster_order():
    layout = TokenLayout(prefix=2, pool="cls")
    grid = layout.grid(TOKENS, CELLS)
    assert grid.shape == (2, 3, 2, 3)
    assert torch.equal(grid[1, :, 1, 2], TOKENS[1, -1])
    assert torch.equal(layout.with_grid(TOKENS, grid), TOKENS)
    changed = layout.with_grid(TOKENS, 2 * grid)
    assert torch.equal(changed[:, :2], TOKENS[:, :2])
    assert torch.equal(changed[:, 2:], 2 * TOKENS[:, 2:])


@pytest.mark.parametrize("last", [False, True])
def test_feature_maps_are_returned_with_channels_first(last):
    maps = torch.randn(2, 5, 3, 4)
    output = maps.permute(0, 2, 3, 1) if last else maps
    layout = TokenLayout(channels_last=last)
    assert torch.equal(layout.grid(output, CELLS), maps)
    assert torch.equal(layout.with_grid(output, maps), output)
    torch.testing.assert_close(layout.pooled(output, CELLS), maps.mean((2, 3)))
    factors = torch.rand(2, 5)
    assert torch.equal(layout.grid(layout.per_channel(output, factors), CELLS), maps * factors[:, :, None, None])


def test_factors_act_on_the_channels_of_tokens():
    factors = torch.rand(2, 3)
    assert torch.equal(TokenLayout(prefix=2).per_channel(TOKENS, factors), TOKENS * factors[:, None])


def test_vectors_have_no_grid():
    with pytest.raises(UsageError, match="no spatial grid"):
        TokenLayout().grid(torch.zeros(2, 3), CELLS, "fc")


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(2, 6)


class Network(nn.Sequential):
    def __init__(self, **declared: int | str | bool) -> None:
        super().__init__(nn.Linear(2, 2), Attention(), Attention())
        vars(self).update(declared)


def test_layout_is_read_from_the_network():
    attention = ("1", "2")
    assert TokenLayout.of(Network()) == TokenLayout(qkv=attention)
    assert TokenLayout.of(Network(prefix=1)).pools_class_token
    assert TokenLayout.of(Network(prefix=1, pool="mean")) == TokenLayout(prefix=1, pool="mean", qkv=attention)
    assert TokenLayout.of(Network(channels_last=True)) == TokenLayout(channels_last=True, qkv=attention)
