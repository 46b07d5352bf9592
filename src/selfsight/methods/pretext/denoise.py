"""Denoising autoencoders."""

from selfsight.core.card import Card, Preset, Training
from selfsight.core.clock import Clock
from selfsight.core.errors import MissingHint, UsageError
from selfsight.core.method import Method, Outcome, Recipe
from selfsight.core.representation import Backbone
from selfsight.core.views import Views
from selfsight.data.views.damage import Noisy
from selfsight.objectives.agree import mean_squared_error
from selfsight.parts.decoders import ConvDecoder
from selfsight.parts.heads import mlp

__all__ = ["DenoisingAutoencoder"]


class DenoisingAutoencoder(Method):
    """A noisy picture is painted clean (Bengio et al. 2013, arXiv:1305.6663; first Vincent et al. 2008).

    The loss is the mean squared error of pixels in [-1, 1].

    Args:
        code: numbers in the code.
        size: side of the pictures in pixels, four times a power of two.
        width: channels of the decoder before its last layer.
    """

    card = Card("pretext", "generative", "Bengio et al. 2013, arXiv:1305.6663", decks=("002", "003"), probe="linear", coupled=False)
    paper = Training("adamw", rate=1e-3, decay=0.0, warmup=0.05)
    small = Preset(Training("adamw", rate=1e-3, decay=1e-4, warmup=0.05), {"size": 32, "width": 32, "code": 64}, batch=64)

    def __init__(self, backbone: Backbone, *, recipe: Recipe = Noisy(), code: int = 256, size: int = 128, width: int = 64) -> None:
        super().__init__(backbone, recipe)
        self.code, self.size, self.width = code, size, width
        self.neck = mlp(backbone.dim, code)
        self.decoder = ConvDecoder(code, size=size, channels=backbone.channels, width=width)

    def forward(self, views: Views, clock: Clock) -> Outcome:
        if len(views.large) < 2:
            raise MissingHint(f"{type(self).__name__} needs a damaged and a clean view.", "Use the recipe Noisy.")
        damaged, clean = views.large
        if clean.shape[2:] != (self.size, self.size):
            raise UsageError(f"The decoder paints {self.size} px, the pictures have {clean.shape[2]}.", "Give both the same size.")
        pooled = self.backbone(damaged).pooled
        painted = self.decoder(self.neck(pooled))
        return Outcome({"paint": mean_squared_error(painted, clean)}, {"embedding": pooled.detach()})
