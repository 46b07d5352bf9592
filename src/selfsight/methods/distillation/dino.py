"""DINO."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import softmax

from selfsight.core.card import Card, Preset, Training
from selfsight.core.clock import Clock
from selfsight.core.distribute import all_gather_with_grad, local_rows
from selfsight.core.method import Method, Outcome, Recipe
from selfsight.core.part import Chain
from selfsight.core.representation import Backbone
from selfsight.core.schedule import Constant, Cosine, Schedule, Warmup
from selfsight.core.views import Views
from selfsight.data.views.image.recipes import MultiCrop, small_multi_crop
from selfsight.modules.heads import prototype_head
from selfsight.modules.momentum import Momentum
from selfsight.modules.running import RunningMean
from selfsight.objectives.agree import across_views, soft_cross_entropy
from selfsight.objectives.assign import sinkhorn
from selfsight.objectives.precision import at_least_single

__all__ = ["DINO"]


class DINO(Method):
    """Match the sharpened, centred output of the momentum teacher (Caron et al. 2021, arXiv:2104.14294).

    Args:
        prototypes: outputs of the head.
        hidden, bottleneck: width of the head's hidden layers; length of the embedding before the prototypes.
        head_norm: batch norm in the head; needed by convolutional networks at high learning rates.
        momentum: momentum of the teacher.
        student_temperature, teacher_temperature: divide the logits of each (lower is sharper).
        balance: balancing of targets: ``centred``, ``softmax`` over the global batch, ``sinkhorn``, or ``none`` (one prototype takes all).
        rest: fraction of the run in which prototypes are frozen, at its start.
    """

    card = Card("distillation", "aligning", "Caron et al. 2021, arXiv:2104.14294", decks=("000", "004"), coupled=False)
    paper = Training("adamw", rate=5e-4, decay=0.04, warmup=0.0333, final=0.0005, clip=3.0)
    small = Preset(
        Training("adamw", rate=4e-3, decay=0.04, warmup=0.1, clip=3.0),
        {"recipe": small_multi_crop(), "prototypes": 256, "hidden": 512, "bottleneck": 128, "head_norm": True,
         "momentum": Cosine(0.95, 1.0), "teacher_temperature": Constant(0.04), "rest": 0.01},
        batch=64
    )  # fmt: skip

    def __init__(
        self,
        backbone: Backbone,
        *,
        recipe: Recipe = MultiCrop(),
        prototypes: int = 65_536,
        hidden: int = 2048,
        bottleneck: int = 256,
        head_norm: bool = False,
        momentum: Schedule = Cosine(0.996, 1.0),
        student_temperature: float = 0.1,
        teacher_temperature: Schedule = Warmup(0.04, 0.07, until=0.1),
        balance: Literal["centred", "softmax", "sinkhorn", "none"] = "centred",
        rest: float = 0.0033,
    ) -> None:
        super().__init__(backbone, recipe)
        self.prototypes, self.hidden, self.bottleneck, self.momentum = prototypes, hidden, bottleneck, momentum
        self.student_temperature, self.teacher_temperature = student_temperature, teacher_temperature
        self.balance, self.rest, self.head_norm = balance, rest, head_norm
        self.head = prototype_head(backbone.dim, prototypes, hidden=hidden, bottleneck=bottleneck, norm=head_norm)
        self.teacher = Momentum(Chain(backbone, self.head), momentum, eval_mode=True)
        self.centre = RunningMean(prototypes, keep=0.9)

    def frozen(self, clock: Clock) -> tuple[nn.Module, ...]:
        """The prototypes, at the start."""
        return (self.head[-1],) if clock.progress < self.rest else ()

    def forward(self, views: Views, clock: Clock) -> Outcome:
        logits = [at_least_single(row) for row in self.teacher.each(views.large)]
        student = self.through(views.all, self.head)
        sharp = [self._target(logit, self.teacher_temperature(clock)) for logit in logits]
        guesses = [guess / self.student_temperature for guess in student]
        diagnostics = {"embedding": student[0].detach(), "assignment": sharp[0], "chance": torch.tensor(float(self.prototypes)).log()}
        return Outcome({"distil": across_views(soft_cross_entropy, guesses, sharp)}, diagnostics)

    def _target(self, logits: Tensor, temperature: float) -> Tensor:
        if self.balance == "centred":
            return self.centre.sharpened(logits, temperature)
        if self.balance == "none":
            return softmax(logits / temperature, 1)
        return local_rows(sinkhorn(all_gather_with_grad(logits), epsilon=temperature, rounds=1 if self.balance == "softmax" else 3))
