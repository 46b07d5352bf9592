"""RotNet."""

import torch
from torch.nn.functional import cross_entropy

from selfsight.core.card import Card, Preset, Training, small_sgd
from selfsight.core.clock import Clock
from selfsight.core.method import Method, Outcome, Recipe, hint
from selfsight.core.representation import Backbone
from selfsight.core.views import Views
from selfsight.data.views.image.recipes import FourTurns
from selfsight.modules.heads import linear
from selfsight.objectives.precision import at_least_single

__all__ = ["RotNet"]


class RotNet(Method):
    """Predict the rotation of an image, by 0, 90, 180 or 270 degrees (Gidaris et al. 2018, arXiv:1803.07728).

    The four rotations pass the network together, so that batch norm has statistics over all of them.
    """

    card = Card("pretext", "discriminative", "Gidaris et al. 2018, arXiv:1803.07728", decks=("003", "004"), coupled=False)
    paper = Training("sgd", rate=0.1, decay=1e-4, warmup=0.05)
    small = Preset(small_sgd(0.4), batch=32)

    def __init__(self, backbone: Backbone, *, recipe: Recipe = FourTurns()) -> None:
        super().__init__(backbone, recipe)
        self.classifier = linear(backbone.dim, 4)

    def forward(self, views: Views, clock: Clock) -> Outcome:
        turns = hint(views, "turn", "RotNet").long()
        pooled = self.backbone(torch.cat(views.large)).pooled
        logits, turns = at_least_single(self.classifier(pooled)), turns.T.flatten()
        diagnostics = {"embedding": pooled[: len(views)].detach(), "chance": torch.tensor(4.0).log()}
        return Outcome({"turn": cross_entropy(logits, turns)}, diagnostics | {"accuracy": (logits.argmax(1) == turns).float().mean()})
