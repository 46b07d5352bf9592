"""iBOT."""

import torch
from torch import nn

from selfsight.core.card import Card, Preset, Training
from selfsight.core.clock import Clock
from selfsight.core.method import Method, Outcome, Recipe, hint
from selfsight.core.representation import Backbone, TokenBackbone, need_tokens
from selfsight.core.schedule import Constant, Cosine, Schedule, Warmup
from selfsight.core.views import Views
from selfsight.data.views.image.masks import Blocks
from selfsight.data.views.image.published import IBOT_FIRST, IBOT_SECOND, IBOT_SMALL
from selfsight.data.views.image.recipes import MultiCrop
from selfsight.modules.token_teacher import TokenTeacher
from selfsight.objectives.agree import across_views, masked_cross_entropy, soft_cross_entropy

__all__ = ["IBOT"]


class IBOT(Method[TokenBackbone]):
    """DINO with an additional loss for masked patches (Zhou et al. 2021, arXiv:2111.07832).

    The teacher gets the full view. The image loss is across views, the patch loss within a view. Both share a head, with separate centres.

    Args:
        prototypes, hidden, bottleneck: outputs of the head; width of its hidden layers; length of the embedding before the prototypes.
        head_norm, momentum: whether the head has batch norm; momentum of the teacher.
        student_temperature, teacher_temperature: divide the logits of each (lower is sharper).
        rest: fraction of the run in which prototypes are frozen, at its start.
    """

    card = Card("distillation", "aligning", "Zhou et al. 2021, arXiv:2111.07832", decks=("004",), coupled=False)
    paper = Training("adamw", rate=5e-4, decay=0.04, warmup=0.0125, final=0.0005, clip=3.0)
    small = Preset(
        Training("adamw", rate=2e-3, decay=0.04, warmup=0.1, clip=3.0),
        {"prototypes": 256, "hidden": 512, "bottleneck": 128, "head_norm": True, "momentum": Cosine(0.95, 1.0),
         "teacher_temperature": Constant(0.04), "rest": 0.01, "recipe": MultiCrop(count=2, small_size=0.5, mask=Blocks(0.1, 0.5, p=0.5))},
        batch=64, backbone="vit_nano"
    )  # fmt: skip

    def __init__(
        self,
        backbone: Backbone,
        *,
        recipe: Recipe = MultiCrop(IBOT_FIRST, IBOT_SECOND, IBOT_SMALL, 10, mask=Blocks(0.1, 0.5, p=0.5)),
        prototypes: int = 8192,
        hidden: int = 2048,
        bottleneck: int = 256,
        head_norm: bool = False,
        momentum: Schedule = Cosine(0.996, 1.0),
        student_temperature: float = 0.1,
        teacher_temperature: Schedule = Warmup(0.04, 0.07, until=0.0375),
        rest: float = 0.00125,
    ) -> None:
        backbone = need_tokens(backbone, "iBOT", "replaces")
        super().__init__(backbone, recipe)
        self.prototypes, self.hidden, self.bottleneck, self.momentum, self.rest = prototypes, hidden, bottleneck, momentum, rest
        self.student_temperature, self.teacher_temperature, self.head_norm = student_temperature, teacher_temperature, head_norm
        self.blank = nn.Parameter(torch.zeros(backbone.dim))
        self.teacher = TokenTeacher(backbone, prototypes, hidden, bottleneck, momentum, norm=head_norm)

    def frozen(self, clock: Clock) -> tuple[nn.Module, ...]:
        """The prototypes, at the start."""
        return self.teacher.prototypes if clock.progress < self.rest else ()

    def forward(self, views: Views, clock: Clock) -> Outcome:
        masks = hint(views, "mask", "iBOT").unbind(1)
        targets = [self.teacher.sharpened(self.teacher.teacher(view), self.teacher_temperature(clock)) for view in views.large]
        tokens = [self.backbone.tokens(view, replace=(mask, self.blank)) for view, mask in zip(views.large, masks, strict=True)]
        tokens += [self.backbone.tokens(view) for view in views.small]
        guesses, local = zip(*(self.teacher.student(token) for token in tokens), strict=True)
        guesses = [guess / self.student_temperature for guess in guesses]
        hidden = [
            masked_cross_entropy(rows / self.student_temperature, target, mask)
            for rows, (_, target), mask in zip(local[: len(masks)], targets, masks, strict=True)
        ]
        diagnostics = {"embedding": guesses[0].detach(), "assignment": targets[0][0], "chance": torch.tensor(float(self.prototypes)).log()}
        distil = across_views(soft_cross_entropy, guesses, [target for target, _ in targets])
        return Outcome({"distil": distil, "patches": torch.stack(hidden).mean()}, diagnostics)
