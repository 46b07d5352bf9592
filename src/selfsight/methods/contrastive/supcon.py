"""Supervised contrastive learning."""

from typing import ClassVar, Literal

import torch

from selfsight.core.card import Card, Preset, Training, small_sgd
from selfsight.core.clock import Clock
from selfsight.core.distribute import all_gather_with_grad
from selfsight.core.method import Method, Outcome, Recipe, hint
from selfsight.core.representation import Backbone
from selfsight.core.views import Views
from selfsight.data.views.image.recipes import TwoCrops, small_crops
from selfsight.modules.heads import mlp
from selfsight.objectives.contrast import supervised_contrastive

__all__ = ["SupCon"]


class SupCon(Method):
    """Supervised contrastive learning: all views of a class are positives (Khosla et al. 2020, arXiv:2004.11362).

    Computed over the global batch. A sample without a label is a class of its own.

    Args:
        hidden: width of the projector's hidden layer.
        dim: length of the embedding.
        temperature: divides the cosine similarities.
    """

    supervised: ClassVar[Literal[True]] = True
    card = Card("contrastive", "labelled", "Khosla et al. 2020, arXiv:2004.11362", decks=("003",))
    paper = Training("sgd", rate=0.2, decay=1e-4, warmup=0.02)
    small = Preset(small_sgd(0.24), {"recipe": small_crops(), "hidden": 512, "temperature": 0.2}, batch=128)

    def __init__(
        self, backbone: Backbone, *, recipe: Recipe = TwoCrops(), hidden: int = 2048, dim: int = 128, temperature: float = 0.1
    ) -> None:
        super().__init__(backbone, recipe)
        self.hidden, self.dim, self.temperature = hidden, dim, temperature
        self.projector = mlp(backbone.dim, hidden, dim)

    def forward(self, views: Views, clock: Clock) -> Outcome:
        label = all_gather_with_grad(hint(views, "label", "SupCon")[:, 0])
        alone = -1 - torch.arange(len(label), device=label.device)
        label = torch.where(label < 0, alone, label)
        left, right = (all_gather_with_grad(self.projector(self.backbone(view).pooled)) for view in views.large)
        loss = supervised_contrastive(torch.cat([left, right]), label.repeat(2), self.temperature)
        return Outcome({"contrast": loss}, {"embedding": left.detach()})
