"""VICReg."""

from selfsight.core.card import Card, Preset, Training
from selfsight.core.clock import Clock
from selfsight.core.distribute import all_gather_with_grad
from selfsight.core.method import Method, Outcome, Recipe
from selfsight.core.representation import Backbone
from selfsight.core.views import Views
from selfsight.data.views.image.recipes import BYOL_FIRST, BYOL_SECOND, TwoCrops, small_crops
from selfsight.modules.heads import mlp
from selfsight.objectives.agree import mean_squared_error
from selfsight.objectives.decorrelate import covariance_energy, variance_hinge

__all__ = ["VICReg"]


class VICReg(Method):
    """Invariance of views, variance and decorrelation of coordinates over each view's global batch (Bardes et al. 2021, arXiv:2105.04906).

    Args:
        hidden: width of the projector's two hidden layers.
        dim: length of the embedding.
        invariance: weight of the invariance term.
        variance: weight of the variance term.
        covariance: weight of the covariance term.
        halved: the variance term is the mean over both views, as in the published code, instead of their sum, as in the paper.
    """

    card = Card("decorrelation", "aligning", "Bardes et al. 2021, arXiv:2105.04906")
    paper = Training("lars", rate=0.2, decay=1e-6, warmup=0.01, final=0.001)
    small = Preset(
        Training("sgd", rate=0.06, decay=5e-4, warmup=0.1, clip=5.0),
        {"recipe": small_crops(), "hidden": 512, "dim": 512, "invariance": 1.0, "variance": 1.0, "covariance": 0.04, "halved": False},
        batch=128,
    )

    def __init__(
        self,
        backbone: Backbone,
        *,
        recipe: Recipe = TwoCrops(BYOL_FIRST, BYOL_SECOND),
        hidden: int = 8192,
        dim: int = 8192,
        invariance: float = 25.0,
        variance: float = 25.0,
        covariance: float = 1.0,
        halved: bool = True,
    ) -> None:
        super().__init__(backbone, recipe)
        self.hidden, self.dim, self.invariance, self.variance, self.covariance = hidden, dim, invariance, variance, covariance
        self.halved = halved
        self.projector = mlp(backbone.dim, hidden, hidden, dim)

    def forward(self, views: Views, clock: Clock) -> Outcome:
        left, right = (all_gather_with_grad(row) for row in self.through(views.large, self.projector))
        missing = (variance_hinge(left) + variance_hinge(right)) / (2 if self.halved else 1)
        losses = {
            "invariance": self.invariance * mean_squared_error(left, right),
            "variance": self.variance * missing,
            "covariance": self.covariance * (covariance_energy(left) + covariance_energy(right)),
        }
        return Outcome(losses, {"embedding": left.detach()})
