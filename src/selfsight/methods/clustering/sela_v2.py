"""SeLa version 2."""

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.functional import cross_entropy, log_softmax, normalize

from selfsight.core.card import Card, Preset, Training, small_sgd
from selfsight.core.clock import Clock
from selfsight.core.method import Extract, Method, Outcome, Recipe, sample_index
from selfsight.core.representation import Backbone
from selfsight.core.schedule import falls_due
from selfsight.core.views import Views
from selfsight.data.views.recipes import MultiCrop, small_multi_crop
from selfsight.objectives.assign import shared_out
from selfsight.objectives.precision import at_least_single
from selfsight.parts.assignments import Assignments
from selfsight.parts.heads import mlp
from selfsight.parts.memory import Memory
from selfsight.parts.prototypes import Prototypes

__all__ = ["SeLaV2"]


class SeLaV2(Method):
    """SeLa with a projector, prototypes and small views, its labels found from remembered embeddings (Caron et al. 2020, arXiv:2006.09882).

    The second version of SeLa, in the appendix on SwAV's baselines. Every cluster gets an equal share of the data set.

    Args:
        hidden, dim: width of the projector's hidden layer; length of the embedding.
        clusters, heads: labels of each head; how many labellings, which differ by their start.
        temperature: divides the cosines.
        sharpness, relabels: as for ``sela``.
    """

    card = Card("clustering", "clustering", "Caron et al. 2020, arXiv:2006.09882", decks=("002", "004"), coupled=False)
    paper = Training("lars", rate=0.3, decay=1e-6, warmup=0.01, final=0.001)
    small = Preset(
        small_sgd(0.48),
        {"recipe": small_multi_crop(), "hidden": 512, "clusters": 128, "heads": 2, "sharpness": 10.0, "relabels": 8},
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
        sharpness: float = 25.0,
        relabels: int = 100,
    ) -> None:
        super().__init__(backbone, recipe)
        self.hidden, self.dim, self.clusters, self.heads, self.temperature = hidden, dim, clusters, heads, temperature
        self.sharpness, self.relabels = sharpness, relabels
        self.projector = mlp(backbone.dim, hidden, dim)
        self.memory = Memory(dim, keep=0.0)
        self.assigned = nn.ModuleList(Assignments() for _ in range(heads))
        self.prototypes = nn.ModuleList(Prototypes(clusters, dim) for _ in range(heads))

    def due(self, clock: Clock) -> bool:
        """At the steps ``(i / relabels)² steps``."""
        return falls_due(clock, self.relabels)

    def relabel(self, extract: Extract, clock: Clock) -> Iterable[nn.Module]:
        """Sinkhorn-Knopp over all that is remembered; the first time, over what the untrained network says."""
        if not len(self.memory.rows):
            self.memory.set(*extract(lambda images: self.projector(self.backbone(images).pooled)))
        index = self.memory.rows.any(1).nonzero()[:, 0]
        shares = self.memory.rows.new_full((self.clusters,), 1 / self.clusters, dtype=torch.float64)
        for prototypes, assigned in zip(self.prototypes, self.assigned, strict=True):
            chances = log_softmax(prototypes(self.memory.rows[index]) / self.temperature, 1)
            assigned.set(index, shared_out(chances, shares, sharpness=self.sharpness))  # pyright: ignore[reportCallIssue]
        return []

    def forward(self, views: Views, clock: Clock) -> Outcome:
        index = sample_index(views, "SeLa")
        rows = [normalize(at_least_single(self.projector(self.backbone(view).pooled))) for view in (*views.large, *views.small)]
        self.memory.note(index, rows[0])
        pairs = [(row, *pair) for pair in zip(self.assigned, self.prototypes, strict=True) for row in rows]
        terms = [cross_entropy(kinds(row) / self.temperature, labels[index]) for row, labels, kinds in pairs]  # pyright: ignore[reportIndexIssue]
        signs = {"embedding": rows[0].detach(), "assignment": (self.prototypes[0](rows[0]) / self.temperature).detach().softmax(1)}
        return Outcome({"label": torch.stack(terms).mean()}, signs)
