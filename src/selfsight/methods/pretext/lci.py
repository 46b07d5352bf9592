"""Limited context inpainting."""

from types import MappingProxyType

import torch
from torch.nn.functional import cross_entropy, pad

from selfsight.core.bounds import ABOVE_0, AT_LEAST_0
from selfsight.core.card import Card, Preset, Training
from selfsight.core.clock import Clock
from selfsight.core.method import Method, Outcome, Recipe, Turn, hint
from selfsight.core.representation import Backbone
from selfsight.core.views import Views
from selfsight.data.views.image.changes import Changed, pasted, patch_at
from selfsight.modules.autoencoder import ConvAutoencoder
from selfsight.modules.critics import Critic
from selfsight.modules.heads import linear
from selfsight.objectives.adversarial import discriminator_loss, generator_loss
from selfsight.objectives.agree import mean_squared_error
from selfsight.objectives.precision import at_least_single

__all__ = ["LCI"]


class LCI(Method):
    """Classify transformations that keep local statistics: none, inpainting, rotation, warp (Jenni et al. 2020, arXiv:2004.02331).

    The six classes can only be distinguished by global structure. The input of the inpainter is the border of a square; it is trained against a
    discriminator of squares and against the network. In half of the untransformed images a square is autoencoded, so that artifacts of the
    inpainter are not informative.

    Args:
        size: side of the images in pixels.
        side: side of the square as a fraction of it, as in the recipe.
        border: width in pixels of the border that the inpainter gets.
        width: channels of inpainter and discriminator after their first downsampling.
        fidelity: weight of the inpainter's squared error, in the border and on autoencoded squares.
    """

    card = Card("pretext", "discriminative", "Jenni et al. 2020, arXiv:2004.02331", decks=("003",), coupled=False)
    paper = Training("adamw", rate=3e-4, reference_batch=64, decay=1e-4, warmup=0.0, final=0.001, betas=(0.5, 0.999))
    limits = MappingProxyType({"border": AT_LEAST_0, "side": ABOVE_0})
    small = Preset(Training("adamw", rate=4e-3, decay=0.01, warmup=0.05, betas=(0.5, 0.999), clip=5.0), {"border": 2}, batch=64)

    def __init__(
        self,
        backbone: Backbone,
        *,
        recipe: Recipe = Changed(),
        size: int = 64,
        side: float = 0.5,
        border: int = 3,
        width: int = 32,
        fidelity: float = 50.0,
    ) -> None:
        super().__init__(backbone, recipe)
        self.size, self.side, self.border, self.width, self.fidelity = size, side, border, width, fidelity
        self.square = round(side * size)
        self.painter = ConvAutoencoder(backbone.channels, width=width, levels=2)
        self.critic = Critic(size=self.square, channels=backbone.channels, width=width)
        self.classifier = linear(backbone.dim, 6)

    def turns(self) -> tuple[Turn, ...]:
        """The discriminator, the inpainter, the network."""
        return Turn("critic", (self.critic,)), Turn("painter", (self.painter,)), Turn("tell", (self.backbone, self.classifier))

    def forward(self, views: Views, clock: Clock) -> Outcome:
        kind, corner, coded = (hint(views, name, "LCI")[:, 0] for name in ("kind", "corner", "coded"))
        image = views.large[0]
        square = patch_at(image, corner, self.square)
        inner = self.square - 2 * self.border
        border = pad(square.new_ones(1, 1, inner, inner), (self.border,) * 4, value=0.0) == 0
        painted, copied = self.painter(square * border), self.painter(square)
        if clock.turn == "critic":
            return Outcome({"tell squares": discriminator_loss(self.critic(square), self.critic(painted.detach()))})
        if clock.turn == "painter":
            error = mean_squared_error(painted * border, square * border) + mean_squared_error(copied, square)
            logits = at_least_single(self.classifier(self.backbone(pasted(image, painted, corner)).pooled))
            losses = {
                "same": self.fidelity * error,
                "deceive": generator_loss(self.critic(painted)),
                "pass": cross_entropy(logits, 0 * kind),
            }
            return Outcome(losses)
        shown = torch.where((kind == 1)[:, None, None, None], pasted(image, painted.detach(), corner), image)
        shown = torch.where(coded[:, None, None, None], pasted(image, copied.detach(), corner), shown)
        pooled = self.backbone(shown).pooled
        logits = at_least_single(self.classifier(pooled))
        diagnostics = {"embedding": pooled.detach(), "chance": torch.tensor(6.0).log()}
        return Outcome({"kind": cross_entropy(logits, kind)}, diagnostics | {"accuracy": (logits.argmax(1) == kind).float().mean()})
