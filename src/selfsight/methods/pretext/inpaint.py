"""Context encoders."""

from selfsight.core.card import Card, Preset, Training
from selfsight.core.clock import Clock
from selfsight.core.method import Method, Outcome, Recipe, Turn, hint, two_views
from selfsight.core.representation import Backbone
from selfsight.core.views import Views
from selfsight.data.views.image.damage import Holed
from selfsight.data.views.image.masks import inside
from selfsight.modules.critics import Critic
from selfsight.modules.decoders import CodeDecoder
from selfsight.objectives.adversarial import discriminator_loss, generator_loss
from selfsight.objectives.reconstruct import weighted_mse

__all__ = ["Inpaint"]


class Inpaint(Method):
    """Context encoder: reconstruct a hole, with an adversarial loss (Pathak et al. 2016, arXiv:1604.07379).

    The squared error is over pixels of the hole, in [-1, 1]; those within ``border`` of its edge have weight ``emphasis``. The
    discriminator gets full images, real and filled.

    Args:
        code: length of the code.
        size: side of the images in pixels.
        width: channels of the decoder before its last layer, and of the discriminator after its first.
        adversary: weight of the adversarial loss; the reconstruction error has one minus this.
        border: width of the rim as a fraction of the hole's side.
        emphasis: weight of the rim.
    """

    card = Card("pretext", "generative", "Pathak et al. 2016, arXiv:1604.07379", decks=("002", "003"), probe="linear", coupled=False)
    paper = Training("adamw", rate=2e-4, decay=0.0, warmup=0.0, betas=(0.5, 0.999))
    small = Preset(
        Training("adamw", rate=1e-3, decay=1e-4, warmup=0.05, betas=(0.5, 0.999)),
        {"width": 32, "code": 128, "recipe": Holed(anywhere=True)},
        batch=64,
    )

    def __init__(
        self,
        backbone: Backbone,
        *,
        recipe: Recipe = Holed(),
        code: int = 4000,
        size: int = 128,
        width: int = 64,
        adversary: float = 0.001,
        border: float = 0.11,
        emphasis: float = 10.0,
    ) -> None:
        super().__init__(backbone, recipe)
        self.code, self.size, self.width, self.adversary, self.border, self.emphasis = code, size, width, adversary, border, emphasis
        self.painter = CodeDecoder(backbone.dim, code=code, size=size, channels=backbone.channels, width=width)
        self.critic = Critic(size=size, channels=backbone.channels, width=width)

    def turns(self) -> tuple[Turn, ...]:
        """The discriminator, then encoder and decoder."""
        return Turn("critic", (self.critic,)), Turn("painter", (self.backbone, self.painter))

    def forward(self, views: Views, clock: Clock) -> Outcome:
        hole = hint(views, "hole", "Inpaint")[:, 0]
        damaged, clean = two_views(views, "Inpaint")
        pooled = self.backbone(damaged).pooled
        painted = self.painter(pooled)
        filled = clean + (painted - clean) * inside(clean, hole)
        if clock.turn == "critic":
            return Outcome({"tell": discriminator_loss(self.critic(clean), self.critic(filled.detach()))}, {"embedding": pooled.detach()})
        rim = hole + self.border * (hole[:, 2:3] - hole[:, :1]) * hole.new_tensor([1.0, 1.0, -1.0, -1.0])
        weight = self.emphasis * inside(clean, hole) - (self.emphasis - 1) * inside(clean, rim).float()
        losses = {
            "paint": (1 - self.adversary) * weighted_mse(painted, clean, weight),
            "deceive": self.adversary * generator_loss(self.critic(filled)),
        }
        return Outcome(losses, {"embedding": pooled.detach()})
