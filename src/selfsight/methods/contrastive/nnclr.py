"""NNCLR."""

from functools import partial

import torch
from torch.nn.functional import normalize

from selfsight.core.card import Card, Preset, Training, small_sgd
from selfsight.core.clock import Clock
from selfsight.core.distribute import all_gather_with_grad
from selfsight.core.method import Method, Outcome, Recipe
from selfsight.core.representation import Backbone
from selfsight.core.views import Views
from selfsight.data.views.image.recipes import TwoCrops, small_crops
from selfsight.modules.heads import mlp
from selfsight.modules.queue import Queue
from selfsight.objectives.agree import across_views
from selfsight.objectives.contrast import info_nce
from selfsight.objectives.precision import at_least_single

__all__ = ["NNCLR"]


class NNCLR(Method):
    """The nearest neighbour of one view among earlier embeddings is the positive of the other view (Dwibedi et al. 2021, arXiv:2104.14548).

    Neighbours come from a queue of embeddings of the global batch; the current rows are added after the step, so no image finds itself.

    Args:
        hidden: width of the hidden layers of projector and predictor.
        dim: length of the embedding.
        temperature: divides the cosine similarities.
        support: size of the queue.
    """

    card = Card("contrastive", "aligning", "Dwibedi et al. 2021, arXiv:2104.14548")
    paper = Training("lars", rate=0.3, decay=1e-6, warmup=0.01)
    small = Preset(small_sgd(0.24), {"recipe": small_crops(), "hidden": 512, "dim": 128, "temperature": 0.2, "support": 2048}, batch=128)

    def __init__(
        self,
        backbone: Backbone,
        *,
        recipe: Recipe = TwoCrops(),
        hidden: int = 2048,
        dim: int = 256,
        temperature: float = 0.1,
        support: int = 98_304,
    ) -> None:
        super().__init__(backbone, recipe)
        self.hidden, self.dim, self.temperature, self.support = hidden, dim, temperature, support
        self.projector = mlp(backbone.dim, hidden, hidden, dim, final="norm")
        self.predictor = mlp(dim, hidden, dim)
        self.queue = Queue(support, dim)

    def forward(self, views: Views, clock: Clock) -> Outcome:
        embeddings = self.through(views.large, self.projector)
        guesses = [all_gather_with_grad(self.predictor(embedding)) for embedding in embeddings]
        unit = [normalize(at_least_single(all_gather_with_grad(embedding.detach()))) for embedding in embeddings]
        friends = [self._nearest(rows) for rows in unit]
        self.queue.note(unit[0])
        loss = across_views(partial(info_nce, temperature=self.temperature), friends, guesses)
        return Outcome({"contrast": loss}, {"embedding": embeddings[0].detach()})

    @torch.no_grad()
    def _nearest(self, rows: torch.Tensor) -> torch.Tensor:
        """Nearest neighbour of each row in the queue; the row itself while the queue is empty."""
        known = self.queue.read().to(rows.dtype)
        return known[(rows @ known.T).argmax(1)] if len(known) else rows
