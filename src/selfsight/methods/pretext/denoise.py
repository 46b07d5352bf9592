"""Denoising autoencoders."""

from selfsight.core.card import Card, Preset, Training
from selfsight.core.method import Recipe
from selfsight.core.representation import Backbone
from selfsight.data.views.image.damage import Noisy
from selfsight.methods.reconstruction import Reconstruction

__all__ = ["DenoisingAutoencoder"]


class DenoisingAutoencoder(Reconstruction):
    """Reconstruct the clean image from a noisy one (Bengio et al. 2013, arXiv:1305.6663; first Vincent et al. 2008).

    The loss is the mean squared error of pixels in [-1, 1].

    Args:
        code: length of the code.
        size: side of the images in pixels.
        width: channels of the decoder before its last layer.
    """

    card = Card("pretext", "generative", "Bengio et al. 2013, arXiv:1305.6663", decks=("002", "003"), probe="linear", coupled=False)
    paper = Training("adamw", rate=1e-3, decay=0.0, warmup=0.05)
    small = Preset(Training("adamw", rate=1e-3, decay=1e-4, warmup=0.05), {"width": 32, "code": 64}, batch=64)

    def __init__(self, backbone: Backbone, *, recipe: Recipe = Noisy(), code: int = 256, size: int = 128, width: int = 64) -> None:
        super().__init__(backbone, recipe, code, size, width)
