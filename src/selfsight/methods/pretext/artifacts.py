"""Spotting artifacts."""

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, binary_cross_entropy_with_logits

from selfsight.core.card import Card, Preset, Training
from selfsight.core.clock import Clock
from selfsight.core.method import Method, Outcome, Recipe, Turn, hint
from selfsight.core.representation import Backbone, grid_dim
from selfsight.core.views import Views
from selfsight.data.views.image.damage import SYMMETRIC
from selfsight.data.views.image.masks import RandomPatches
from selfsight.data.views.image.recipes import PLAIN, OneCrop
from selfsight.modules.autoencoder import ConvAutoencoder, blurred
from selfsight.modules.heads import linear
from selfsight.objectives.adversarial import discriminator_accuracy, discriminator_loss, generator_loss
from selfsight.objectives.agree import mean_squared_error
from selfsight.objectives.precision import at_least_single

__all__ = ["Artifacts"]


class Artifacts(Method):
    """Distinguish repaired from intact images, and find the repaired positions (Jenni & Favaro 2018, arXiv:1806.05024).

    An autoencoder is trained first and then frozen. Some positions of its code are blurred, and layers repair what is decoded from it.
    Both kinds of images are decoded, so that artifacts of the decoder are not informative.

    Args:
        width: channels of the autoencoder after its first downsampling.
        levels: downsamplings; cells of the code are as wide as the backbone's.
        before: fraction of the run in which only the autoencoder is trained.
        fidelity: weight of the reconstruction error.
        where: weight of the localisation loss.
    """

    card = Card("pretext", "discriminative", "Jenni & Favaro 2018, arXiv:1806.05024", decks=("003",), coupled=False)
    paper = Training("adamw", rate=3e-4, reference_batch=128, decay=0.0, warmup=0.0, betas=(0.5, 0.99))
    small = Preset(Training("adamw", rate=4e-3, decay=0.01, warmup=0.05, betas=(0.5, 0.99), clip=5.0), batch=64)

    def __init__(
        self,
        backbone: Backbone,
        *,
        recipe: Recipe = OneCrop(PLAIN, mask=RandomPatches(0.4), normalise=SYMMETRIC),
        width: int = 32,
        levels: int = 3,
        before: float = 0.25,
        fidelity: float = 30.0,
        where: float = 0.1,
    ) -> None:
        super().__init__(backbone, recipe)
        self.width, self.levels, self.before, self.fidelity, self.where = width, levels, before, fidelity, where
        self.painter = ConvAutoencoder(backbone.channels, width=width, levels=levels, repair=True)
        self.verdict = linear(backbone.dim, 1)
        self.places = nn.Conv2d(grid_dim(backbone), 1, 1)

    def turns(self) -> tuple[Turn, ...]:
        """The autoencoder, the repair layers, the discriminator."""
        discriminator = (self.backbone, self.verdict, self.places)
        return Turn("decode", (self.painter.down, self.painter.up)), Turn("mend", (self.painter.repairs,)), Turn("tell", discriminator)

    def frozen(self, clock: Clock) -> tuple[nn.Module, ...]:
        """All but the autoencoder at first, then the autoencoder."""
        early = (self.backbone, self.verdict, self.places, self.painter.repairs)
        return early if clock.progress < self.before else (self.painter.down, self.painter.up)

    def forward(self, views: Views, clock: Clock) -> Outcome:
        image, mask = views.large[0], hint(views, "mask", "Artifacts")[:, 0]
        code = self.painter.encode(image)
        if clock.turn == "decode":
            return Outcome({"decode": self.fidelity * mean_squared_error(self.painter.decode(code), image)})
        cells = int(mask.shape[1] ** 0.5)
        damaged = adaptive_avg_pool2d(mask.to(code.dtype).view(-1, 1, cells, cells), int(code.shape[2])) > 0.5
        whole, mended = self.painter.decode(code), self.painter.decode(blurred(code, damaged), damaged)
        if clock.turn == "mend":
            same = self.fidelity * mean_squared_error(mended, whole.detach())
            return Outcome({"same": same, "deceive": generator_loss(self._discriminate(mended)[0])})
        (real, nowhere), (fake, there) = self._discriminate(whole.detach()), self._discriminate(mended.detach())
        target = adaptive_avg_pool2d(damaged.to(there.dtype), int(there.shape[2]))
        spots = binary_cross_entropy_with_logits(there, target) + binary_cross_entropy_with_logits(nowhere, torch.zeros_like(target))
        return Outcome(
            {"tell": discriminator_loss(real, fake), "where": self.where * spots}, {"accuracy": discriminator_accuracy(real, fake)}
        )

    def _discriminate(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.backbone(images)
        return at_least_single(self.verdict(features.pooled)), at_least_single(self.places(features.grid))
