"""Jigsaw puzzles."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from selfsight.core.card import Card, Preset, Training, small_sgd
from selfsight.core.clock import Clock
from selfsight.core.method import Method, Outcome, Recipe, hint
from selfsight.core.representation import Backbone
from selfsight.core.views import Views
from selfsight.data.views.image import puzzles
from selfsight.data.views.image.recipes import PLAIN, SIMCLR_SMALL
from selfsight.modules.heads import linear, mlp
from selfsight.objectives.precision import at_least_single

__all__ = ["Jigsaw"]


class Jigsaw(Method):
    """Predict the permutation of an image's tiles, among a fixed set (Noroozi & Favaro 2016, arXiv:1603.09246).

    Tiles are encoded separately. Gaps with jitter and standardised tiles keep the network from matching edges and brightness.

    Args:
        orders: number of permutations, as in the recipe.
        tiles: number of tiles, as in the recipe.
        hidden: length of each tile's vector in the classifier.
    """

    card = Card("pretext", "discriminative", "Noroozi & Favaro 2016, arXiv:1603.09246", decks=("002", "003"), coupled=False)
    paper = Training("sgd", rate=0.1, decay=1e-4, warmup=0.05)
    small = Preset(
        small_sgd(0.4),
        {"recipe": puzzles.Jigsaw(SIMCLR_SMALL, across=2, orders=24, even=True), "orders": 24, "tiles": 4, "hidden": 128},
        batch=32,
    )

    def __init__(
        self,
        backbone: Backbone,
        *,
        recipe: Recipe = puzzles.Jigsaw(PLAIN, orders=1000, even=True),
        orders: int = 1000,
        tiles: int = 9,
        hidden: int = 1000,
    ) -> None:
        super().__init__(backbone, recipe)
        self.orders, self.tiles, self.hidden = orders, tiles, hidden
        self.neck = nn.Sequential(mlp(backbone.dim, hidden, final="norm"), nn.ReLU())
        self.classifier = linear(tiles * hidden, orders)

    def forward(self, views: Views, clock: Clock) -> Outcome:
        order = hint(views, "permutation", "Jigsaw")[:, 0].long()
        pooled = self.backbone(torch.cat(views.large)).pooled
        joined = self.neck(pooled).unflatten(0, (len(views.large), -1)).transpose(0, 1).flatten(1)
        logits = at_least_single(self.classifier(joined))
        diagnostics = {"embedding": pooled[: len(views)].detach(), "chance": torch.tensor(float(self.orders)).log()}
        return Outcome({"order": cross_entropy(logits, order)}, diagnostics | {"accuracy": (logits.argmax(1) == order).float().mean()})
