"""Split-brain autoencoders."""

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from selfsight.core.card import SMALL_ADAMW, Card, Preset, Training
from selfsight.core.clock import Clock
from selfsight.core.lab import gamut
from selfsight.core.method import Method, Outcome, Recipe
from selfsight.core.representation import Backbone, SplitBackbone, need_halves
from selfsight.core.views import Views
from selfsight.data.views.image.recipes import PLAIN, OneCrop
from selfsight.objectives.agree import soft_cross_entropy
from selfsight.objectives.colour import soft_bins
from selfsight.objectives.precision import at_least_single

__all__ = ["SplitBrain"]


class SplitBrain(Method[SplitBackbone]):
    """One half of the network predicts colour from lightness, the other lightness from colour (Zhang et al. 2016, arXiv:1611.09842).

    At every position of the last grid, as distributions over bins: 10 units of a and b within sRGB, and ``levels`` bins of L.

    Args:
        levels: bins of the lightness.
    """

    card = Card("pretext", "generative", "Zhang et al. 2016, arXiv:1611.09842", decks=("003", "004"), probe="linear", coupled=False)
    paper = Training("adamw", rate=3e-5, reference_batch=40, decay=1e-3, warmup=0.0, betas=(0.9, 0.99))
    small = Preset(SMALL_ADAMW, {"levels": 50}, batch=64, backbone="channel_split?network=resnet_tiny")

    def __init__(self, backbone: Backbone, *, recipe: Recipe = OneCrop(PLAIN), levels: int = 100) -> None:
        backbone = need_halves(backbone, "SplitBrain")
        super().__init__(backbone, recipe)
        self.levels = levels
        self.middles: Tensor
        self.register_buffer("middles", gamut() / 25, persistent=False)  # in the backbone's units
        self.tell_colour = nn.Conv2d(backbone.dim // 2, len(self.middles), 1)
        self.tell_light = nn.Conv2d(backbone.dim // 2, levels, 1)

    def forward(self, views: Views, clock: Clock) -> Outcome:
        light, colour = self.backbone.halves(views.large[0])
        rows, columns = light.grid.shape[2:]
        target = adaptive_avg_pool2d(self.backbone.lab(views.large[0]), (rows, columns))
        steps = torch.linspace(-2, 2, self.levels, device=target.device, dtype=target.dtype)[:, None]
        losses = {
            "colour": soft_cross_entropy(_rows(self.tell_colour(light.grid)), soft_bins(_rows(target[:, 1:]), self.middles, sigma=0.2)),
            "light": soft_cross_entropy(_rows(self.tell_light(colour.grid)), soft_bins(_rows(target[:, :1]), steps, sigma=4 / self.levels)),
        }
        return Outcome(losses, {"embedding": torch.cat([light.pooled, colour.pooled], 1).detach()})


def _rows(grid: Tensor) -> Tensor:
    """Flatten to one row per position."""
    return at_least_single(grid).permute(0, 2, 3, 1).flatten(0, 2)
