"""SimMIM."""

import torch
from torch import nn

from selfsight.core.card import Card, Preset, Training
from selfsight.core.clock import Clock
from selfsight.core.method import Method, Outcome, Recipe, hint
from selfsight.core.representation import Backbone, TokenBackbone, need_tokens
from selfsight.core.views import Views
from selfsight.data.views.image.masks import RandomPatches
from selfsight.data.views.image.recipes import OneCrop
from selfsight.objectives.reconstruct import masked_mae, patches

__all__ = ["SimMIM"]


class SimMIM(Method[TokenBackbone]):
    """Replace masked patches by a learnt token and predict them with a linear layer (Xie et al. 2021, arXiv:2111.09886).

    The loss is the mean absolute error of normalised pixels over masked patches.
    """

    card = Card("masked", "generative", "Xie et al. 2021, arXiv:2111.09886", decks=("004",), probe="linear", coupled=False)
    paper = Training("adamw", rate=8e-4, reference_batch=2048, decay=0.05, warmup=0.1, clip=5.0)
    small = Preset(Training("adamw", rate=1e-3, decay=0.05, warmup=0.1, clip=5.0), {}, batch=128, backbone="vit_nano?pool=mean")

    def __init__(self, backbone: Backbone, *, recipe: Recipe = OneCrop(mask=RandomPatches(0.6))) -> None:
        backbone = need_tokens(backbone, "SimMIM", "replaces")
        super().__init__(backbone, recipe)
        self.blank = nn.Parameter(torch.zeros(backbone.dim))
        self.paint = nn.Linear(backbone.dim, backbone.channels * backbone.stride**2)
        nn.init.trunc_normal_(self.blank, std=0.02)

    def forward(self, views: Views, clock: Clock) -> Outcome:
        image, hidden = views.large[0], hint(views, "mask", "SimMIM")[:, 0]
        tokens = self.backbone.tokens(image, replace=(hidden, self.blank))
        painted = self.paint(tokens.patches)
        loss = masked_mae(painted, patches(image, self.backbone.stride), hidden)
        return Outcome({"paint": loss}, {"embedding": tokens.patches.detach().mean(1)})
