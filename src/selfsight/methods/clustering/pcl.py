"""Prototypical contrastive learning."""

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.functional import cross_entropy, normalize

from selfsight.core.card import Card, Preset, Training, small_sgd
from selfsight.core.clock import Clock, key
from selfsight.core.distribute import all_gather_with_grad
from selfsight.core.method import Extract, Method, Outcome, Recipe, sample_index
from selfsight.core.modules import Modules
from selfsight.core.part import Chain
from selfsight.core.representation import Backbone
from selfsight.core.schedule import Constant, Schedule
from selfsight.core.views import Views
from selfsight.data.views.image.recipes import MOCO, TwoCrops, small_crops
from selfsight.modules.clusters import Clusters
from selfsight.modules.heads import mlp
from selfsight.modules.momentum import Momentum
from selfsight.modules.queue import Queue
from selfsight.objectives.assign import concentrations, kmeans
from selfsight.objectives.contrast import info_nce
from selfsight.objectives.precision import at_least_single

__all__ = ["PCL"]


class PCL(Method):
    """MoCo with an additional contrastive loss on cluster centres (Li et al. 2020, arXiv:2005.04966).

    All images' momentum embeddings are clustered at every epoch with several numbers of clusters; dense clusters have a low temperature. A
    query is compared with all centres.

    Args:
        dim, keys, temperature, momentum: as for ``moco``.
        clusters: number of clusters of each clustering; at most one per three images.
        alone: fraction of the run without clustering, at its start.
    """

    card = Card("clustering", "aligning", "Li et al. 2020, arXiv:2005.04966", decks=("000",), coupled=False)
    paper = Training("sgd", rate=0.03, decay=1e-4, warmup=0.0)
    small = Preset(small_sgd(0.12), {"recipe": small_crops(), "keys": 1024, "momentum": Constant(0.99), "clusters": (100, 300)}, batch=128)

    def __init__(
        self,
        backbone: Backbone,
        *,
        recipe: Recipe = TwoCrops(MOCO, MOCO),
        dim: int = 128,
        keys: int = 16_384,
        temperature: float = 0.2,
        momentum: Schedule = Constant(0.999),
        clusters: tuple[int, ...] = (25_000, 50_000, 100_000),
        alone: float = 0.1,
    ) -> None:
        super().__init__(backbone, recipe)
        self.dim, self.keys, self.temperature, self.momentum, self.clusters, self.alone = dim, keys, temperature, momentum, clusters, alone
        self.projector = mlp(backbone.dim, backbone.dim, dim, norm=False)
        self.teacher = Momentum(Chain(backbone, self.projector), momentum)
        self.queue = Queue(keys, dim)
        self.clusterings = Modules[Clusters](Clusters(most, dim) for most in clusters)

    def due(self, clock: Clock) -> bool:
        """At the start of every epoch, after the first part of the run."""
        return clock.starts_epoch and clock.progress >= self.alone

    def relabel(self, extract: Extract, clock: Clock) -> Iterable[nn.Module]:
        """k-means of the momentum encoder's embeddings, once for each number of clusters."""
        index, rows = extract(self.teacher)
        rows = normalize(rows)
        for number, (most, clustering) in enumerate(zip(self.clusters, self.clusterings, strict=True)):
            found = kmeans(rows, min(most, max(len(rows) // 3, 2)), seed=key(clock.seed, clock.step, number), rounds=20)
            clustering.set(index, found.labels, found.centroids, concentrations(rows, found, self.temperature))
        return []

    def forward(self, views: Views, clock: Clock) -> Outcome:
        index = sample_index(views, "PCL")
        query = self.projector(self.backbone(views.large[0]).pooled)
        unit = normalize(at_least_single(query))
        slow = normalize(at_least_single(self.teacher(views.large[1])))
        losses = {"contrast": info_nce(query, slow, self.temperature, negatives=self.queue.read())}
        self.queue.note(all_gather_with_grad(slow))
        terms = [cross_entropy(each(unit), each.assigned[index]) for each in self.clusterings if each.known]  # pyright: ignore[reportIndexIssue]
        losses |= {"prototypes": torch.stack(terms).mean()} if terms else {}
        return Outcome(losses, {"embedding": query.detach()})
