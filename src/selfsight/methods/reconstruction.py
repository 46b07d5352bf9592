"""Reconstruction of images from a short code."""

from selfsight.core.clock import Clock
from selfsight.core.method import Method, Outcome, Recipe, two_views
from selfsight.core.representation import Backbone
from selfsight.core.views import Views
from selfsight.modules.decoders import CodeDecoder
from selfsight.objectives.agree import mean_squared_error

__all__ = ["Reconstruction"]


class Reconstruction(Method):
    """Reconstruct the clean image from a code of the corrupted one; the recipe defines the corruption.

    The loss is the mean squared error of pixels in [-1, 1]. A subclass defines card, presets and the recipe.

    Args:
        code: length of the code.
        size: side of the images in pixels.
        width: channels of the decoder before its last layer.
    """

    def __init__(self, backbone: Backbone, recipe: Recipe, code: int, size: int, width: int) -> None:
        super().__init__(backbone, recipe)
        self.code, self.size, self.width = code, size, width
        self.painter = CodeDecoder(backbone.dim, code=code, size=size, channels=backbone.channels, width=width)

    def forward(self, views: Views, clock: Clock) -> Outcome:
        damaged, clean = two_views(views, type(self).__name__)
        pooled = self.backbone(damaged).pooled
        loss = mean_squared_error(self.painter(pooled), clean)
        return Outcome({"paint": loss}, {"embedding": pooled.detach()})
