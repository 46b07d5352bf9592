"""MAE."""

from selfsight.core.card import Card, Preset, Training
from selfsight.core.clock import Clock
from selfsight.core.method import Method, Outcome, Recipe, hint
from selfsight.core.representation import Backbone, TokenBackbone, need_tokens
from selfsight.core.views import Views
from selfsight.data.views.image.masks import RandomPatches
from selfsight.data.views.image.recipes import OneCrop
from selfsight.modules.decoders import PatchDecoder
from selfsight.objectives.reconstruct import masked_mse, patches, standard_patches

__all__ = ["MAE"]


class MAE(Method[TokenBackbone]):
    """Encode a quarter of the patches and reconstruct the others (He et al. 2021, arXiv:2111.06377).

    Args:
        depth: blocks of the decoder.
        width: token dimension of the decoder.
        normalise: predict patches standardised by their own mean and deviation.
    """

    card = Card("masked", "generative", "He et al. 2021, arXiv:2111.06377", decks=("000", "004"), probe="linear", coupled=False)
    paper = Training("adamw", rate=1.5e-4, decay=0.05, warmup=0.05, betas=(0.9, 0.95))
    small = Preset(
        Training("adamw", rate=1e-3, decay=0.05, warmup=0.1, betas=(0.9, 0.95)), {"depth": 2, "width": 128}, backbone="vit_nano?pool=mean"
    )

    def __init__(
        self,
        backbone: Backbone,
        *,
        recipe: Recipe = OneCrop(mask=RandomPatches(0.75)),
        depth: int = 8,
        width: int = 512,
        normalise: bool = True,
    ) -> None:
        backbone = need_tokens(backbone, "MAE", "drops")
        super().__init__(backbone, recipe)
        self.depth, self.width, self.normalise = depth, width, normalise
        out = backbone.channels * backbone.stride**2
        self.decoder = PatchDecoder(
            backbone,
            cells=int(backbone.side),  # pyright: ignore[reportArgumentType]
            depth=depth,
            width=width,
            out=out,
        )

    def forward(self, views: Views, clock: Clock) -> Outcome:
        image, hidden = views.large[0], hint(views, "mask", "MAE")[:, 0]
        tokens = self.backbone.tokens(image, keep=~hidden)
        target = patches(image, self.backbone.stride)
        target = standard_patches(target) if self.normalise else target
        painted = self.decoder(tokens.patches, hidden)
        return Outcome({"paint": masked_mse(painted, target, hidden)}, {"embedding": tokens.patches.detach().mean(1)})
