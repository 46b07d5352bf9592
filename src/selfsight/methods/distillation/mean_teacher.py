"""Mean teacher."""

from typing import ClassVar, Literal

import torch
from torch.nn.functional import cross_entropy, softmax

from selfsight.core.card import SMALL_ADAMW, Card, Preset, Training
from selfsight.core.clock import Clock
from selfsight.core.method import Method, Outcome, Recipe, hint, sample_index
from selfsight.core.part import Chain
from selfsight.core.representation import Backbone
from selfsight.core.schedule import Constant, Schedule, Warmup
from selfsight.core.views import Views
from selfsight.data.views.image.recipes import PLAIN, TwoCrops, small_crops
from selfsight.modules.heads import linear
from selfsight.modules.momentum import Momentum
from selfsight.modules.table import uniform_hash
from selfsight.objectives.agree import mean_squared_error
from selfsight.objectives.precision import at_least_single

__all__ = ["MeanTeacher"]


class MeanTeacher(Method):
    """Semi-supervised: few labels, and consistency with a momentum teacher on all samples (Tarvainen & Valpola 2017, arXiv:1703.01780).

    Consistency is the squared distance of the class probabilities, summed over classes. The labelled samples are selected by their index
    alone, the same on every process.

    Args:
        classes: number of classes; by default that of the data set.
        labelled: fraction of the samples whose label is used.
        agreement: weight of consistency, with a ramp-up in the first part of the run.
        momentum: momentum of the teacher.
    """

    supervised: ClassVar[Literal[True]] = True
    card = Card("distillation", "labelled", "Tarvainen & Valpola 2017, arXiv:1703.01780", decks=("004",), coupled=False)
    paper = Training("sgd", rate=0.05, decay=2e-4, warmup=0.0)
    small = Preset(
        SMALL_ADAMW,
        {"recipe": small_crops(), "momentum": Constant(0.99), "labelled": 0.1, "agreement": Warmup(0.0, 1.0, 0.5)},
        batch=64,
    )

    def __init__(
        self,
        backbone: Backbone,
        *,
        recipe: Recipe = TwoCrops(PLAIN, PLAIN),
        classes: int = 1000,
        labelled: float = 0.1,
        agreement: Schedule = Warmup(0.0, 10.0, 0.2),
        momentum: Schedule = Constant(0.999),
    ) -> None:
        super().__init__(backbone, recipe)
        self.classes, self.labelled, self.agreement, self.momentum = classes, labelled, agreement, momentum
        self.classifier = linear(backbone.dim, classes)
        self.teacher = Momentum(Chain(backbone, self.classifier), momentum)

    def forward(self, views: Views, clock: Clock) -> Outcome:
        index, label = sample_index(views, "MeanTeacher"), hint(views, "label", "MeanTeacher")[:, 0]
        known = ((uniform_hash(index) < self.labelled) & (label >= 0)).float()
        pooled = self.backbone(views.large[0]).pooled
        logits = at_least_single(self.classifier(pooled))
        slow = at_least_single(self.teacher(views.large[1]))
        class_loss = (cross_entropy(logits, label.clamp(min=0), reduction="none") * known).mean() / self.labelled
        agreed = self.agreement(clock) * self.classes * mean_squared_error(softmax(logits, 1), softmax(slow, 1))
        accuracy = (torch.eq(logits.argmax(1), label)).float().mean()
        return Outcome({"class": class_loss, "agreement": agreed}, {"embedding": pooled.detach(), "accuracy": accuracy})
