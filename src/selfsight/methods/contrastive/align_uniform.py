"""Alignment and uniformity."""

from selfsight.core.card import Card, Preset, Training, small_sgd
from selfsight.core.clock import Clock
from selfsight.core.distribute import all_gather_with_grad
from selfsight.core.method import Method, Outcome, Recipe
from selfsight.core.representation import Backbone
from selfsight.core.views import Views
from selfsight.data.views.image.recipes import TwoCrops, small_crops
from selfsight.modules.heads import mlp
from selfsight.objectives.spread import alignment, uniformity

__all__ = ["AlignUniform"]


class AlignUniform(Method):
    """Alignment of views and uniformity of images on the sphere (Wang & Isola 2020, arXiv:2005.10242).

    ``a E|x - y|^α + u log E exp(-t |x - x'|²)``, the second term for each view over the global batch.

    Args:
        hidden: width of the projector's hidden layer.
        dim: length of the embedding.
        align: a, weight of alignment.
        uniform: u, weight of uniformity.
        power: α.
        sharpness: t.
    """

    card = Card("contrastive", "aligning", "Wang & Isola 2020, arXiv:2005.10242", decks=("003",))
    paper = Training("sgd", rate=0.12, decay=1e-4, warmup=0.0)
    small = Preset(small_sgd(0.24), {"recipe": small_crops(), "hidden": 512}, batch=128)

    def __init__(
        self,
        backbone: Backbone,
        *,
        recipe: Recipe = TwoCrops(),
        hidden: int = 2048,
        dim: int = 128,
        align: float = 1.0,
        uniform: float = 1.0,
        power: float = 2.0,
        sharpness: float = 2.0,
    ) -> None:
        super().__init__(backbone, recipe)
        self.hidden, self.dim, self.align, self.uniform, self.power, self.sharpness = hidden, dim, align, uniform, power, sharpness
        self.projector = mlp(backbone.dim, hidden, dim)

    def forward(self, views: Views, clock: Clock) -> Outcome:
        left, right = (all_gather_with_grad(row) for row in self.through(views.large, self.projector))
        spread = (uniformity(left, self.sharpness) + uniformity(right, self.sharpness)) / 2
        losses = {"align": self.align * alignment(left, right, self.power), "uniform": self.uniform * spread}
        return Outcome(losses, {"embedding": left.detach()})
