"""Student and momentum teacher with outputs for images and for patches."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from selfsight.core.modules import Modules
from selfsight.core.part import Chain
from selfsight.core.representation import TokenBackbone, Tokens
from selfsight.core.schedule import Schedule
from selfsight.modules.heads import prototype_head
from selfsight.modules.momentum import Momentum
from selfsight.modules.running import RunningMean

__all__ = ["TokenTeacher"]


class TokenTeacher(nn.Module):
    """DINO heads for images and patches, the momentum copy of network and heads, and a centre for each output.

    Args:
        backbone: the student's network.
        prototypes: outputs of each head; see ``prototype_head``.
        hidden: dimension of each head's hidden layers.
        bottleneck: dimension of each head's normalised vector.
        momentum: momentum of the teacher.
        heads: ``shared`` by images and patches (iBOT), or ``apart`` (DINOv2).
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
        heads_made = (prototype_head(backbone.dim, prototypes, hidden=hidden, bottleneck=bottleneck, norm=norm) for _ in range(count))
        self.heads = nn.ModuleList(heads_made)
        self.slow = Momentum(Chain(backbone, *self.heads), momentum, eval_mode=True)
        self.centres = Modules[RunningMean](RunningMean(prototypes) for _ in range(2))

    @property
    def prototypes(self) -> tuple[nn.Module, ...]:
        """The last layer of each of the student's heads."""
        return tuple(head[-1] for head in self.heads)  # pyright: ignore[reportIndexIssue]

    def student(self, tokens: Tokens) -> tuple[Float[Tensor, "batch prototype"], Float[Tensor, "place prototype"]]:
        """Logits of images (N, K) and of all their patches (N · P, K), the patches of one image after those of another."""
        return self.heads[0](tokens.cls), self.heads[-1](tokens.patches.flatten(0, 1))

    @torch.no_grad()
    def teacher(self, view: Tensor) -> tuple[Float[Tensor, "batch prototype"], Float[Tensor, "place prototype"]]:
        """The teacher's logits of images and of their patches."""
        network, *heads = self.slow.followers
        assert isinstance(network, TokenBackbone)
        tokens = network.tokens(view)
        return heads[0](tokens.cls), heads[-1](tokens.patches.flatten(0, 1))

    def sharpened(
        self, logits: tuple[Float[Tensor, "batch prototype"], Float[Tensor, "place prototype"]], temperature: float
    ) -> tuple[Float[Tensor, "batch prototype"], Float[Tensor, "place prototype"]]:
        """Centred and sharpened targets, with centres of the global batch that are updated after the step.

        Args:
            logits: logits of images and of patches.
            temperature: τ.
        """
        images, patches = (centre.sharpened(rows, temperature) for centre, rows in zip(self.centres, logits, strict=True))
        return images, patches
