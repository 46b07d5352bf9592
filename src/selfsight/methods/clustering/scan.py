"""SCAN."""

from collections.abc import Iterable

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn.functional import softmax

from selfsight.core.card import Card, Preset, Training
from selfsight.core.clock import Clock, key
from selfsight.core.distribute import all_gather_with_grad
from selfsight.core.method import Extract, Method, Outcome, Recipe, two_views
from selfsight.core.part import Chain
from selfsight.core.representation import Backbone
from selfsight.core.views import Views
from selfsight.data.views.image.recipes import SIMCLR, OneCrop, small_one_crop
from selfsight.modules.heads import linear
from selfsight.modules.neighbours import Neighbours
from selfsight.modules.table import uniform_hash
from selfsight.objectives.agree import neighbour_consistency
from selfsight.objectives.precision import at_least_single

__all__ = ["SCAN"]


class SCAN(Method):
    """An image and its neighbours have the same cluster, and all clusters are used (Van Gansbeke et al. 2020, arXiv:2005.12320).

    Neighbours are those of the initial representation, learnt by another method: ``--init RUN``. The paper's last stage, self-labelling,
    is not included.

    Args:
        clusters: outputs of each head.
        heads: number of heads with different initialisation.
        neighbours: number of neighbours of each image, one of which is drawn per step.
        balance: λ, weight of the entropy of the mean assignment.
    """

    card = Card("clustering", "clustering", "Van Gansbeke et al. 2020, arXiv:2005.12320", decks=("000", "004"))
    paper = Training("adamw", rate=2e-4, reference_batch=128, decay=1e-4, warmup=0.0, final=1.0)
    small = Preset(Training("adamw", rate=1e-3, decay=1e-4, warmup=0.0, final=1.0), {"recipe": small_one_crop()}, batch=128)

    def __init__(
        self,
        backbone: Backbone,
        *,
        recipe: Recipe = OneCrop(SIMCLR),
        clusters: int = 10,
        heads: int = 4,
        neighbours: int = 20,
        balance: float = 5.0,
    ) -> None:
        super().__init__(backbone, recipe)
        self.clusters, self.heads, self.neighbours, self.balance = clusters, heads, neighbours, balance
        self.classifiers = nn.ModuleList(linear(backbone.dim, clusters) for _ in range(heads))
        self.near = Neighbours()

    def due(self, clock: Clock) -> bool:
        """Before the first step only."""
        return clock.step == 0

    def relabel(self, extract: Extract, clock: Clock) -> Iterable[nn.Module]:
        """Find the neighbours of all images."""
        self.near.set(*extract(Chain(self.backbone)), self.neighbours)
        return []

    def extra_samples(self, index: Int[Tensor, " batch"], clock: Clock) -> Int[Tensor, " batch"]:
        """One random neighbour of each sample."""
        near = self.near[index]
        drawn = (uniform_hash(index, key(clock.seed, clock.step, 0x5C)) * near.shape[1]).long()
        return near.gather(1, drawn[:, None])[:, 0]

    def forward(self, views: Views, clock: Clock) -> Outcome:
        own, other = self.through(two_views(views, "SCAN"))
        guesses = [[softmax(at_least_single(head(rows)), 1) for rows in (own, other)] for head in self.classifiers]
        terms = [neighbour_consistency(all_gather_with_grad(one), all_gather_with_grad(two), self.balance) for one, two in guesses]
        return Outcome({"agree": torch.stack(terms).mean()}, {"embedding": own.detach(), "assignment": guesses[0][0].detach()})
