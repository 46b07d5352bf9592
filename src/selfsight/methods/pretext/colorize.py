"""Colorization."""

from typing import Literal

import torch
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d, log_softmax

from selfsight.core.card import SMALL_ADAMW, Card, Preset, Training
from selfsight.core.clock import Clock
from selfsight.core.lab import gamut
from selfsight.core.method import Method, Outcome, Recipe
from selfsight.core.representation import Backbone, ColourBackbone, need_colour
from selfsight.core.views import Views
from selfsight.data.views.image.recipes import PLAIN, OneCrop
from selfsight.modules.running import RunningMean
from selfsight.objectives.agree import mean_squared_error
from selfsight.objectives.colour import rebalancing, soft_bins
from selfsight.objectives.precision import at_least_single

__all__ = ["Colorize"]


class Colorize(Method[ColourBackbone]):
    """Predict colours from lightness, at every position of the last grid (Zhang et al. 2016, arXiv:1603.08511).

    Colours are distributions over the bins of a 10 x 10 grid over a and b within sRGB, with rare bins weighted more, by their frequency in
    the images processed so far. Alternatively they are regressed with the squared error.

    Args:
        guess, mix: ``bins`` or ``regression``; λ, weight of the uniform distribution in the class weights.
    """

    card = Card("pretext", "generative", "Zhang et al. 2016, arXiv:1603.08511", decks=("002", "003", "004"), probe="linear", coupled=False)
    paper = Training("adamw", rate=3e-5, reference_batch=40, decay=1e-3, warmup=0.0, betas=(0.9, 0.99))
    small = Preset(SMALL_ADAMW, batch=64, backbone="channels?network=resnet_tiny")

    def __init__(
        self, backbone: Backbone, *, recipe: Recipe = OneCrop(PLAIN), guess: Literal["bins", "regression"] = "bins", mix: float = 0.5
    ) -> None:
        backbone = need_colour(backbone, "Colorize")
        super().__init__(backbone, recipe)
        self.guess, self.mix = guess, mix
        self.middles: torch.Tensor
        self.register_buffer("middles", gamut() / 25, persistent=False)  # in the backbone's units
        self.paint = nn.Conv2d(backbone.dim, len(self.middles) if guess == "bins" else 2, 1)
        self.shares = RunningMean(len(self.middles), keep=0.99, first=True)

    def forward(self, views: Views, clock: Clock) -> Outcome:
        features = self.backbone(views.large[0])
        cells = features.grid.shape[2:]
        colours = adaptive_avg_pool2d(self.backbone.lab(views.large[0])[:, 1:], cells).permute(0, 2, 3, 1).flatten(0, 2)
        painted = at_least_single(self.paint(features.grid)).permute(0, 2, 3, 1).flatten(0, 2)
        if self.guess == "regression":
            return Outcome({"colour": mean_squared_error(painted, colours)}, {"embedding": features.pooled.detach()})
        target = soft_bins(colours, self.middles, sigma=0.2)
        self.shares.note(target)
        known = self.shares.value if bool(self.shares.value.any()) else torch.full_like(self.shares.value, 1 / len(self.middles))
        loss = -(rebalancing(known, self.mix)[target.argmax(1)] * (target * log_softmax(painted, 1)).sum(1)).mean()
        return Outcome({"colour": loss}, {"embedding": features.pooled.detach(), "chance": torch.tensor(float(len(self.middles))).log()})
