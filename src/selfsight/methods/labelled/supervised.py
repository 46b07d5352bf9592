"""Supervised classification."""

from typing import ClassVar, Literal

import torch
from torch.nn.functional import cross_entropy

from selfsight.core.card import Card, Preset, Training, small_sgd
from selfsight.core.clock import Clock
from selfsight.core.errors import UsageError
from selfsight.core.method import Method, Outcome, Recipe, hint
from selfsight.core.representation import Backbone
from selfsight.core.views import Views
from selfsight.data.views.image.recipes import OneCrop, small_one_crop
from selfsight.modules.heads import linear
from selfsight.objectives.precision import at_least_single

__all__ = ["Classification"]


class Classification(Method):
    """Supervised classification, as a reference for representations learnt without labels (He et al. 2015, arXiv:1512.03385).

    All views have equal weight; samples without a label are ignored.

    Args:
        classes: number of classes; by default that of the data set.
    """

    supervised: ClassVar[Literal[True]] = True
    card = Card("labelled", "labelled", "He et al. 2015, arXiv:1512.03385", decks=("002", "003", "004"), coupled=False)
    paper = Training("sgd", rate=0.1, decay=1e-4, warmup=0.05)
    small = Preset(small_sgd(0.4), {"recipe": small_one_crop()}, batch=64)

    def __init__(self, backbone: Backbone, *, recipe: Recipe = OneCrop(), classes: int = 1000) -> None:
        super().__init__(backbone, recipe)
        self.classes = classes
        self.classifier = linear(backbone.dim, classes)

    def forward(self, views: Views, clock: Clock) -> Outcome:
        label = hint(views, "label", "Classification")[:, 0]
        if int(label.max()) >= self.classes:
            raise UsageError(
                f"The data have the class {int(label.max())}, but the classifier has {self.classes} classes.", "Omit the option classes."
            )
        pooled = self.through(views.all)
        logits = [at_least_single(self.classifier(rows)) for rows in pooled]
        known = (label >= 0).float()
        terms = [(cross_entropy(row, label.clamp(min=0), reduction="none") * known).mean() for row in logits]
        accuracy = (logits[0].argmax(1) == label).float().mean()
        return Outcome({"class": torch.stack(terms).mean()}, {"embedding": pooled[0].detach(), "accuracy": accuracy})
