"""SiT."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from selfsight.core.card import Card, Preset, Training
from selfsight.core.clock import Clock
from selfsight.core.distribute import all_gather_with_grad, local_rows
from selfsight.core.errors import UsageError
from selfsight.core.method import Method, Outcome, Recipe, hint
from selfsight.core.representation import Backbone, TokenBackbone, need_tokens
from selfsight.core.views import Views
from selfsight.data.views.image.damage import Scrambled
from selfsight.modules.heads import linear, mlp
from selfsight.objectives.agree import mean_absolute_error
from selfsight.objectives.contrast import nt_xent
from selfsight.objectives.precision import at_least_single
from selfsight.objectives.reconstruct import patches

__all__ = ["SiT"]


class SiT(Method[TokenBackbone]):
    """Reconstruction, rotation prediction and contrastive learning with learnt task weights (Atito et al. 2021, arXiv:2104.03602).

    Every task has a learnt uncertainty s and the loss ``exp(-s) loss + s`` (Kendall et al. 2017, arXiv:1705.07115). Patch tokens
    reconstruct the corrupted patches, the class token is contrasted, and a register token predicts the rotation.

    Args:
        hidden, dim: width of the projector's hidden layer; length of the contrasted embedding.
        temperature: divides the cosine similarities.
    """

    card = Card("masked", "generative", "Atito et al. 2021, arXiv:2104.03602", decks=("004",), probe="linear")
    paper = Training("adamw", rate=5e-4, reference_batch=512, decay=0.05, warmup=0.02)
    small = Preset(
        Training("adamw", rate=1e-3, decay=0.05, warmup=0.1, clip=3.0), {"hidden": 512}, batch=64, backbone="vit_nano?registers=1"
    )

    def __init__(
        self, backbone: Backbone, *, recipe: Recipe = Scrambled(), hidden: int = 2048, dim: int = 128, temperature: float = 0.2
    ) -> None:
        backbone = need_tokens(backbone, "SiT", "mends")
        if backbone.prefix < 2:
            raise UsageError(
                "SiT predicts rotations from a register token, and the backbone has none.", "Choose one that has: vit_tiny?registers=1."
            )
        super().__init__(backbone, recipe)
        self.hidden, self.dim, self.temperature = hidden, dim, temperature
        self.projector = mlp(backbone.dim, hidden, dim)
        self.turn = linear(backbone.dim, 4)
        self.paint = nn.Linear(backbone.dim, backbone.channels * backbone.stride**2)
        self.doubts = nn.Parameter(torch.zeros(3))

    def forward(self, views: Views, clock: Clock) -> Outcome:
        if len(views.large) != 4:
            raise UsageError(f"SiT needs two corrupted and two clean views, not {len(views.large)} views.", "Use the recipe Scrambled.")
        turns = hint(views, "quarters", "SiT").T.flatten().long()
        tokens = self.backbone.tokens(torch.cat(views.large[:2]))
        painted, target = self.paint(tokens.patches), patches(torch.cat(views.large[2:]), self.backbone.stride)
        logits = at_least_single(self.turn(tokens.registers[:, 0]))
        left, right = (all_gather_with_grad(half) for half in self.projector(tokens.cls).chunk(2))
        terms = {
            "mend": mean_absolute_error(painted, target),
            "turn": cross_entropy(logits, turns),
            "contrast": nt_xent(left, right, self.temperature),
        }
        losses = {name: (-doubt).exp() * term + doubt for (name, term), doubt in zip(terms.items(), self.doubts, strict=True)}
        diagnostics = {"embedding": local_rows(left).detach(), "accuracy": (logits.argmax(1) == turns).float().mean()}
        return Outcome(losses, diagnostics)
