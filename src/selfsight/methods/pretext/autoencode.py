"""Autoencoders."""

from selfsight.core.card import Card, Preset, Training
from selfsight.core.clock import Clock
from selfsight.core.method import Method, Outcome, Recipe, two_views
from selfsight.core.representation import Backbone
from selfsight.core.views import Views
from selfsight.data.views.damage import Noisy
from selfsight.objectives.agree import mean_squared_error
from selfsight.parts.decoders import Painter

__all__ = ["Autoencoder"]


class Autoencoder(Method):
    """A short code from which the picture can be painted again (Bank et al. 2020, arXiv:2003.05991).

    The loss is the mean squared error of pixels in [-1, 1].

    Args:
        code: numbers in the code.
        size: side of the pictures in pixels.
        width: channels of the decoder before its last layer.
    """

    card = Card("pretext", "generative", "Bank et al. 2020, arXiv:2003.05991", decks=("002", "003"), probe="linear", coupled=False)
    paper = Training("adamw", rate=1e-3, decay=0.0, warmup=0.05)
    small = Preset(Training("adamw", rate=1e-3, decay=1e-4, warmup=0.05), {"width": 32, "code": 64}, batch=64)

    def __init__(
        self, backbone: Backbone, *, recipe: Recipe = Noisy(deviation=0.0), code: int = 256, size: int = 128, width: int = 64
    ) -> None:
        super().__init__(backbone, recipe)
        self.code, self.size, self.width = code, size, width
        self.painter = Painter(backbone.dim, code=code, size=size, channels=backbone.channels, width=width)

    def forward(self, views: Views, clock: Clock) -> Outcome:
        damaged, clean = two_views(views, "Autoencoder")
        pooled = self.backbone(damaged).pooled
        loss = mean_squared_error(self.painter(pooled), clean)
        return Outcome({"paint": loss}, {"embedding": pooled.detach()})
