"""LeJEPA."""

from types import MappingProxyType

import torch
from torch.nn.functional import normalize

from selfsight.core.bounds import FRACTION
from selfsight.core.card import Card, Preset, Training
from selfsight.core.clock import Clock, key
from selfsight.core.distribute import all_gather_with_grad
from selfsight.core.method import Method, Outcome, Recipe
from selfsight.core.representation import Backbone
from selfsight.core.views import Views
from selfsight.data.views.image.published import LEJEPA_LARGE, LEJEPA_SMALL
from selfsight.data.views.image.recipes import MultiCrop, small_multi_crop
from selfsight.modules.heads import mlp
from selfsight.objectives.agree import mean_squared_error
from selfsight.objectives.spread import gaussianity

__all__ = ["LeJEPA"]


class LeJEPA(Method):
    """Views predict their mean, and embeddings follow a normal distribution (Balestriero & LeCun 2025, arXiv:2511.08544).

    ``(1 - λ) E |z_v - mean of the large views|² / d + λ SIGReg``, the latter the mean over views of a test of normality along random
    directions, over the global batch, with new directions at every step. There is no teacher and no predictor.

    Args:
        hidden: width of the projector's two hidden layers.
        dim: length of the embedding.
        weight: λ.
        directions: number of directions of the test.
    """

    card = Card("decorrelation", "aligning", "Balestriero & LeCun 2025, arXiv:2511.08544")
    paper = Training("adamw", rate=5e-4, decay=0.05, warmup=0.05, final=0.001)
    limits = MappingProxyType({"weight": FRACTION})
    small = Preset(
        Training("adamw", rate=4e-3, decay=0.05, warmup=0.1, clip=5.0),
        {"recipe": small_multi_crop(), "hidden": 512, "dim": 64, "directions": 128},
        batch=64,
    )

    def __init__(
        self,
        backbone: Backbone,
        *,
        recipe: Recipe = MultiCrop(LEJEPA_LARGE, LEJEPA_LARGE, LEJEPA_SMALL, 6, small_size=98 / 224),
        hidden: int = 2048,
        dim: int = 128,
        weight: float = 0.05,
        directions: int = 1024,
    ) -> None:
        super().__init__(backbone, recipe)
        self.hidden, self.dim, self.weight, self.directions = hidden, dim, weight, directions
        self.projector = mlp(backbone.dim, hidden, hidden, dim)

    def forward(self, views: Views, clock: Clock) -> Outcome:
        rows = self.through(views.all, self.projector)
        centre = torch.stack(rows[: len(views.large)]).mean(0)
        near = torch.stack([mean_squared_error(row, centre) for row in rows]).mean()
        generator = torch.Generator().manual_seed(key(clock.seed, clock.step, 0x51))
        along = normalize(torch.randn(self.directions, self.dim, generator=generator, dtype=torch.float64))
        normal = torch.stack([gaussianity(all_gather_with_grad(row), along) for row in rows]).mean()
        return Outcome({"near": (1 - self.weight) * near, "normal": self.weight * normal}, {"embedding": rows[0].detach()})
