"""SwAV."""

import torch
from torch import nn
from torch.nn.functional import normalize, softmax

from selfsight.core.card import Card, Preset, Training
from selfsight.core.clock import Clock
from selfsight.core.distribute import all_gather_with_grad, local_rows
from selfsight.core.method import Method, Outcome, Recipe
from selfsight.core.representation import Backbone
from selfsight.core.views import Views
from selfsight.data.views.image.recipes import SWAV_LARGE, SWAV_SMALL, MultiCrop, small_multi_crop
from selfsight.modules.heads import mlp
from selfsight.modules.prototypes import Prototypes
from selfsight.modules.queue import Queue
from selfsight.objectives.agree import across_views, soft_cross_entropy
from selfsight.objectives.assign import sinkhorn
from selfsight.objectives.precision import at_least_single

__all__ = ["SwAV"]


class SwAV(Method):
    """Each view predicts the other view's balanced assignment to prototypes (Caron et al. 2020, arXiv:2006.09882).

    Assignments are computed over the global batch and, once it is full, a queue of earlier embeddings.

    Args:
        hidden, dim: width of the projector's hidden layer; length of the embedding.
        clusters: number of prototypes.
        temperature, epsilon, rounds: divides the student's cosine similarities; smoothness of the assignment; Sinkhorn-Knopp iterations.
        queue, queue_from: embeddings stored for each of the two large views (0 for none); fraction of the run from which they are used.
        rest: fraction of the run in which prototypes are frozen, at its start.
        balancing: whether assignments are balanced; otherwise one prototype takes all images (for experiments on collapse).
    """

    card = Card("clustering", "clustering", "Caron et al. 2020, arXiv:2006.09882", decks=("000", "003", "004"))
    paper = Training("lars", rate=0.6, decay=1e-6, warmup=0.0, final=0.001)
    small = Preset(
        Training(rate=0.48, warmup=0.05), {"recipe": small_multi_crop(), "hidden": 512, "clusters": 64, "queue": 0, "rest": 0.01}, batch=128
    )

    def __init__(
        self,
        backbone: Backbone,
        *,
        recipe: Recipe = MultiCrop(SWAV_LARGE, SWAV_LARGE, SWAV_SMALL, 6),
        hidden: int = 2048,
        dim: int = 128,
        clusters: int = 3000,
        temperature: float = 0.1,
        epsilon: float = 0.05,
        rounds: int = 3,
        queue: int = 3840,
        queue_from: float = 0.075,
        rest: float = 0.005,
        balancing: bool = True,
    ) -> None:
        super().__init__(backbone, recipe)
        self.hidden, self.dim, self.clusters, self.temperature, self.epsilon = hidden, dim, clusters, temperature, epsilon
        self.rounds, self.queue, self.queue_from, self.rest, self.balancing = rounds, queue, queue_from, rest, balancing
        self.projector = mlp(backbone.dim, hidden, dim)
        self.prototypes = Prototypes(clusters, dim)
        self.queues = nn.ModuleList(Queue(queue, dim) for _ in range(2 if queue else 0))

    def frozen(self, clock: Clock) -> tuple[nn.Module, ...]:
        """The prototypes, at the start."""
        return (self.prototypes,) if clock.progress < self.rest else ()

    @torch.no_grad()
    def _assign(self, rows: torch.Tensor, view: int, clock: Clock) -> torch.Tensor:
        """Balanced assignment of this process's rows, computed for the global batch."""
        wide = batch = all_gather_with_grad(rows)
        if self.queues:
            queue: Queue = self.queues[view]  # pyright: ignore[reportAssignmentType]
            wide = torch.cat([queue.read().to(batch.dtype), batch]) if clock.progress >= self.queue_from and queue.full else batch
            queue.note(batch)
        scores = self.prototypes(wide)
        code = sinkhorn(scores, epsilon=self.epsilon, rounds=self.rounds) if self.balancing else softmax(scores / self.epsilon, 1)
        return local_rows(code[-len(batch) :])

    def forward(self, views: Views, clock: Clock) -> Outcome:
        rows = [normalize(at_least_single(row)) for row in self.through(views.all, self.projector)]
        codes = [self._assign(rows[view], view, clock) for view in range(len(views.large))]
        logits = [self.prototypes(row) / self.temperature for row in rows]
        diagnostics = {"embedding": rows[0].detach(), "assignment": codes[0], "guess": logits[0].detach().softmax(1)}
        return Outcome(
            {"swap": across_views(soft_cross_entropy, logits, codes)}, diagnostics | {"chance": torch.tensor(float(self.clusters)).log()}
        )
