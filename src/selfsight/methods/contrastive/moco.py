"""MoCo."""

from torch.nn.functional import normalize

from selfsight.core.card import Card, Preset, Training, small_sgd
from selfsight.core.clock import Clock
from selfsight.core.distribute import all_gather_with_grad
from selfsight.core.method import Method, Outcome, Recipe
from selfsight.core.part import Chain
from selfsight.core.representation import Backbone
from selfsight.core.schedule import Constant, Schedule
from selfsight.core.views import Views
from selfsight.data.views.image.recipes import MOCO, TwoCrops, small_crops
from selfsight.modules.heads import mlp
from selfsight.modules.momentum import Momentum
from selfsight.modules.norm import split_batch_norms
from selfsight.modules.queue import Queue
from selfsight.objectives.contrast import info_nce
from selfsight.objectives.precision import at_least_single

__all__ = ["MoCo"]


class MoCo(Method):
    """Contrast with a queue of keys from a momentum encoder (He et al. 2019, arXiv:1911.05722).

    Head and colour augmentation are those of version 2 (arXiv:2003.04297).

    Args:
        dim: length of a key.
        keys: size of the queue.
        temperature: divides the cosine similarities.
        momentum: momentum of the key encoder.
        groups: batch-norm groups of the global batch, composed differently for queries and keys (instead of shuffling keys
            between devices); with 1, batch statistics are shared and identify the pair.
    """

    card = Card("contrastive", "aligning", "He et al. 2019, arXiv:1911.05722", decks=("000", "002", "004"), coupled=False)
    paper = Training("sgd", rate=0.03, decay=1e-4, warmup=0.0)
    small = Preset(small_sgd(0.12), {"recipe": small_crops(), "keys": 1024, "momentum": Constant(0.99), "groups": 4}, batch=128)

    def __init__(
        self,
        backbone: Backbone,
        *,
        recipe: Recipe = TwoCrops(MOCO, MOCO),
        dim: int = 128,
        keys: int = 65_536,
        temperature: float = 0.2,
        momentum: Schedule = Constant(0.999),
        groups: int = 8,
    ) -> None:
        super().__init__(backbone, recipe)
        self.dim, self.keys, self.temperature, self.momentum, self.groups = dim, keys, temperature, momentum, groups
        self.projector = mlp(backbone.dim, backbone.dim, dim, norm=False)
        self.teacher = Momentum(Chain(backbone, self.projector), momentum)
        self.queue = Queue(keys, dim)
        if groups > 1:
            split_batch_norms(backbone, groups)
            split_batch_norms(self.teacher, groups, interleaved=True)

    def forward(self, views: Views, clock: Clock) -> Outcome:
        query = self.projector(self.backbone(views.large[0]).pooled)
        key = normalize(at_least_single(self.teacher(views.large[1])))
        loss = info_nce(query, key, self.temperature, negatives=self.queue.read())  # the current keys are not negatives yet
        self.queue.note(all_gather_with_grad(key))
        return Outcome({"contrast": loss}, {"embedding": query.detach()})
