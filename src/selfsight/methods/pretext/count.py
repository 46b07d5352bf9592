"""Counting."""

import torch
from torch.nn.functional import avg_pool2d, relu

from selfsight.core.card import Card, Preset, Training
from selfsight.core.clock import Clock
from selfsight.core.distribute import all_gather_with_grad, local_rows
from selfsight.core.method import Method, Outcome, Recipe
from selfsight.core.representation import Backbone
from selfsight.core.views import Views
from selfsight.data.views.image.geometry import Crop
from selfsight.data.views.image.recipes import OneCrop, View
from selfsight.modules.heads import linear
from selfsight.objectives.agree import counting

__all__ = ["Count"]


class Count(Method):
    """Feature counts of the four quarters sum up to those of the image (Noroozi et al. 2017, arXiv:1708.06734).

    The image is downsampled by two to the size of its quarters. Another image of the global batch must have different counts. Two thirds
    of the images are grey, against chromatic aberration.

    Args:
        things: number of counted features.
        margin: squared distance to the counts of another image.
    """

    card = Card("pretext", "discriminative", "Noroozi et al. 2017, arXiv:1708.06734", decks=("003",))
    paper = Training("adamw", rate=1e-4, decay=1e-4, warmup=0.0, final=0.1)
    small = Preset(Training("sgd", rate=0.12, decay=5e-4, warmup=0.05, clip=5.0), {"things": 256}, batch=64)

    def __init__(
        self, backbone: Backbone, *, recipe: Recipe = OneCrop(View(Crop((0.2, 1.0)), grey=0.67)), things: int = 1000, margin: float = 10.0
    ) -> None:
        super().__init__(backbone, recipe)
        self.things, self.margin = things, margin
        self.counter = linear(backbone.dim, things)

    def forward(self, views: Views, clock: Clock) -> Outcome:
        image = views.large[0]
        quarters = [quarter for half in image.chunk(2, 2) for quarter in half.chunk(2, 3)]
        pooled = self.backbone(torch.cat([avg_pool2d(image, 2), *quarters])).pooled
        whole, *parts = relu(self.counter(pooled)).chunk(5)
        other = local_rows(all_gather_with_grad(whole).roll(1, 0))
        loss = counting(sum(parts[1:], parts[0]), whole, other, self.margin)
        return Outcome({"count": loss}, {"embedding": pooled[: len(views)].detach()})
