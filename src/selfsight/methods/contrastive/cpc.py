"""Contrastive predictive coding."""

import torch
from torch import nn

from selfsight.core.card import SMALL_ADAMW, Card, Preset, Training
from selfsight.core.clock import Clock
from selfsight.core.distribute import all_gather_with_grad
from selfsight.core.errors import UsageError
from selfsight.core.method import Method, Outcome, Recipe
from selfsight.core.representation import Backbone
from selfsight.core.views import Views
from selfsight.data.views.image.puzzles import Overlapping
from selfsight.data.views.image.recipes import PLAIN, SIMCLR_SMALL
from selfsight.modules.context import DownwardContext
from selfsight.objectives.contrast import info_nce

__all__ = ["CPC"]


class CPC(Method):
    """Predict tiles of an image from those above, against all other tiles as negatives (van den Oord et al. 2018, arXiv:1807.03748).

    Every tile is encoded separately; negatives are all other tiles of the global batch. Batch norm has statistics over the tiles of all
    images, so they do not identify an image; the paper has no batch norm.

    Args:
        across: tiles per side, as in the recipe.
        dim: length of a tile's vector.
        depth: layers of the context network.
        first: distance of the nearest predicted row.
        last: distance of the farthest predicted row.
    """

    card = Card("contrastive", "aligning", "van den Oord et al. 2018, arXiv:1807.03748", decks=("000", "002", "004"))
    paper = Training("adamw", rate=2e-4, reference_batch=16, decay=0.0, warmup=0.0, final=1.0)
    small = Preset(
        SMALL_ADAMW, {"recipe": Overlapping(SIMCLR_SMALL, across=4, share=0.5), "across": 4, "dim": 128, "first": 1, "last": 2}, batch=32
    )

    def __init__(
        self,
        backbone: Backbone,
        *,
        recipe: Recipe = Overlapping(PLAIN),
        across: int = 7,
        dim: int = 1024,
        depth: int = 3,
        first: int = 2,
        last: int = 5,
    ) -> None:
        super().__init__(backbone, recipe)
        self.across, self.dim, self.depth, self.first, self.last = across, dim, depth, first, last
        if not 0 < first <= last < across:
            raise UsageError(
                f"A grid of {across} rows has no tiles that are {first} to {last} rows below others.", "Reduce first and last."
            )
        self.enter = nn.Linear(backbone.dim, dim)
        self.context = DownwardContext(dim, depth=depth)
        self.guesses = nn.ModuleList(nn.Linear(dim, dim) for _ in range(first, last + 1))

    def forward(self, views: Views, clock: Clock) -> Outcome:
        if len(views.large) != self.across**2:
            raise UsageError(
                f"CPC reads {self.across**2} tiles and was given {len(views.large)}.", "Give across and recipe the same number."
            )
        tiles = self.enter(self.backbone(torch.cat(views.large)).pooled).unflatten(0, (self.across, self.across, -1))
        known = self.context(tiles.permute(2, 3, 0, 1)).permute(2, 3, 0, 1)
        losses = {}
        for below, guess in enumerate(self.guesses, self.first):
            predicted, target = (
                all_gather_with_grad(rows.permute(2, 0, 1, 3)).flatten(0, 2) for rows in (guess(known[:-below]), tiles[below:])
            )
            losses[f"below{below}"] = info_nce(predicted, target, self.dim**0.5, unit=False) / len(self.guesses)
        return Outcome(losses, {"embedding": tiles.detach().mean((0, 1))})
