"""DeepCluster version 2."""

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.functional import cross_entropy, normalize

from selfsight.core.card import Card, Preset, Training, small_sgd
from selfsight.core.clock import Clock, key
from selfsight.core.method import Extract, Method, Outcome, Recipe, sample_index
from selfsight.core.representation import Backbone
from selfsight.core.views import Views
from selfsight.data.views.recipes import MultiCrop, small_multi_crop
from selfsight.objectives.assign import kmeans
from selfsight.objectives.precision import at_least_single
from selfsight.parts.assignments import Assignments
from selfsight.parts.heads import mlp
from selfsight.parts.memory import Memory
from selfsight.parts.prototypes import Prototypes

__all__ = ["DeepClusterV2"]


class DeepClusterV2(Method):
    """Clusters of last epoch's embeddings are this epoch's classes, their centres the classifier (Caron et al. 2020, arXiv:2006.09882).

    The second version of DeepCluster, in the appendix on SwAV's baselines. Embeddings of the first large view are remembered
    while they are learnt from, so that only the first epoch needs a pass of its own; spherical k-means over the whole memory.

    Args:
        hidden, dim: width of the projector's hidden layer; length of the embedding.
        clusters: clusters of each head; fewer when there are fewer than ten images a cluster.
        heads: clusterings, which differ by their start.
        temperature: divides the cosines.
    """

    card = Card("clustering", "clustering", "Caron et al. 2020, arXiv:2006.09882", decks=("002", "003", "004"), coupled=False)
    paper = Training("lars", rate=0.3, decay=1e-6, warmup=0.01, final=0.001)
    small = Preset(
        small_sgd(0.48),
        {"recipe": small_multi_crop(), "hidden": 512, "clusters": 300, "heads": 2},
        batch=64,
        backbone="resnet_tiny?sobel=true",
    )

    def __init__(
        self,
        backbone: Backbone,
        *,
        recipe: Recipe = MultiCrop(),
        hidden: int = 2048,
        dim: int = 128,
        clusters: int = 3000,
        heads: int = 3,
        temperature: float = 0.1,
    ) -> None:
        super().__init__(backbone, recipe)
        self.hidden, self.dim, self.clusters, self.heads, self.temperature = hidden, dim, clusters, heads, temperature
        self.projector = mlp(backbone.dim, hidden, dim)
        self.memory = Memory(dim, keep=0.0)
        self.assigned = nn.ModuleList(Assignments() for _ in range(heads))
        self.centres = nn.ModuleList(Prototypes(clusters, dim).requires_grad_(requires_grad=False) for _ in range(heads))

    def due(self, clock: Clock) -> bool:
        """At the start of every epoch."""
        return clock.starts_epoch

    def relabel(self, extract: Extract, clock: Clock) -> Iterable[nn.Module]:
        """Spherical k-means of what is remembered; the first time, of what the untrained network says."""
        if not len(self.memory.rows):
            self.memory.set(*extract(lambda images: self.projector(self.backbone(images).pooled)))
        index = self.memory.rows.any(1).nonzero()[:, 0]
        rows = self.memory.rows[index]
        clusters = min(self.clusters, max(len(rows) // 10, 2))
        for head, (assigned, centres) in enumerate(zip(self.assigned, self.centres, strict=True)):
            found = kmeans(rows, clusters, seed=key(clock.seed, clock.step, head), rounds=10, spherical=True)
            assigned.set(index, found.labels)  # pyright: ignore[reportCallIssue]
            centres.set(found.centroids)  # pyright: ignore[reportCallIssue]
        return []

    def forward(self, views: Views, clock: Clock) -> Outcome:
        index = sample_index(views, "DeepCluster")
        rows = [normalize(at_least_single(self.projector(self.backbone(view).pooled))) for view in (*views.large, *views.small)]
        self.memory.note(index, rows[0])
        pairs = [(row, *pair) for pair in zip(self.assigned, self.centres, strict=True) for row in rows]
        terms = [cross_entropy(centres(row) / self.temperature, labels[index]) for row, labels, centres in pairs]  # pyright: ignore[reportIndexIssue]
        signs = {"embedding": rows[0].detach(), "assignment": (self.centres[0](rows[0].detach()) / self.temperature).softmax(1)}
        return Outcome({"cluster": torch.stack(terms).mean()}, signs)
