"""SimCLR."""

from functools import partial
from types import MappingProxyType

from torch import nn

from selfsight.core.bounds import AT_LEAST_0
from selfsight.core.card import Card, Preset, Training, small_sgd
from selfsight.core.clock import Clock
from selfsight.core.distribute import all_gather_with_grad
from selfsight.core.method import Method, Outcome, Recipe
from selfsight.core.representation import Backbone
from selfsight.core.views import Views
from selfsight.data.views.image.recipes import TwoCrops, small_crops
from selfsight.modules.heads import mlp
from selfsight.objectives.agree import across_pairs
from selfsight.objectives.contrast import nt_xent

__all__ = ["SimCLR"]


class SimCLR(Method):
    """Two views of one image attract, all other images repel (Chen et al. 2020, arXiv:2002.05709).

    Small views, if the recipe has any, are paired with each large one, as in Caron et al. 2020, arXiv:2006.09882.

    Args:
        hidden: width of the projector's hidden layer; 0: a linear projector.
        dim: length of the embedding; 0: the backbone's pooled vector is contrasted.
        temperature: divides the cosine similarities.
        scale: factor of the loss, the mean over both directions; the published code adds them (2).
    """

    card = Card("contrastive", "aligning", "Chen et al. 2020, arXiv:2002.05709", decks=("000", "002", "003", "004"))
    paper = Training("lars", rate=0.3, decay=1e-6, warmup=0.1)
    limits = MappingProxyType({"hidden": AT_LEAST_0, "dim": AT_LEAST_0})
    small = Preset(small_sgd(0.24), {"recipe": small_crops(), "hidden": 512, "temperature": 0.2, "scale": 1.0}, batch=128)

    def __init__(
        self,
        backbone: Backbone,
        *,
        recipe: Recipe = TwoCrops(),
        hidden: int = 2048,
        dim: int = 128,
        temperature: float = 0.1,
        scale: float = 2.0,
    ) -> None:
        super().__init__(backbone, recipe)
        self.hidden, self.dim, self.temperature, self.scale = hidden, dim, temperature, scale
        self.projector = mlp(backbone.dim, *([hidden] if hidden else []), dim) if dim else nn.Identity()

    def forward(self, views: Views, clock: Clock) -> Outcome:
        rows = self.through(views.all, self.projector)
        embeddings = [all_gather_with_grad(row) for row in rows]
        loss = self.scale * across_pairs(partial(nt_xent, temperature=self.temperature), embeddings, len(views.large))
        return Outcome({"contrast": loss}, {"embedding": rows[0].detach()})
