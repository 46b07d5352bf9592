"""SeLa."""

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.functional import cross_entropy, log_softmax

from selfsight.core.card import Card, Preset, Training, small_sgd
from selfsight.core.clock import Clock
from selfsight.core.errors import UsageError
from selfsight.core.method import Extract, Method, Outcome, Recipe, sample_index
from selfsight.core.modules import Modules
from selfsight.core.part import Chain
from selfsight.core.representation import Backbone
from selfsight.core.schedule import falls_due
from selfsight.core.views import Views
from selfsight.data.views.image.recipes import SIMCLR, OneCrop, small_one_crop
from selfsight.modules.assignments import Assignments
from selfsight.modules.heads import linear
from selfsight.objectives.assign import balanced_assignment, by_size
from selfsight.objectives.precision import at_least_single

__all__ = ["SeLa"]


class SeLa(Method):
    """Alternate training and optimal-transport labelling with prescribed cluster sizes (Asano et al. 2019, arXiv:1911.05371).

    Labels are computed for the whole data set at quadratically spaced steps, more often at first; the classifier is kept. By default
    clusters are equally large; their sizes can also follow Zipf's law.

    Args:
        clusters, heads: labels of each head; number of labellings with different initialisation.
        sharpness, relabels: λ, exponent of the probabilities in the transport problem; number of labellings per run.
        zipf: the k-th largest fraction is proportional to ``k ** -zipf``; 0: equal sizes.
        shares: fractions of the clusters; the largest is given to the cluster with the most probability mass.
        balance: whether cluster sizes are prescribed; otherwise each image gets its most probable label (for experiments on collapse).
    """

    card = Card("clustering", "clustering", "Asano et al. 2019, arXiv:1911.05371", decks=("000", "002", "003", "004"), coupled=False)
    paper = Training("sgd", rate=0.05, decay=1e-5, warmup=0.0)
    small = Preset(
        small_sgd(0.4),
        {"recipe": small_one_crop(), "clusters": 128, "heads": 3, "sharpness": 10.0, "relabels": 8},
        batch=32,
        backbone="resnet_tiny?sobel=true",
    )

    def __init__(
        self,
        backbone: Backbone,
        *,
        recipe: Recipe = OneCrop(SIMCLR),
        clusters: int = 3000,
        heads: int = 10,
        sharpness: float = 25.0,
        relabels: int = 100,
        zipf: float = 0.0,
        shares: tuple[float, ...] = (),
        balance: bool = True,
    ) -> None:
        if shares and len(shares) != clusters:
            raise UsageError(f"{len(shares)} shares were given for {clusters} clusters.", "Give one share for each cluster.")
        super().__init__(backbone, recipe)
        self.clusters, self.heads, self.sharpness, self.relabels = clusters, heads, sharpness, relabels
        self.zipf, self.shares, self.balance = zipf, tuple(shares), balance
        self.classifiers = nn.ModuleList(linear(backbone.dim, clusters) for _ in range(heads))
        self.assigned = Modules[Assignments](Assignments() for _ in range(heads))

    def due(self, clock: Clock) -> bool:
        """At the steps ``(i / relabels)² steps``."""
        return falls_due(clock, self.relabels)

    def relabel(self, extract: Extract, clock: Clock) -> Iterable[nn.Module]:
        """Sinkhorn-Knopp over the whole data set, head by head."""
        index, features = extract(Chain(self.backbone))
        wanted = torch.tensor(self.shares).double() if self.shares else torch.arange(1, self.clusters + 1).double() ** -self.zipf
        for classifier, assigned in zip(self.classifiers, self.assigned, strict=True):
            logs = log_softmax(classifier(features.to(next(classifier.parameters()).dtype)), 1)
            balanced = balanced_assignment(logs, by_size(wanted, logs), sharpness=self.sharpness) if self.balance else logs.argmax(1)
            assigned.set(index, balanced)
        return []

    def forward(self, views: Views, clock: Clock) -> Outcome:
        index, pooled = sample_index(views, "SeLa"), self.backbone(views.large[0]).pooled
        logits = [at_least_single(classifier(pooled)) for classifier in self.classifiers]
        terms = [cross_entropy(row, known[index]) for row, known in zip(logits, self.assigned, strict=True)]
        diagnostics = {"embedding": pooled.detach(), "assignment": logits[0].detach().softmax(1)}
        return Outcome({"label": torch.stack(terms).mean()}, diagnostics)
