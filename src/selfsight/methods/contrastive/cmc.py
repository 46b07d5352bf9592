"""Contrastive multiview coding."""

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.functional import normalize

from selfsight.core.card import Card, Preset, Training, small_sgd
from selfsight.core.clock import Clock
from selfsight.core.method import Extract, Method, Outcome, Recipe, sample_index
from selfsight.core.modules import Modules
from selfsight.core.representation import Backbone, SplitBackbone, need_halves
from selfsight.core.views import Views
from selfsight.data.views.image.geometry import Crop
from selfsight.data.views.image.recipes import OneCrop, View
from selfsight.modules.memory import Memory
from selfsight.objectives.contrast import instance_discrimination
from selfsight.objectives.precision import at_least_single

__all__ = ["CMC"]


class CMC(Method[SplitBackbone]):
    """Contrast of the lightness and the colour of an image (Tian et al. 2019, arXiv:1906.05849).

    Each half of the backbone gets one of them (``channel_split?network=…``, whose options select other channels), and is compared with the
    memory bank of the other.

    Args:
        dim: length of an embedding.
        temperature: divides the cosine similarities.
        negatives: stored embeddings that are compared per step; 0: all.
        keep: weight of the old embedding in the memory's update.
    """

    card = Card("contrastive", "aligning", "Tian et al. 2019, arXiv:1906.05849", decks=("000", "004"), coupled=False)
    paper = Training("sgd", rate=0.03, decay=1e-4, warmup=0.0)
    small = Preset(small_sgd(0.24), {"temperature": 0.1, "negatives": 0}, batch=64, backbone="channel_split?network=resnet_tiny")

    def __init__(
        self,
        backbone: Backbone,
        *,
        recipe: Recipe = OneCrop(View(Crop((0.2, 1.0)))),
        dim: int = 128,
        temperature: float = 0.07,
        negatives: int = 16_384,
        keep: float = 0.5,
    ) -> None:
        backbone = need_halves(backbone, "CMC")
        super().__init__(backbone, recipe)
        self.dim, self.temperature, self.negatives, self.keep = dim, temperature, negatives, keep
        self.projectors = nn.ModuleList(nn.Linear(backbone.dim // 2, dim) for _ in range(2))
        self.memories = Modules[Memory](Memory(dim, keep=keep) for _ in range(2))

    def due(self, clock: Clock) -> bool:
        """Before the first step only."""
        return clock.step == 0

    def relabel(self, extract: Extract, clock: Clock) -> Iterable[nn.Module]:
        """Fill both memory banks."""
        index, rows = extract(lambda images: torch.cat(self._embed(images), 1))
        for memory, each in zip(self.memories, rows.chunk(2, 1), strict=True):
            memory.set(index, each)
        return []

    def _embed(self, images: torch.Tensor) -> list[torch.Tensor]:
        halves = self.backbone.halves(images)
        return [normalize(at_least_single(project(half.pooled))) for project, half in zip(self.projectors, halves, strict=True)]

    def forward(self, views: Views, clock: Clock) -> Outcome:
        index = sample_index(views, "CMC")
        embeddings = self._embed(views.large[0])
        losses = {}
        for name, rows, memory in zip(("from first", "from second"), embeddings, reversed(self.memories), strict=True):  # pyright: ignore[reportArgumentType]
            drawn = memory.drawn(self.negatives, clock)
            losses[name] = instance_discrimination(rows, memory.rows, index, self.temperature, drawn)  # pyright: ignore[reportArgumentType]
        for rows, memory in zip(embeddings, self.memories, strict=True):
            memory.note(index, rows)
        return Outcome(losses, {"embedding": torch.cat(embeddings, 1).detach()})
