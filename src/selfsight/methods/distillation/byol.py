"""BYOL."""

from torch import nn

from selfsight.core.card import Card, Preset, Training, small_sgd
from selfsight.core.clock import Clock
from selfsight.core.method import Method, Outcome, Recipe
from selfsight.core.part import Chain
from selfsight.core.representation import Backbone
from selfsight.core.schedule import Cosine, Schedule
from selfsight.core.views import Views
from selfsight.data.views.image.recipes import BYOL_FIRST, BYOL_SECOND, TwoCrops, small_multi_crop
from selfsight.modules.heads import mlp
from selfsight.modules.momentum import Momentum
from selfsight.objectives.agree import across_views, cosine_distance

__all__ = ["BYOL"]


class BYOL(Method):
    """Predict the momentum encoder's embedding of another view (Grill et al. 2020, arXiv:2006.07733).

    Views pass batch norm one after another, as in the paper; with joint statistics training differs. Small views, if the recipe has any,
    are only used as input of the prediction: the paper has none, but they improve short runs on small images considerably. The paper's loss
    is the sum over both directions, twice the mean: ``scale`` is 2, and 1 in the settings for small images, whose learning rate was chosen
    with it.

    Args:
        hidden: width of the hidden layers of projector and predictor.
        dim: length of the embedding.
        momentum: momentum of the target encoder.
        predictor: whether there is a predictor; without it embeddings collapse (for experiments on collapse).
        scale: factor of the loss ``2 - 2 cos``, averaged over pairs of views.
    """

    card = Card("distillation", "aligning", "Grill et al. 2020, arXiv:2006.07733", decks=("000", "002", "003", "004"), coupled=False)
    paper = Training("lars", rate=0.2, decay=1.5e-6, warmup=0.01)
    small = Preset(
        small_sgd(0.5), {"recipe": small_multi_crop(), "hidden": 512, "dim": 128, "momentum": Cosine(0.95, 1.0), "scale": 1.0}, batch=32
    )

    def __init__(
        self,
        backbone: Backbone,
        *,
        recipe: Recipe = TwoCrops(BYOL_FIRST, BYOL_SECOND),
        hidden: int = 4096,
        dim: int = 256,
        momentum: Schedule = Cosine(0.996, 1.0),
        predictor: bool = True,
        scale: float = 2.0,
    ) -> None:
        super().__init__(backbone, recipe)
        self.hidden, self.dim, self.momentum, self.predictor, self.scale = hidden, dim, momentum, predictor, scale
        self.projector = mlp(backbone.dim, hidden, dim)
        self.guess = mlp(dim, hidden, dim) if predictor else nn.Identity()
        self.teacher = Momentum(Chain(backbone, self.projector), momentum)

    def forward(self, views: Views, clock: Clock) -> Outcome:
        embeddings = self.through(views.all, self.projector)
        targets = self.teacher.each(views.large)
        guesses = [self.guess(embedding) for embedding in embeddings]
        loss = self.scale * across_views(cosine_distance, guesses, targets)
        return Outcome({"distance": loss}, {"embedding": embeddings[0].detach()})
