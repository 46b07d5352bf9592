"""SimSiam."""

from torch import nn

from selfsight.core.card import Card, Preset, Training, small_sgd
from selfsight.core.clock import Clock
from selfsight.core.method import Method, Outcome, Recipe
from selfsight.core.representation import Backbone
from selfsight.core.views import Views
from selfsight.data.views.image.recipes import MOCO, TwoCrops, small_crops
from selfsight.modules.heads import ConstantRate, mlp
from selfsight.objectives.agree import across_views, cosine_distance

__all__ = ["SimSiam"]


class SimSiam(Method):
    """Two views predict each other, with stopped gradient at the target (Chen & He 2020, arXiv:2011.10566).

    The predictor's learning rate is constant. The paper's loss, ``-½ cos(p1, z2) - ½ cos(p2, z1)``, has half the gradient of the mean of
    ``2 - 2 cos``: ``scale`` is 0.5, and 1 in the settings for small images, whose learning rate was chosen with it.

    Args:
        dim: length of the embedding, and width of the projector.
        bottleneck: width of the predictor's hidden layer.
        predictor: whether there is a predictor; without it embeddings collapse (for experiments on collapse).
        stop: whether the target's gradient is stopped; without that embeddings collapse too.
        scale: factor of the loss ``2 - 2 cos``, averaged over pairs of views.
    """

    card = Card("distillation", "aligning", "Chen & He 2020, arXiv:2011.10566", decks=("002",), coupled=False)
    paper = Training("sgd", rate=0.05, decay=1e-4, warmup=0.0)
    small = Preset(small_sgd(0.25), {"recipe": small_crops(), "dim": 512, "bottleneck": 128, "scale": 1.0}, batch=64)

    def __init__(
        self,
        backbone: Backbone,
        *,
        recipe: Recipe = TwoCrops(MOCO, MOCO),
        dim: int = 2048,
        bottleneck: int = 512,
        predictor: bool = True,
        stop: bool = True,
        scale: float = 0.5,
    ) -> None:
        super().__init__(backbone, recipe)
        self.dim, self.bottleneck, self.predictor, self.stop, self.scale = dim, bottleneck, predictor, stop, scale
        self.projector = mlp(backbone.dim, dim, dim, dim, final="plain norm")
        self.guess = ConstantRate(mlp(dim, bottleneck, dim)) if predictor else nn.Identity()

    def forward(self, views: Views, clock: Clock) -> Outcome:
        embeddings = self.through(views.large, self.projector)
        targets = [embedding.detach() for embedding in embeddings] if self.stop else embeddings
        guesses = [self.guess(embedding) for embedding in embeddings]
        loss = self.scale * across_views(cosine_distance, guesses, targets)
        return Outcome({"distance": loss}, {"embedding": embeddings[0].detach()})
