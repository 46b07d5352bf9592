"""DeepCluster."""

from types import MappingProxyType

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from selfsight.core.bounds import AT_LEAST_0
from selfsight.core.card import Card, Preset, Training, small_sgd
from selfsight.core.clock import Clock, key
from selfsight.core.method import Extract, Method, Outcome, Recipe, sample_index
from selfsight.core.part import Chain
from selfsight.core.representation import Backbone
from selfsight.core.views import Views
from selfsight.data.views.image.recipes import OneCrop, small_one_crop
from selfsight.modules.assignments import Assignments
from selfsight.modules.heads import linear, mlp
from selfsight.objectives.assign import balanced_weights, kmeans, whitened
from selfsight.objectives.precision import at_least_single

__all__ = ["DeepCluster"]


class DeepCluster(Method):
    """Alternate k-means clustering and classification of the clusters (Caron et al. 2018, arXiv:1807.05520).

    Each cluster has the same weight: the paper samples images uniformly over clusters, here losses are weighted accordingly. The paper's
    Sobel input is a backbone option (``resnet18?sobel=true``), the default for small images: without it the first clusters reflect
    brightness and colour, and little else is learnt.

    Args:
        clusters: number of clusters; at most one per ten images.
        components: number of principal components for clustering.
        hidden: width of a hidden layer before the classifier; 0 for none.
        every: epochs between two clusterings.
    """

    card = Card("clustering", "clustering", "Caron et al. 2018, arXiv:1807.05520", decks=("002", "003", "004"), coupled=False)
    paper = Training("sgd", rate=0.05, decay=1e-5, warmup=0.0, final=1.0)
    limits = MappingProxyType({"hidden": AT_LEAST_0})
    small = Preset(
        small_sgd(0.4), {"recipe": small_one_crop(), "clusters": 300, "components": 64}, batch=32, backbone="resnet_tiny?sobel=true"
    )

    def __init__(
        self,
        backbone: Backbone,
        *,
        recipe: Recipe = OneCrop(),
        clusters: int = 10_000,
        components: int = 256,
        hidden: int = 0,
        every: int = 1,
    ) -> None:
        super().__init__(backbone, recipe)
        self.clusters, self.components, self.hidden, self.every = clusters, components, hidden, every
        self.neck = mlp(backbone.dim, hidden, hidden, final="norm") if hidden else nn.Identity()
        self.classifier = linear(hidden or backbone.dim, clusters)
        self.assigned = Assignments()
        self.register_buffer("weights", torch.ones(clusters))
        self.weights: torch.Tensor

    def due(self, clock: Clock) -> bool:
        """At the start of every ``every``-th epoch, except in the last half epoch, which is too short to train a new classifier."""
        worth = clock.step == 0 or clock.steps - clock.step >= clock.steps_per_epoch / 2
        return clock.starts_epoch and clock.epoch % self.every == 0 and worth

    def relabel(self, extract: Extract, clock: Clock) -> list[nn.Module]:
        """k-means on whitened features; the classifier is reinitialised, because cluster indices change."""
        index, features = extract(Chain(self.backbone))
        clusters = min(self.clusters, max(len(features) // 10, 2))
        found = kmeans(whitened(features, self.components), clusters, seed=key(clock.seed, clock.step), rounds=20)
        self.assigned.set(index, found.labels)
        self.weights.copy_(balanced_weights(found.labels, self.clusters))
        generator = torch.Generator().manual_seed(key(clock.seed, clock.step, 1))
        fresh = torch.randn(self.classifier.weight.shape, generator=generator) * 0.01
        with torch.no_grad():
            self.classifier.weight.copy_(fresh)
            self.classifier.bias.zero_()
        return [self.classifier]

    def forward(self, views: Views, clock: Clock) -> Outcome:
        index = sample_index(views, "DeepCluster")
        logits = at_least_single(self.classifier(self.neck(self.backbone(views.large[0]).pooled)))
        labels = self.assigned[index]
        loss = (cross_entropy(logits, labels, reduction="none") * self.weights.to(logits.dtype)[labels]).mean()
        diagnostics = {"embedding": logits.detach(), "assignment": logits.detach().softmax(1)}
        return Outcome({"cluster": loss}, diagnostics | {"accuracy": (logits.argmax(1) == labels).float().mean()})
