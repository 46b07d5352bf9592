"""DINOv2."""

from typing import Literal

import torch
from torch import nn

from selfsight.core.card import Card, Preset, Training
from selfsight.core.clock import Clock
from selfsight.core.distribute import all_gather_with_grad, local_rows
from selfsight.core.method import Method, Outcome, Recipe, hint
from selfsight.core.representation import Backbone, TokenBackbone, need_tokens
from selfsight.core.schedule import Constant, Cosine, Schedule, Warmup
from selfsight.core.views import Views
from selfsight.data.views.image.masks import Blocks
from selfsight.data.views.image.published import DINOV2_FIRST, DINOV2_SECOND, DINOV2_SMALL
from selfsight.data.views.image.recipes import MultiCrop
from selfsight.modules.token_teacher import TokenTeacher
from selfsight.objectives.agree import across_views, masked_cross_entropy, soft_cross_entropy
from selfsight.objectives.assign import sinkhorn
from selfsight.objectives.spread import nearest_spread

__all__ = ["DINOv2"]


class DINOv2(Method[TokenBackbone]):
    """iBOT with separate heads for images and patches, and a KoLeo term (Oquab et al. 2023, arXiv:2304.07193).

    KoLeo maximises the distance to the nearest other image of the global batch, summed over the large views; small images: half the weight.

    Args:
        prototypes, hidden, bottleneck: outputs of a head; width of its hidden layers; length of the embedding before the prototypes.
        head_norm, momentum: whether the heads have batch norm; momentum of the teacher.
        student_temperature, teacher_temperature: divide the logits of each (lower is sharper).
        balance: image targets are ``centred``, or balanced by ``sinkhorn`` over the global batch; patch targets are centred.
        distance, rest: weight of the KoLeo term; fraction of the run in which prototypes are frozen, at its start.
    """

    card = Card("distillation", "aligning", "Oquab et al. 2023, arXiv:2304.07193", decks=("000", "004"))
    paper = Training("adamw", rate=4e-3, reference_batch=1024, decay=0.04, warmup=0.1, final=0.00025, clip=3.0)
    small = Preset(
        Training("adamw", rate=2e-3, decay=0.04, warmup=0.1, clip=3.0),
        {"distance": 0.05, "prototypes": 256, "hidden": 512, "bottleneck": 128, "momentum": Cosine(0.95, 1.0),
         "teacher_temperature": Constant(0.04), "recipe": MultiCrop(count=2, small_size=0.5, mask=Blocks(0.1, 0.5, p=0.5))},
        batch=64, backbone="vit_nano?registers=4")  # fmt: skip

    def __init__(
        self,
        backbone: Backbone,
        *,
        recipe: Recipe = MultiCrop(DINOV2_FIRST, DINOV2_SECOND, DINOV2_SMALL, mask=Blocks(0.1, 0.5, p=0.5)),
        prototypes: int = 65_536,
        hidden: int = 2048,
        bottleneck: int = 256,
        head_norm: bool = False,
        momentum: Schedule = Cosine(0.992, 1.0),
        student_temperature: float = 0.1,
        teacher_temperature: Schedule = Warmup(0.04, 0.07, until=0.3),
        balance: Literal["centred", "sinkhorn"] = "centred",
        distance: float = 0.1,
        rest: float = 0.01,
    ) -> None:
        backbone = need_tokens(backbone, "DINOv2", "replaces")
        super().__init__(backbone, recipe)
        self.prototypes, self.hidden, self.bottleneck, self.momentum, self.rest = prototypes, hidden, bottleneck, momentum, rest
        self.student_temperature, self.teacher_temperature = student_temperature, teacher_temperature
        self.balance, self.distance, self.head_norm = balance, distance, head_norm
        self.blank = nn.Parameter(torch.zeros(backbone.dim))
        self.teacher = TokenTeacher(backbone, prototypes, hidden, bottleneck, momentum, heads="apart", norm=head_norm)

    def frozen(self, clock: Clock) -> tuple[nn.Module, ...]:
        """The prototypes, at the start."""
        return self.teacher.prototypes if clock.progress < self.rest else ()

    def forward(self, views: Views, clock: Clock) -> Outcome:
        masks, sharp = hint(views, "mask", "DINOv2").unbind(1), self.teacher_temperature(clock)
        logits = [self.teacher.teacher(view) for view in views.large]
        targets = [self.teacher.sharpened(pair, sharp) for pair in logits]
        whole = [target for target, _ in targets]
        if self.balance == "sinkhorn":
            whole = [local_rows(sinkhorn(all_gather_with_grad(rows), epsilon=sharp)) for rows, _ in logits]
        tokens = [self.backbone.tokens(view, replace=(mask, self.blank)) for view, mask in zip(views.large, masks, strict=True)]
        apart = torch.stack([nearest_spread(all_gather_with_grad(token.cls)) for token in tokens]).sum()
        tokens += [self.backbone.tokens(view) for view in views.small]
        guesses = [[rows / self.student_temperature for rows in self.teacher.student(token)] for token in tokens]
        triples = zip(guesses[: len(masks)], targets, masks, strict=True)
        hidden = [masked_cross_entropy(local, target, mask) for (_, local), (_, target), mask in triples]
        diagnostics = {"embedding": guesses[0][0].detach(), "assignment": whole[0], "chance": torch.tensor(float(self.prototypes)).log()}
        distil = across_views(soft_cross_entropy, [guess for guess, _ in guesses], whole)
        return Outcome({"distil": distil, "patches": torch.stack(hidden).mean(), "distance": self.distance * apart}, diagnostics)
