"""DeepCluster version 2."""

from torch import Tensor

from selfsight.core.card import Card, Preset, Training, small_sgd
from selfsight.core.clock import Clock, key
from selfsight.core.method import Recipe
from selfsight.core.representation import Backbone
from selfsight.data.views.image.recipes import SWAV_LARGE, SWAV_SMALL, MultiCrop, small_multi_crop
from selfsight.methods.memory_clustering import MemoryClustering
from selfsight.objectives.assign import kmeans

__all__ = ["DeepClusterV2"]


class DeepClusterV2(MemoryClustering):
    """DeepCluster with prototypes and a memory of the last epoch's embeddings (Caron et al. 2020, arXiv:2006.09882).

    The second version of DeepCluster, in the paper's appendix on baselines. Embeddings of the first large view are stored during training,
    so only the first epoch needs a separate pass; spherical k-means on the whole memory.

    Args:
        hidden: width of the projector's hidden layer.
        dim: length of the embedding.
        clusters: clusters of each head; at most one per ten images.
        heads: number of clusterings with different initialisation.
        temperature: divides the cosine similarities.
    """

    card = Card("clustering", "clustering", "Caron et al. 2020, arXiv:2006.09882", decks=("002", "003", "004"), coupled=False)
    paper = Training("lars", rate=0.3, decay=1e-6, warmup=0.0125, final=0.001)
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
        recipe: Recipe = MultiCrop(SWAV_LARGE, SWAV_LARGE, SWAV_SMALL, 6),
        hidden: int = 2048,
        dim: int = 128,
        clusters: int = 3000,
        heads: int = 3,
        temperature: float = 0.1,
    ) -> None:
        super().__init__(backbone, recipe, hidden, dim, clusters, heads, temperature, learnt=False)

    def due(self, clock: Clock) -> bool:
        """At the start of every epoch."""
        return clock.starts_epoch

    def label(self, head: int, rows: Tensor, clock: Clock) -> Tensor:
        """Spherical k-means; the centres become the head's prototypes."""
        clusters = min(self.clusters, max(len(rows) // 10, 2))
        found = kmeans(rows, clusters, seed=key(clock.seed, clock.step, head), rounds=10, spherical=True)
        self.prototypes[head].set(found.centroids)
        return found.labels
