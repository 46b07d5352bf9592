"""Context prediction."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from selfsight.core.card import Card, Preset, Training, small_sgd
from selfsight.core.clock import Clock
from selfsight.core.method import Method, Outcome, Recipe, hint
from selfsight.core.representation import Backbone
from selfsight.core.views import Views
from selfsight.data.views.image.puzzles import Neighbours
from selfsight.data.views.image.recipes import PLAIN, SIMCLR_SMALL
from selfsight.modules.heads import linear, mlp
from selfsight.objectives.precision import at_least_single

__all__ = ["Context"]


class Context(Method):
    """Predict the relative position of two tiles, one of eight (Doersch et al. 2015, arXiv:1505.05192).

    Tiles are encoded separately. Gaps with jitter and standardised tiles keep the network from matching edges and brightness.

    Args:
        hidden: width of the hidden layer on both tiles.
    """

    card = Card("pretext", "discriminative", "Doersch et al. 2015, arXiv:1505.05192", decks=("002", "003", "004"), coupled=False)
    paper = Training("sgd", rate=0.2, decay=1e-4, warmup=0.05)
    small = Preset(small_sgd(0.4), {"recipe": Neighbours(SIMCLR_SMALL, even=True, gap=0.2), "hidden": 256}, batch=64)

    def __init__(self, backbone: Backbone, *, recipe: Recipe = Neighbours(PLAIN, even=True), hidden: int = 4096) -> None:
        super().__init__(backbone, recipe)
        self.hidden = hidden
        self.neck = nn.Sequential(mlp(2 * backbone.dim, hidden, final="norm"), nn.ReLU())
        self.classifier = linear(hidden, 8)

    def forward(self, views: Views, clock: Clock) -> Outcome:
        place = hint(views, "neighbour", "Context")[:, 0].long()
        pooled = self.backbone(torch.cat(views.large)).pooled
        logits = at_least_single(self.classifier(self.neck(torch.cat(pooled.chunk(2), 1))))
        diagnostics = {"embedding": pooled[: len(views)].detach(), "chance": torch.tensor(8.0).log()}
        return Outcome({"place": cross_entropy(logits, place)}, diagnostics | {"accuracy": (logits.argmax(1) == place).float().mean()})
