"""SeLa version 2."""

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from selfsight.core.card import Card, Preset, Training, small_sgd
from selfsight.core.clock import Clock
from selfsight.core.method import Recipe
from selfsight.core.representation import Backbone
from selfsight.core.schedule import falls_due
from selfsight.data.views.image.recipes import SWAV_LARGE, SWAV_SMALL, MultiCrop, small_multi_crop
from selfsight.methods.memory_clustering import MemoryClustering
from selfsight.objectives.assign import balanced_assignment

__all__ = ["SeLaV2"]


class SeLaV2(MemoryClustering):
    """SeLa with projector, prototypes and small views, and labels from stored embeddings (Caron et al. 2020, arXiv:2006.09882).

    The second version of SeLa, in the paper's appendix on baselines. All clusters are equally large.
    Its code was not released: views and rate are those of DeepCluster-v2.

    Args:
        hidden: width of the projector's hidden layer.
        dim: length of the embedding.
        clusters: labels of each head.
        heads: number of labellings with different initialisation.
        temperature: divides the cosine similarities.
        sharpness: as for ``sela``.
        relabels: as for ``sela``.
    """

    card = Card("clustering", "clustering", "Caron et al. 2020, arXiv:2006.09882", decks=("002", "004"), coupled=False)
    paper = Training("lars", rate=0.3, decay=1e-6, warmup=0.0125, final=0.001)
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
        recipe: Recipe = MultiCrop(SWAV_LARGE, SWAV_LARGE, SWAV_SMALL, 6),
        hidden: int = 2048,
        dim: int = 128,
        clusters: int = 3000,
        heads: int = 3,
        temperature: float = 0.1,
        sharpness: float = 25.0,
        relabels: int = 100,
    ) -> None:
        super().__init__(backbone, recipe, hidden, dim, clusters, heads, temperature, learnt=True)
        self.sharpness, self.relabels = sharpness, relabels

    def due(self, clock: Clock) -> bool:
        """At the steps ``(i / relabels)² steps``."""
        return falls_due(clock, self.relabels)

    def label(self, head: int, rows: Tensor, clock: Clock) -> Tensor:
        """Sinkhorn-Knopp with equal cluster sizes."""
        shares = rows.new_full((self.clusters,), 1 / self.clusters, dtype=torch.float64)
        chances = log_softmax(self.prototypes[head](rows) / self.temperature, 1)
        return balanced_assignment(chances, shares, sharpness=self.sharpness)
