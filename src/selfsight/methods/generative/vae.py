"""VAE."""

import torch
from torch import nn

from selfsight.core.card import Card, Preset, Training
from selfsight.core.clock import Clock
from selfsight.core.method import Method, Outcome, Recipe, hint
from selfsight.core.representation import Backbone
from selfsight.core.views import Views
from selfsight.data.views.image.damage import SYMMETRIC
from selfsight.data.views.image.recipes import PLAIN, OneCrop
from selfsight.modules.decoders import ConvDecoder
from selfsight.objectives.precision import at_least_single
from selfsight.objectives.reconstruct import gaussian_likelihood, normal_divergence

__all__ = ["VAE"]


class VAE(Method):
    """Variational autoencoder (Kingma & Welling 2013, arXiv:1312.6114).

    Minimises the negative evidence lower bound in nats per image: both terms are summed over pixels and code, then averaged over the
    batch. The standard deviation of pixels is learnt, one number for all (Rybkin et al. 2020, arXiv:2006.13202).

    Args:
        code: length of the code, as in the recipe's noise.
        size: side of the images in pixels.
        width: channels of the decoder before its last layer.
    """

    card = Card("generative", "generative", "Kingma & Welling 2013, arXiv:1312.6114", decks=("000", "002"), probe="linear", coupled=False)
    paper = Training("adamw", rate=1e-3, decay=0.0, warmup=0.0)
    small = Preset(
        Training("adamw", rate=2e-3, decay=1e-4, warmup=0.05, clip=500.0),
        {"recipe": OneCrop(PLAIN, noise=64, normalise=SYMMETRIC), "code": 64, "width": 32},
        batch=64,
    )

    def __init__(
        self,
        backbone: Backbone,
        *,
        recipe: Recipe = OneCrop(PLAIN, noise=128, normalise=SYMMETRIC),
        code: int = 128,
        size: int = 128,
        width: int = 64,
    ) -> None:
        super().__init__(backbone, recipe)
        self.code, self.size, self.width = code, size, width
        self.neck = nn.Linear(backbone.dim, 2 * code)
        self.decoder = ConvDecoder(code, size=size, channels=backbone.channels, width=width)
        self.log_deviation = nn.Parameter(torch.zeros(()))

    def forward(self, views: Views, clock: Clock) -> Outcome:
        image, noise = views.large[0], hint(views, "noise", "VAE")[:, 0]
        mean, log_variance = at_least_single(self.neck(self.backbone(image).pooled)).chunk(2, 1)
        painted = self.decoder(mean + noise.to(mean) * (log_variance / 2).exp())
        losses = {"paint": -gaussian_likelihood(image, painted, self.log_deviation), "divergence": normal_divergence(mean, log_variance)}
        return Outcome(losses, {"embedding": mean.detach()})
