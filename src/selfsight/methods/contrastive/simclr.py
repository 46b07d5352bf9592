"""SimCLR."""

from selfsight.core.card import Card, Preset, Training, small_sgd
from selfsight.core.clock import Clock
from selfsight.core.distribute import everyone
from selfsight.core.method import Method, Outcome, Recipe
from selfsight.core.representation import Backbone
from selfsight.core.views import Views
from selfsight.data.views.recipes import TwoCrops, small_crops
from selfsight.objectives.contrast import nt_xent
from selfsight.parts.heads import mlp

__all__ = ["SimCLR"]


class SimCLR(Method):
    """Two views of one image agree; all other images repel (Chen et al. 2020, arXiv:2002.05709).

    Args:
        hidden: width of the projector's hidden layer.
        dim: length of the embedding that is contrasted.
        temperature: divides the cosines.
    """

    card = Card("contrastive", "aligning", "Chen et al. 2020, arXiv:2002.05709", decks=("000", "002", "003", "004"))
    paper = Training("lars", rate=0.3, decay=1e-6, warmup=0.1)
    small = Preset(small_sgd(0.24), {"recipe": small_crops(), "hidden": 512, "temperature": 0.2}, batch=128)

    def __init__(
        self, backbone: Backbone, *, recipe: Recipe = TwoCrops(), hidden: int = 2048, dim: int = 128, temperature: float = 0.1
    ) -> None:
        super().__init__(backbone, recipe)
        self.hidden, self.dim, self.temperature = hidden, dim, temperature
        self.projector = mlp(backbone.dim, hidden, dim)

    def forward(self, views: Views, clock: Clock) -> Outcome:
        left, right = (self.projector(self.backbone(view).pooled) for view in views.large)
        everyones = everyone(left), everyone(right)
        return Outcome({"contrast": nt_xent(*everyones, self.temperature)}, {"embedding": left.detach()})
