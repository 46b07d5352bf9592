"""Distillation from a trained network."""

from torch import nn
from torch.nn.functional import interpolate

from selfsight.backbones.loading import load_representation, untrained
from selfsight.core.card import SMALL_ADAMW, Card, Preset, Training
from selfsight.core.clock import Clock
from selfsight.core.errors import UsageError
from selfsight.core.method import Method, Outcome, Recipe
from selfsight.core.representation import Backbone, grid_dim
from selfsight.core.views import Views
from selfsight.data.views.image.geometry import IMAGENET
from selfsight.data.views.image.recipes import SIMCLR, OneCrop, small_one_crop
from selfsight.modules.frozen import Frozen
from selfsight.objectives.agree import cosine_distance

__all__ = ["Distil"]


class Distil(Method):
    """Match a frozen network's pooled vector and grid (after Romero et al. 2014, arXiv:1412.6550; cosine instead of squared distances).

    Both get the same view. Effective for small data sets; the teacher may be any run, or any timm model.

    Args:
        teacher: a run's folder, ``timm:NAME``, or ``untrained:NAME`` (random weights: the effect of distillation alone).
        places: weight of the grids' term; the teacher's grid is resized to the student's.
    """

    card = Card("distillation", "aligning", "Romero et al. 2014, arXiv:1412.6550", coupled=False)
    paper = Training("adamw", rate=5e-4, decay=0.05, warmup=0.05, clip=3.0)
    small = Preset(SMALL_ADAMW, {"recipe": small_one_crop()}, batch=64)

    def __init__(self, backbone: Backbone, *, recipe: Recipe = OneCrop(SIMCLR), teacher: str = "", places: float = 1.0) -> None:
        if not teacher:
            raise UsageError("Distil was given no teacher.", "Give one: --teacher RUN, or --teacher timm:NAME.")
        super().__init__(backbone, recipe)
        self.places = places
        self.teacher, normalise = teacher, getattr(recipe, "normalise", IMAGENET)
        name = teacher.removeprefix("untrained:")
        phi = untrained(name) if name != teacher else load_representation(teacher)
        self.frozen_teacher = Frozen(phi, normalise.mean, normalise.std)
        self.pooled = nn.Linear(backbone.dim, phi.backbone.dim)
        self.place = nn.Conv2d(grid_dim(backbone), grid_dim(phi.backbone), 1)

    def forward(self, views: Views, clock: Clock) -> Outcome:
        teacher, features = self.frozen_teacher(views.large[0]), self.backbone(views.large[0])
        grid = interpolate(teacher.grid, features.grid.shape[2:], mode="bilinear", antialias=True)
        rows, target = (cells.permute(0, 2, 3, 1).flatten(0, 2) for cells in (self.place(features.grid), grid))
        losses = {
            "pooled": cosine_distance(self.pooled(features.pooled), teacher.pooled),
            "places": self.places * cosine_distance(rows, target),
        }
        return Outcome(losses, {"embedding": features.pooled.detach()})
