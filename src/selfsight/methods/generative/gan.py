"""DCGAN."""

from torch import Tensor

from selfsight.core.card import Card, Preset, gan_adam
from selfsight.core.clock import Clock
from selfsight.core.method import Method, Outcome, Recipe, Turn, hint
from selfsight.core.representation import Backbone
from selfsight.core.views import Views
from selfsight.data.views.image.damage import full_image_with_noise
from selfsight.modules.decoders import ConvDecoder
from selfsight.modules.heads import linear
from selfsight.objectives.adversarial import discriminator_accuracy, discriminator_loss, generator_loss

__all__ = ["GAN"]


class GAN(Method):
    """DCGAN: a generator is trained against a discriminator, whose features are used (Radford et al. 2015, arXiv:1511.06434).

    The discriminator is the backbone (``dcgan`` is the paper's). Real and generated images pass its batch norm separately.

    Args:
        noise: length of a code, as in the recipe.
        size: side of the images in pixels.
        width: channels of the generator before its last layer.
    """

    card = Card("generative", "generative", "Radford et al. 2015, arXiv:1511.06434", decks=("000", "002", "003"), coupled=False)
    paper = gan_adam(128, 0.5, 0.999)
    small = Preset(gan_adam(128, 0.5, 0.999), {"width": 32}, batch=128, backbone="dcgan?width=32")

    def __init__(
        self, backbone: Backbone, *, recipe: Recipe = full_image_with_noise(100), noise: int = 100, size: int = 64, width: int = 64
    ) -> None:
        super().__init__(backbone, recipe)
        self.noise, self.size, self.width = noise, size, width
        self.generator = ConvDecoder(noise, size=size, channels=backbone.channels, width=width)
        self.verdict = linear(backbone.dim, 1)

    def turns(self) -> tuple[Turn, ...]:
        """The discriminator, then the generator."""
        return Turn("critic", (self.backbone, self.verdict)), Turn("generator", (self.generator,))

    def forward(self, views: Views, clock: Clock) -> Outcome:
        made = self.generator(hint(views, "noise", "GAN")[:, 0])
        if clock.turn == "generator":
            return Outcome({"deceive": generator_loss(self._score(made))})
        features = self.backbone(views.large[0]).pooled
        real, fake = self.verdict(features), self._score(made.detach())
        return Outcome(
            {"tell": discriminator_loss(real, fake)}, {"embedding": features.detach(), "accuracy": discriminator_accuracy(real, fake)}
        )

    def _score(self, images: Tensor) -> Tensor:
        return self.verdict(self.backbone(images).pooled)
