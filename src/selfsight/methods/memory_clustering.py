"""Classification of clusters of stored embeddings."""

from abc import abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from selfsight.core.clock import Clock
from selfsight.core.method import Extract, Method, Outcome, Recipe, sample_index
from selfsight.core.modules import Modules
from selfsight.core.part import Chain
from selfsight.core.representation import Backbone
from selfsight.core.views import Views
from selfsight.modules.assignments import Assignments
from selfsight.modules.heads import mlp
from selfsight.modules.memory import Memory
from selfsight.modules.prototypes import Prototypes
from selfsight.objectives.precision import at_least_single

__all__ = ["MemoryClustering"]


class MemoryClustering(Method):
    """Classify each view into its image's cluster with prototypes; clusters are made from stored embeddings, once for each head.

    Common part of the second versions of DeepCluster and SeLa (Caron et al. 2020, arXiv:2006.09882, appendix on baselines). Embeddings of
    the first large view are stored during training, so only the first labels need a separate pass.

    Args:
        hidden: width of the projector's hidden layer.
        dim: length of the embedding.
        clusters: clusters of each head.
        heads: number of clusterings.
        temperature: divides the cosine similarities.
        learnt: whether prototypes are trained by gradient.
    """

    def __init__(
        self, backbone: Backbone, recipe: Recipe, hidden: int, dim: int, clusters: int, heads: int, temperature: float, *, learnt: bool
    ) -> None:
        super().__init__(backbone, recipe)
        self.hidden, self.dim, self.clusters, self.heads, self.temperature = hidden, dim, clusters, heads, temperature
        self.projector = mlp(backbone.dim, hidden, dim)
        self.memory = Memory(dim, keep=0.0)
        self.assigned = Modules[Assignments](Assignments() for _ in range(heads))
        self.prototypes = Modules[Prototypes](Prototypes(clusters, dim).requires_grad_(requires_grad=learnt) for _ in range(heads))

    @abstractmethod
    def label(self, head: int, rows: Tensor, clock: Clock) -> Tensor:
        """Clusters of the stored embeddings for one head.

        Args:
            head: number of the head.
            rows: embeddings (N, D).
            clock: position of the run.
        """

    def relabel(self, extract: Extract, clock: Clock) -> Iterable[nn.Module]:
        """Label all samples; the first time with embeddings of the untrained network."""
        if not len(self.memory.rows):
            self.memory.set(*extract(Chain(self.backbone, self.projector)))
        index = self.memory.rows.any(1).nonzero()[:, 0]
        for head, assigned in enumerate(self.assigned):
            assigned.set(index, self.label(head, self.memory.rows[index], clock))
        return []

    def forward(self, views: Views, clock: Clock) -> Outcome:
        index = sample_index(views, type(self).__name__)
        rows = [normalize(at_least_single(row)) for row in self.through(views.all, self.projector)]
        self.memory.note(index, rows[0])
        pairs = [(row, *pair) for pair in zip(self.assigned, self.prototypes, strict=True) for row in rows]
        terms = [cross_entropy(kinds(row) / self.temperature, known[index]) for row, known, kinds in pairs]  # pyright: ignore[reportIndexIssue]
        diagnostics = {"embedding": rows[0].detach(), "assignment": (self.prototypes[0](rows[0]) / self.temperature).detach().softmax(1)}
        return Outcome({"label": torch.stack(terms).mean()}, diagnostics)
