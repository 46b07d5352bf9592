"""Exemplar networks."""

from typing import ClassVar, Literal

from torch.nn.functional import cross_entropy

from selfsight.core.card import Card, Preset, Training
from selfsight.core.clock import Clock
from selfsight.core.errors import UsageError
from selfsight.core.method import Method, Outcome, Recipe, sample_index
from selfsight.core.representation import Backbone
from selfsight.core.views import Views
from selfsight.data.views.image.recipes import SIMCLR, OneCrop, small_one_crop
from selfsight.modules.heads import linear
from selfsight.objectives.precision import at_least_single

__all__ = ["Exemplar"]


class Exemplar(Method):
    """Each image is a class, with its augmented views as members (Dosovitskiy et al. 2014, arXiv:1406.6909).

    The classifier has one row per image; for more than about ten thousand images use ``npid`` with its memory bank.

    Args:
        exemplars: maximum number of images.
    """

    card = Card("pretext", "discriminative", "Dosovitskiy et al. 2014, arXiv:1406.6909", decks=("000", "002", "003"), coupled=False)
    paper = Training("sgd", rate=0.02, decay=4e-3, warmup=0.0)
    small = Preset(Training("sgd", rate=0.8, decay=1e-4, warmup=0.05), {"recipe": small_one_crop()}, batch=64)

    remembers_samples: ClassVar[Literal[True]] = True

    def __init__(self, backbone: Backbone, *, recipe: Recipe = OneCrop(SIMCLR), exemplars: int = 16_000) -> None:
        super().__init__(backbone, recipe)
        self.exemplars = exemplars
        self.classifier = linear(backbone.dim, exemplars)

    def forward(self, views: Views, clock: Clock) -> Outcome:
        index = sample_index(views, "Exemplar")
        if int(index.max()) >= self.exemplars:
            raise UsageError(
                f"Sample {int(index.max())} has no class: there are {self.exemplars} exemplars.", "Increase exemplars, or use npid."
            )
        pooled = self.backbone(views.large[0]).pooled
        logits = at_least_single(self.classifier(pooled))
        accuracy = (logits.argmax(1) == index).float().mean()
        return Outcome({"exemplar": cross_entropy(logits, index)}, {"embedding": pooled.detach(), "accuracy": accuracy})
