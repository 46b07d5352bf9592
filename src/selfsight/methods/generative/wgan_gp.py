"""WGAN-GP."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from selfsight.core.card import Card, Preset, Training, gan_adam
from selfsight.core.clock import Clock
from selfsight.core.method import Method, Outcome, Recipe, Turn, hint
from selfsight.core.representation import Backbone
from selfsight.core.views import Views
from selfsight.data.views.image.damage import full_image_with_noise
from selfsight.modules.decoders import ConvDecoder
from selfsight.objectives.adversarial import gradient_penalty, wasserstein_distance

__all__ = ["WGANGP"]


class WGANGP(Method):
    """Wasserstein GAN with gradient penalty (Gulrajani et al. 2017, arXiv:1704.00028).

    The critic is the backbone, without batch norm (``dcgan?norm=false``). The generator is updated at every ``every``-th step.

    Args:
        noise: length of a code; the recipe's noise has one more number, which interpolates between real and generated for the penalty.
        size: side of the images in pixels.
        width: channels of the generator before its last layer.
        penalty: weight of the gradient penalty.
        every: critic steps per generator step.
    """

    card = Card("generative", "generative", "Gulrajani et al. 2017, arXiv:1704.00028", decks=("002",), coupled=False)
    paper = Training("adamw", rate=1e-4, reference_batch=64, decay=0.0, warmup=0.0, final=1.0, betas=(0.0, 0.9))
    small = Preset(gan_adam(64, 0.0, 0.9, 1e-3), {"width": 32}, batch=64, backbone="dcgan?width=32&norm=false")

    def __init__(
        self,
        backbone: Backbone,
        *,
        recipe: Recipe = full_image_with_noise(101),
        noise: int = 100,
        size: int = 64,
        width: int = 64,
        penalty: float = 10.0,
        every: int = 5,
    ) -> None:
        super().__init__(backbone, recipe)
        self.noise, self.size, self.width, self.penalty, self.every = noise, size, width, penalty, every
        self.generator = ConvDecoder(noise, size=size, channels=backbone.channels, width=width)
        self.verdict = nn.Linear(backbone.dim, 1, bias=False)  # a bias cancels out

    def turns(self) -> tuple[Turn, ...]:
        """The critic, then the generator."""
        return Turn("critic", (self.backbone, self.verdict)), Turn("generator", (self.generator,))

    def frozen(self, clock: Clock) -> tuple[nn.Module, ...]:
        """The generator, except at every ``every``-th step."""
        return (self.generator,) if (clock.step + 1) % self.every else ()

    def forward(self, views: Views, clock: Clock) -> Outcome:
        code, place = hint(views, "noise", "WGAN-GP")[:, 0].split([self.noise, 1], 1)
        made = self.generator(code)
        if clock.turn == "generator":
            return Outcome({"deceive": -self._score(made).mean()})
        features = self.backbone(views.large[0]).pooled
        apart = wasserstein_distance(self.verdict(features), self._score(made.detach()))
        slope = gradient_penalty(self._gradient(views.large[0], made.detach(), torch.special.ndtr(place)))
        return Outcome({"tell": -apart, "slope": self.penalty * slope}, {"distance": apart.detach()})

    def _score(self, images: Tensor) -> Tensor:
        return self.verdict(self.backbone(images).pooled)

    def _gradient(self, real: Tensor, made: Tensor, share: Float[Tensor, "batch 1"]) -> Tensor:
        """Gradient of the critic's score, at an interpolation of each real image and a generated one."""
        between = torch.lerp(made.to(real), real, share[..., None, None].to(real)).requires_grad_()
        with torch.enable_grad():
            return torch.autograd.grad(self._score(between).sum(), between, create_graph=True)[0]
