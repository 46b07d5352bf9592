"""NPID."""

import torch
from torch import nn
from torch.nn.functional import normalize

from selfsight.core.card import Card, Preset, Training, small_sgd
from selfsight.core.clock import Clock, key
from selfsight.core.distribute import all_reduce_mean, local_rows, world_size
from selfsight.core.method import Outcome, Recipe, sample_index
from selfsight.core.representation import Backbone
from selfsight.core.views import Views
from selfsight.data.views.image.recipes import SIMCLR, OneCrop, small_one_crop
from selfsight.modules.memory import InitialisedMemory, Memory
from selfsight.modules.running import RunningMean
from selfsight.objectives.contrast import binary_nce, instance_discrimination
from selfsight.objectives.precision import at_least_single

__all__ = ["NPID"]


class NPID(InitialisedMemory):
    """Instance discrimination with a memory bank (Wu et al. 2018, arXiv:1805.01978).

    The bank is initialised with the untrained network's embeddings, and is the same on every process.

    Args:
        dim: length of an embedding.
        temperature: divides the cosine similarities.
        negatives: sampled negatives for noise-contrastive estimation, with a moving average of the partition function; 0: exact
            softmax over the bank.
        keep: weight of the old embedding in the bank's update.
    """

    card = Card("contrastive", "discriminative", "Wu et al. 2018, arXiv:1805.01978", decks=("000", "002", "004"), coupled=False)
    paper = Training("sgd", rate=0.03, decay=1e-4, warmup=0.0)
    small = Preset(small_sgd(0.24), {"recipe": small_one_crop(), "temperature": 0.1, "negatives": 0}, batch=64)

    def __init__(
        self,
        backbone: Backbone,
        *,
        recipe: Recipe = OneCrop(SIMCLR),
        dim: int = 128,
        temperature: float = 0.07,
        negatives: int = 4096,
        keep: float = 0.5,
    ) -> None:
        super().__init__(backbone, recipe)
        self.dim, self.temperature, self.negatives, self.keep = dim, temperature, negatives, keep
        self.projector = nn.Linear(backbone.dim, dim)
        self.memory = Memory(dim, keep=keep)
        self.partition = RunningMean(1, keep=0.99, first=True)

    def forward(self, views: Views, clock: Clock) -> Outcome:
        index = sample_index(views, "NPID")
        rows = normalize(at_least_single(self.projector(self.backbone(views.large[0]).pooled)))
        bank = self.memory.rows
        self.memory.note(index, rows)
        if not self.negatives:
            loss = instance_discrimination(rows, bank, index, self.temperature)
            return Outcome({"instance": loss}, {"embedding": rows.detach()})
        generator = torch.Generator().manual_seed(key(clock.seed, clock.step, 0xBA))
        drawn = torch.randint(len(bank), (len(rows) * world_size(), self.negatives), generator=generator)
        others = torch.einsum("bd,bnd->bn", rows, bank[local_rows(drawn).to(rows.device)].to(rows.dtype)) / self.temperature
        now = all_reduce_mean(others.detach().exp().mean()) * len(bank)
        self.partition.note(now[None, None])
        partition = torch.where(self.partition.value > 0, self.partition.value, now).squeeze()
        loss = binary_nce((rows * bank[index].to(rows.dtype)).sum(1) / self.temperature, others, partition.log(), len(bank))
        return Outcome({"instance": loss}, {"embedding": rows.detach()})
