"""Rotation feature decoupling."""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from selfsight.core.card import SMALL_ADAMW, Card, Preset, Training
from selfsight.core.clock import Clock
from selfsight.core.method import Outcome, Recipe, hint, sample_index
from selfsight.core.representation import Backbone
from selfsight.core.views import Views
from selfsight.data.views.image.recipes import SIMCLR_SMALL, FourTurns
from selfsight.modules.heads import linear
from selfsight.modules.memory import InitialisedMemory, Memory
from selfsight.objectives.agree import mean_squared_error
from selfsight.objectives.contrast import instance_discrimination
from selfsight.objectives.precision import at_least_single

__all__ = ["RotationDecoupling"]


class RotationDecoupling(InitialisedMemory):
    """Half of the features predict the rotation, the other half are invariant to it and discriminate instances (Feng et al. 2019, CVPR).

    The second halves of an image's four rotations approach their mean, which is contrasted with those of all other images in a memory
    bank. The paper's weights for images without orientation, from a network trained before, are not included.

    Args:
        dim: length of a stored embedding.
        temperature: divides the cosine similarities.
        turn, meet, instance: weights of rotation prediction; of the distance to the mean; of instance discrimination.
    """

    card = Card("pretext", "discriminative", "Feng et al. 2019, CVPR", decks=("003",), coupled=False)
    paper = Training("sgd", rate=0.13, decay=5e-4, warmup=0.0)
    small = Preset(SMALL_ADAMW, {"recipe": FourTurns(SIMCLR_SMALL), "temperature": 0.1, "instance": 0.1}, batch=32)

    def __init__(
        self,
        backbone: Backbone,
        *,
        recipe: Recipe = FourTurns(),
        dim: int = 128,
        temperature: float = 0.07,
        turn: float = 1.0,
        meet: float = 1.0,
        instance: float = 1.0,
    ) -> None:
        super().__init__(backbone, recipe)
        self.dim, self.temperature, self.turn, self.meet, self.instance = dim, temperature, turn, meet, instance
        self.middle = backbone.dim // 2
        self.classifier = linear(self.middle, 4)
        self.projector = nn.Linear(backbone.dim - self.middle, dim)
        self.memory = Memory(dim, keep=0.5)

    def memory_embeddings(self, images: Tensor) -> Tensor:
        """The second half of the features, projected."""
        return self.projector(self.backbone(images).pooled[:, self.middle :])

    def forward(self, views: Views, clock: Clock) -> Outcome:
        index, turns = sample_index(views, "RotationDecoupling"), hint(views, "turn", "RotationDecoupling").long().T.flatten()
        pooled = at_least_single(self.backbone(torch.cat(views.large)).pooled)
        logits, free = self.classifier(pooled[:, : self.middle]), pooled[:, self.middle :].unflatten(0, (len(views.large), -1))
        centre = free.mean(0)
        rows = normalize(at_least_single(self.projector(centre)))
        instance_loss = instance_discrimination(rows, self.memory.rows, index, self.temperature)
        self.memory.note(index, rows)
        losses = {
            "turn": self.turn * cross_entropy(at_least_single(logits), turns),
            "meet": self.meet * mean_squared_error(free, centre.detach().expand_as(free)),
            "instance": self.instance * instance_loss,
        }
        return Outcome(losses, {"embedding": pooled[: len(views)].detach(), "accuracy": (logits.argmax(1) == turns).float().mean()})
