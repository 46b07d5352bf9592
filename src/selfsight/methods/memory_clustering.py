"""Clusters of remembered embeddings as classes."""

from abc import abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from selfsight.core.clock import Clock
from selfsight.core.method import Extract, Method, Outcome, Recipe, sample_index
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
    """Every view is told its image's cluster, by prototypes; clusters are found from remembered embeddings, once for each head.

    What the second versions of DeepCluster and SeLa share (Caron et al. 2020, arXiv:2006.09882, appendix on baselines). Embeddings
    of the first large view are remembered while they are learnt from, so that only the first labels need a pass of their own.

    Args:
        hidden, dim: width of the projector's hidden layer; length of the embedding.
        clusters, heads: clusters of each head; how many clusterings.
        temperature: divides the cosines.
        learnt: whether prototypes learn by gradient.
    """

    def __init__(
        self, backbone: Backbone, recipe: Recipe, hidden: int, dim: int, clusters: int, heads: int, temperature: float, *, learnt: bool
    ) -> None:
        super().__init__(backbone, recipe)
        self.hidden, self.dim, self.clusters, self.heads, self.temperature = hidden, dim, clusters, heads, temperature
        self.projector = mlp(backbone.dim, hidden, dim)
        self.memory = Memory(dim, keep=0.0)
        self.assigned = nn.ModuleList(Assignments() for _ in range(heads))
        self.prototypes = nn.ModuleList(Prototypes(clusters, dim).requires_grad_(requires_grad=learnt) for _ in range(heads))

    @abstractmethod
    def label(self, head: int, rows: Tensor, clock: Clock) -> Tensor:
        """The cluster of each remembered embedding by one head."""

    def relabel(self, extract: Extract, clock: Clock) -> Iterable[nn.Module]:
        """Label all that is remembered; the first time, what the untrained network says."""
        if not len(self.memory.rows):
            self.memory.set(*extract(Chain(self.backbone, self.projector)))
        index = self.memory.rows.any(1).nonzero()[:, 0]
        for head, assigned in enumerate(self.assigned):
            assigned.set(index, self.label(head, self.memory.rows[index], clock))  # pyright: ignore[reportCallIssue]
        return []

    def forward(self, views: Views, clock: Clock) -> Outcome:
        index = sample_index(views, type(self).__name__)
        rows = [normalize(at_least_single(row)) for row in self.through(views.all, self.projector)]
        self.memory.note(index, rows[0])
        pairs = [(row, *pair) for pair in zip(self.assigned, self.prototypes, strict=True) for row in rows]
        terms = [cross_entropy(kinds(row) / self.temperature, known[index]) for row, known, kinds in pairs]  # pyright: ignore[reportIndexIssue]
        diagnostics = {"embedding": rows[0].detach(), "assignment": (self.prototypes[0](rows[0]) / self.temperature).detach().softmax(1)}
        return Outcome({"label": torch.stack(terms).mean()}, diagnostics)
