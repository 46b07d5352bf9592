"""Barlow Twins."""

from selfsight.core.card import SMALL_ADAMW, Card, Preset, Training
from selfsight.core.clock import Clock
from selfsight.core.distribute import all_gather_with_grad
from selfsight.core.method import Method, Outcome, Recipe
from selfsight.core.representation import Backbone
from selfsight.core.views import Views
from selfsight.data.views.image.recipes import BYOL_FIRST, BYOL_SECOND, TwoCrops, small_crops
from selfsight.modules.heads import mlp
from selfsight.objectives.decorrelate import correlation_to_identity

__all__ = ["BarlowTwins"]


class BarlowTwins(Method):
    """The cross-correlation matrix of two views approaches the identity (Zbontar et al. 2021, arXiv:2103.03230).

    Args:
        hidden: width of the projector's two hidden layers.
        dim: length of the embedding.
        off_diagonal: weight of the redundancy term.
        scale: factor of the loss; 0.024 in the paper's code, whose gradient is smaller by the number of devices.
    """

    card = Card("decorrelation", "aligning", "Zbontar et al. 2021, arXiv:2103.03230", decks=("004",))
    paper = Training("lars", rate=0.2, decay=1e-6, warmup=0.01, final=0.001)
    small = Preset(SMALL_ADAMW, {"recipe": small_crops(), "hidden": 512, "dim": 512, "scale": 0.1}, batch=64)

    def __init__(
        self,
        backbone: Backbone,
        *,
        recipe: Recipe = TwoCrops(BYOL_FIRST, BYOL_SECOND),
        hidden: int = 8192,
        dim: int = 8192,
        off_diagonal: float = 0.0051,
        scale: float = 0.024,
    ) -> None:
        super().__init__(backbone, recipe)
        self.hidden, self.dim, self.off_diagonal, self.scale = hidden, dim, off_diagonal, scale
        self.projector = mlp(backbone.dim, hidden, hidden, dim)

    def forward(self, views: Views, clock: Clock) -> Outcome:
        left, right = self.through(views.large, self.projector)
        loss = self.scale * correlation_to_identity(all_gather_with_grad(left), all_gather_with_grad(right), self.off_diagonal)
        return Outcome({"correlation": loss}, {"embedding": left.detach()})
