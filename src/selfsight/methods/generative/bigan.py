"""BiGAN."""

import torch
from torch import Tensor

from selfsight.core.card import Card, Preset, gan_adam
from selfsight.core.clock import Clock
from selfsight.core.method import Method, Outcome, Recipe, Turn, hint
from selfsight.core.representation import Backbone
from selfsight.core.views import Views
from selfsight.data.views.image.damage import full_image_with_noise
from selfsight.modules.critics import Critic
from selfsight.modules.decoders import ConvDecoder
from selfsight.modules.heads import linear, mlp
from selfsight.objectives.adversarial import discriminator_accuracy, discriminator_loss, generator_loss

__all__ = ["BiGAN"]


class BiGAN(Method):
    """A discriminator distinguishes (image, its code) from (generated image, its noise) (Donahue et al. 2016, arXiv:1605.09782).

    Encoder (the backbone) and generator are trained against it together; at the optimum each is the inverse of the other.

    Args:
        noise, size: length of a code, as in the recipe; side of the images in pixels.
        width, hidden: channels at either end of generator and discriminator; width of the layers that join image and code.
    """

    card = Card("generative", "generative", "Donahue et al. 2016, arXiv:1605.09782", decks=("004",), probe="linear", coupled=False)
    paper = gan_adam(128, 0.5, 0.999)
    small = Preset(
        gan_adam(64, 0.5, 0.999, 1e-3), {"width": 32, "noise": 50, "recipe": full_image_with_noise(50)}, batch=64, backbone="dcgan?width=32"
    )

    def __init__(
        self,
        backbone: Backbone,
        *,
        recipe: Recipe = full_image_with_noise(200),
        noise: int = 200,
        size: int = 64,
        width: int = 64,
        hidden: int = 512,
    ) -> None:
        super().__init__(backbone, recipe)
        self.noise, self.size, self.width, self.hidden = noise, size, width, hidden
        self.code = linear(backbone.dim, noise)
        self.generator = ConvDecoder(noise, size=size, channels=backbone.channels, width=width)
        self.critic = Critic(size=size, channels=backbone.channels, width=width, out=hidden)
        self.joint = mlp(hidden + noise, hidden, hidden, 1, norm=False)

    def turns(self) -> tuple[Turn, ...]:
        """The discriminator, then encoder and generator together."""
        return Turn("critic", (self.critic, self.joint)), Turn("pair", (self.backbone, self.code, self.generator))

    def forward(self, views: Views, clock: Clock) -> Outcome:
        image, drawn = views.large[0], hint(views, "noise", "BiGAN")[:, 0]
        pooled = self.backbone(image).pooled
        read, made = self.code(pooled), self.generator(drawn)
        if clock.turn == "pair":
            deceived = generator_loss(self._score(made, drawn)) + generator_loss(-self._score(image, read))
            return Outcome({"deceive": deceived}, {"embedding": pooled.detach()})
        real, fake = self._score(image, read.detach()), self._score(made.detach(), drawn)
        return Outcome(
            {"tell": discriminator_loss(real, fake)}, {"embedding": pooled.detach(), "accuracy": discriminator_accuracy(real, fake)}
        )

    def _score(self, images: Tensor, codes: Tensor) -> Tensor:
        features = self.critic(images)
        return self.joint(torch.cat([features, codes.to(features.dtype)], 1))
