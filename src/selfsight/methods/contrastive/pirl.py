"""PIRL."""

from types import MappingProxyType

import torch
from torch import nn
from torch.nn.functional import normalize

from selfsight.core.bounds import AT_LEAST_0, FRACTION
from selfsight.core.card import Card, Preset, Training, small_sgd
from selfsight.core.clock import Clock
from selfsight.core.errors import UsageError
from selfsight.core.method import Outcome, Recipe, sample_index
from selfsight.core.representation import Backbone
from selfsight.core.views import Views
from selfsight.data.views.image.puzzles import Jigsaw
from selfsight.data.views.image.recipes import SIMCLR, SIMCLR_SMALL
from selfsight.modules.memory import InitialisedMemory, Memory
from selfsight.objectives.contrast import instance_discrimination
from selfsight.objectives.precision import at_least_single

__all__ = ["PIRL"]


class PIRL(InitialisedMemory):
    """An image and its shuffled tiles have the same embedding (Misra & van der Maaten 2019, arXiv:1912.01991).

    Both are contrasted with a memory bank of full images. Tiles are encoded separately, and their embeddings concatenated in shuffled
    order. With two views and no tiles the second view replaces the tiles, such as a rotated one: ``TwoCrops(PLAIN, replace(PLAIN,
    turn=1.0))``.

    Args:
        dim: length of an embedding.
        temperature: divides the cosine similarities.
        weight: λ, weight of the tiles' loss.
        tiles: number of tiles, as in the recipe; 0: the second view replaces them.
        negatives: stored embeddings that are compared per step; 0: all.
        keep: weight of the old embedding in the bank's update.
    """

    card = Card("contrastive", "aligning", "Misra & van der Maaten 2019, arXiv:1912.01991", decks=("000", "002", "004"), coupled=False)
    paper = Training("sgd", rate=0.03, decay=1e-4, warmup=0.0)
    limits = MappingProxyType({"tiles": AT_LEAST_0, "weight": FRACTION})
    small = Preset(
        small_sgd(0.24),
        {"recipe": Jigsaw(SIMCLR_SMALL, across=2, orders=24, whole=True), "tiles": 4, "temperature": 0.1, "negatives": 0},
        batch=64,
    )

    def __init__(
        self,
        backbone: Backbone,
        *,
        recipe: Recipe = Jigsaw(SIMCLR, orders=1000, whole=True),
        dim: int = 128,
        temperature: float = 0.07,
        weight: float = 0.5,
        tiles: int = 9,
        negatives: int = 32_000,
        keep: float = 0.5,
    ) -> None:
        super().__init__(backbone, recipe)
        self.dim, self.temperature, self.weight = dim, temperature, weight
        self.tiles, self.negatives, self.keep = tiles, negatives, keep
        self.projector = nn.Linear(backbone.dim, dim)
        self.tile = nn.Linear(backbone.dim, dim)
        self.join = nn.Linear(tiles * dim, dim) if tiles else nn.Identity()
        self.memory = Memory(dim, keep=keep)

    def forward(self, views: Views, clock: Clock) -> Outcome:
        index = sample_index(views, "PIRL")
        changed = views.small if self.tiles else views.large[1:]
        if len(changed) != max(self.tiles, 1):
            raise UsageError(f"PIRL joins {self.tiles} tiles and was given {len(changed)}.", "Give tiles and recipe the same number.")
        whole = at_least_single(self.projector(self.backbone(views.large[0]).pooled))
        tiles = self.tile(self.backbone(torch.cat(changed)).pooled).unflatten(0, (len(changed), -1))
        joined = at_least_single(self.join(tiles.transpose(0, 1).flatten(1)))
        drawn = self.memory.drawn(self.negatives, clock)
        terms = [instance_discrimination(rows, self.memory.rows, index, self.temperature, drawn) for rows in (joined, whole)]
        self.memory.note(index, normalize(whole))
        losses = {"tiles": self.weight * terms[0], "whole": (1 - self.weight) * terms[1]}
        return Outcome(losses, {"embedding": whole.detach()})
