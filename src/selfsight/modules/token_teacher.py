"""A student and its slow copy that speak of pictures and of patches."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from selfsight.core.part import Chain
from selfsight.core.representation import TokenBackbone, Tokens
from selfsight.core.schedule import Schedule
from selfsight.modules.heads import prototype_head
from selfsight.modules.momentum import Momentum
from selfsight.modules.running import RunningMean

__all__ = ["TokenTeacher"]


class TokenTeacher(nn.Module):
    """DINO's head for whole pictures and for patches, the slow copy of network and heads, and a centre for each kind.

    Args:
        backbone: the student's network.
        prototypes, hidden, bottleneck: of each head; see ``prototype_head``.
        momentum: of the slow copy.
        heads: ``shared`` by pictures and patches (iBOT), or ``apart`` (DINOv2).
        norm: batch norm in the heads.
    """

    def __init__(
        self,
        backbone: TokenBackbone,
        prototypes: int,
        hidden: int,
        bottleneck: int,
        momentum: Schedule,
        *,
        heads: Literal["shared", "apart"] = "shared",
        norm: bool = False,
    ) -> None:
        super().__init__()
        count = 1 if heads == "shared" else 2
        made = (prototype_head(backbone.dim, prototypes, hidden=hidden, bottleneck=bottleneck, norm=norm) for _ in range(count))
        self.heads = nn.ModuleList(made)
        self.slow = Momentum(Chain(backbone, *self.heads), momentum, eval_mode=True)
        self.centres = nn.ModuleList(RunningMean(prototypes) for _ in range(2))

    @property
    def prototypes(self) -> tuple[nn.Module, ...]:
        """The last layer of each of the student's heads."""
        return tuple(head[-1] for head in self.heads)  # pyright: ignore[reportIndexIssue]

    def student(self, tokens: Tokens) -> tuple[Float[Tensor, "batch prototype"], Float[Tensor, "place prototype"]]:
        """Logits of pictures and of all their patches, picture after picture."""
        return self.heads[0](tokens.cls), self.heads[-1](tokens.patches.flatten(0, 1))

    @torch.no_grad()
    def teacher(self, view: Tensor) -> tuple[Float[Tensor, "batch prototype"], Float[Tensor, "place prototype"]]:
        """What the slow copy says of whole pictures and of their patches."""
        network, *heads = self.slow.followers
        tokens: Tokens = network.tokens(view)  # pyright: ignore[reportCallIssue]
        return heads[0](tokens.cls), heads[-1](tokens.patches.flatten(0, 1))

    def sharpened(
        self, logits: tuple[Float[Tensor, "batch prototype"], Float[Tensor, "place prototype"]], temperature: float
    ) -> tuple[Float[Tensor, "batch prototype"], Float[Tensor, "place prototype"]]:
        """The targets: centred and sharpened. Centres of the global batch; means enter after the step."""
        whole, local = (centre.sharpened(rows, temperature) for centre, rows in zip(self.centres, logits, strict=True))  # pyright: ignore[reportCallIssue]
        return whole, local
