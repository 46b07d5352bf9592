"""IIC."""

import torch
from torch import nn
from torch.nn.functional import softmax

from selfsight.core.card import Card, Preset, Training
from selfsight.core.clock import Clock
from selfsight.core.distribute import all_gather_with_grad
from selfsight.core.method import Method, Outcome, Recipe
from selfsight.core.representation import Backbone
from selfsight.core.views import Views
from selfsight.data.views.image.recipes import TwoCrops, small_crops
from selfsight.modules.heads import linear
from selfsight.objectives.agree import mutual_information
from selfsight.objectives.precision import at_least_single

__all__ = ["IIC"]


class IIC(Method):
    """Maximise the mutual information of the cluster assignments of two views (Ji et al. 2018, arXiv:1807.06653).

    Computed over the global batch; its entropy term prevents empty clusters. The paper trains the heads for the target clusters and for
    over-clustering in alternate epochs; here they are trained together.

    Args:
        clusters: outputs of a head.
        more: outputs of an over-clustering head.
        heads: heads of each kind, with different initialisation.
    """

    card = Card("clustering", "clustering", "Ji et al. 2018, arXiv:1807.06653", decks=("000",))
    paper = Training("adamw", rate=1e-4, reference_batch=660, decay=0.0, warmup=0.0, final=1.0)
    small = Preset(Training("adamw", rate=4e-3, decay=5e-4, warmup=0.1), {"recipe": small_crops()}, batch=128)

    def __init__(self, backbone: Backbone, *, recipe: Recipe = TwoCrops(), clusters: int = 10, more: int = 70, heads: int = 5) -> None:
        super().__init__(backbone, recipe)
        self.clusters, self.more, self.heads = clusters, more, heads
        self.classifiers = nn.ModuleList(linear(backbone.dim, size) for size in (clusters, more) for _ in range(heads))

    def forward(self, views: Views, clock: Clock) -> Outcome:
        left, right = self.through(views.large)
        guesses = [tuple(softmax(at_least_single(head(rows)), 1) for rows in (left, right)) for head in self.classifiers]
        shared = [mutual_information(all_gather_with_grad(one), all_gather_with_grad(other)) for one, other in guesses]
        few, many = torch.stack(shared).view(2, self.heads).mean(1)
        losses = {"clusters": -few, "more": -many}
        return Outcome(losses, {"embedding": left.detach(), "assignment": guesses[0][0].detach()})
