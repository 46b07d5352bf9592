"""Deep InfoMax."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from selfsight.core.card import SMALL_ADAMW, Card, Preset, Training
from selfsight.core.clock import Clock
from selfsight.core.distribute import all_gather_with_grad
from selfsight.core.hooks import capture_activations, tensor_of
from selfsight.core.method import Method, Outcome, Recipe
from selfsight.core.representation import Backbone, grid_dim
from selfsight.core.views import Views
from selfsight.data.views.image.recipes import PLAIN, OneCrop, small_crops
from selfsight.modules.heads import mlp
from selfsight.objectives.contrast import info_nce, jensen_shannon_pairs

__all__ = ["DIM"]


class DIM(Method):
    """Mutual information between an image's vector and its local features (Hjelm et al. 2018, arXiv:1808.06670).

    Local: the vector against every position of an inner layer, of the same view or, with two views, of the other (Bachman et al. 2019).
    Global: the vector against the mean of the inner map. Negatives are the other images of the global batch. The layer needs a spatial
    grid.

    Args:
        dim: length of the compared vectors.
        hidden: width of the hidden layer before them.
        layer: the inner layer; empty: the last but one of the backbone's.
        measure: the bound, ``jensen-shannon`` or ``nce``.
        places: weight of the local term.
        whole: weight of the global term.
    """

    card = Card("contrastive", "aligning", "Hjelm et al. 2018, arXiv:1808.06670", decks=("003",))
    paper = Training("adamw", rate=1e-4, reference_batch=64, decay=0.0, warmup=0.0, final=1.0)
    small = Preset(SMALL_ADAMW, {"recipe": small_crops(), "hidden": 256, "dim": 128, "measure": "nce", "whole": 0.0}, batch=64)

    def __init__(
        self,
        backbone: Backbone,
        *,
        recipe: Recipe = OneCrop(PLAIN),
        dim: int = 512,
        hidden: int = 2048,
        layer: str = "",
        measure: Literal["jensen-shannon", "nce"] = "jensen-shannon",
        places: float = 1.0,
        whole: float = 0.5,
    ) -> None:
        super().__init__(backbone, recipe)
        self.dim, self.hidden, self.layer, self.measure, self.places, self.whole = dim, hidden, layer, measure, places, whole
        self.listens = layer or backbone.layers[-2]
        inner = grid_dim(backbone, self.listens)
        self.vector = mlp(backbone.dim, hidden, dim)
        self.place = mlp(inner, hidden, dim)
        self.map = mlp(inner, hidden, dim) if whole else None

    def forward(self, views: Views, clock: Clock) -> Outcome:
        pooled, maps = zip(*(self._seen(view) for view in views.large), strict=True)
        vectors = [all_gather_with_grad(self.vector(rows)) for rows in pooled]
        other = maps[-1].flatten(2).transpose(1, 2)
        cells = all_gather_with_grad(self.place(other.flatten(0, 1)).unflatten(0, other.shape[:2]))
        losses = {"places": self.places * torch.stack([self._bound(vectors[0], cell) for cell in cells.unbind(1)]).mean()}
        if self.map is not None:
            losses["whole"] = self.whole * self._bound(vectors[0], all_gather_with_grad(self.map(maps[-1].mean((2, 3)))))
        return Outcome(losses, {"embedding": pooled[0].detach()})

    def _seen(self, view: Tensor) -> tuple[Tensor, Tensor]:
        with capture_activations(self.backbone, self.listens) as captured:
            pooled = self.backbone(view).pooled
        return pooled, tensor_of(captured[self.listens])

    def _bound(self, vectors: Float[Tensor, "batch dim"], others: Float[Tensor, "batch dim"]) -> Float[Tensor, ""]:
        if self.measure == "nce":
            return info_nce(vectors, others, 0.2)
        same = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
        return jensen_shannon_pairs(vectors @ others.T / self.dim**0.5, same)
