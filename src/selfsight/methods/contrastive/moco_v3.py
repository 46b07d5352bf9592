"""MoCo version 3."""

from functools import partial

from selfsight.core.card import SMALL_ADAMW, Card, Preset, Training
from selfsight.core.clock import Clock
from selfsight.core.distribute import all_gather_with_grad, local_rows
from selfsight.core.method import Method, Outcome, Recipe
from selfsight.core.part import Chain
from selfsight.core.representation import Backbone
from selfsight.core.schedule import Cosine, Schedule
from selfsight.core.views import Views
from selfsight.data.views.image.recipes import BYOL_FIRST, BYOL_SECOND, TwoCrops, small_crops
from selfsight.modules.heads import mlp
from selfsight.modules.momentum import Momentum
from selfsight.objectives.agree import across_views
from selfsight.objectives.contrast import info_nce

__all__ = ["MoCoV3"]


class MoCoV3(Method):
    """Contrast of a predicted query with momentum keys of the batch (Chen et al. 2021, arXiv:2104.02057).

    Negatives are those of the global batch; there is no queue. The loss of each direction is ``2 τ`` times the cross-entropy.

    Args:
        hidden: width of the hidden layers of projector and predictor.
        dim: length of a key.
        temperature: divides the cosine similarities.
        momentum: momentum of the key encoder.
        fixed_patches: freeze a transformer's patch embedding at its random initialisation, which stabilises training.
    """

    card = Card("contrastive", "aligning", "Chen et al. 2021, arXiv:2104.02057", decks=("000", "002", "004"))
    paper = Training("adamw", rate=1.5e-4, decay=0.1, warmup=0.1333)
    small = Preset(SMALL_ADAMW, {"recipe": small_crops(), "hidden": 512, "dim": 128, "momentum": Cosine(0.95, 1.0)}, batch=64)

    def __init__(
        self,
        backbone: Backbone,
        *,
        recipe: Recipe = TwoCrops(BYOL_FIRST, BYOL_SECOND),
        hidden: int = 4096,
        dim: int = 256,
        temperature: float = 0.2,
        momentum: Schedule = Cosine(0.99, 1.0),
        fixed_patches: bool = True,
    ) -> None:
        super().__init__(backbone, recipe)
        self.hidden, self.dim, self.temperature, self.momentum, self.fixed_patches = hidden, dim, temperature, momentum, fixed_patches
        self.projector = mlp(backbone.dim, hidden, hidden, dim, final="plain norm")
        self.predictor = mlp(dim, hidden, dim)
        if fixed_patches and hasattr(backbone, "patch_embed"):
            backbone.patch_embed.requires_grad_(requires_grad=False)  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
        self.teacher = Momentum(Chain(backbone, self.projector), momentum)

    def forward(self, views: Views, clock: Clock) -> Outcome:
        queries = [all_gather_with_grad(row) for row in self.through(views.large, self.projector, self.predictor)]
        keys = [all_gather_with_grad(row) for row in self.teacher.each(views.large)]
        loss = 4 * self.temperature * across_views(partial(info_nce, temperature=self.temperature), queries, keys)
        return Outcome({"contrast": loss}, {"embedding": local_rows(queries[0]).detach()})
