"""BEiT."""

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from selfsight.core.card import Card, Preset, Training
from selfsight.core.clock import Clock, key
from selfsight.core.method import Extract, Method, Outcome, Recipe, hint
from selfsight.core.representation import Backbone, TokenBackbone, need_tokens
from selfsight.core.views import Views
from selfsight.data.views.image.masks import Blocks
from selfsight.data.views.image.recipes import PLAIN, OneCrop
from selfsight.modules.codebook import Codebook
from selfsight.modules.heads import linear
from selfsight.objectives.assign import kmeans
from selfsight.objectives.precision import at_least_single
from selfsight.objectives.reconstruct import patches

__all__ = ["BEiT"]


class BEiT(Method[TokenBackbone]):
    """Predict the visual words of masked patches (Bao et al. 2021, arXiv:2106.08254).

    The words are made first from the same images: k-means of their patches, before the first step. The paper uses a discrete autoencoder
    that was trained on hundreds of millions of other images.

    Args:
        codes: number of words.
        sample: number of patches for k-means.
    """

    card = Card("masked", "generative", "Bao et al. 2021, arXiv:2106.08254", decks=("004",), probe="linear", coupled=False)
    paper = Training("adamw", rate=1.5e-3, reference_batch=2048, decay=0.05, warmup=0.02, clip=3.0)
    small = Preset(
        Training("adamw", rate=1e-3, decay=0.05, warmup=0.1, clip=3.0),
        {"codes": 256, "sample": 50_000, "recipe": OneCrop(mask=Blocks(0.5, 0.5))},
        batch=128,
        backbone="vit_nano?pool=mean",
    )

    def __init__(
        self,
        backbone: Backbone,
        *,
        recipe: Recipe = OneCrop(PLAIN, mask=Blocks(0.4, 0.4, smallest=16)),
        codes: int = 8192,
        sample: int = 500_000,
    ) -> None:
        backbone = need_tokens(backbone, "BEiT", "replaces")
        super().__init__(backbone, recipe)
        self.codes, self.sample = codes, sample
        self.blank = nn.Parameter(torch.zeros(backbone.dim))
        self.words = Codebook(codes, backbone.channels * backbone.stride**2)
        self.name = linear(backbone.dim, codes)
        nn.init.trunc_normal_(self.blank, std=0.02)

    def due(self, clock: Clock) -> bool:
        """Before the first step only."""
        return clock.step == 0

    def relabel(self, extract: Extract, clock: Clock) -> Iterable[nn.Module]:
        """k-means of patches at sixteen random positions, the same in every image."""
        generator = torch.Generator().manual_seed(key(clock.seed, 0xBE))

        def some(images: torch.Tensor) -> torch.Tensor:
            cut = patches(images, self.backbone.stride)
            places = torch.randperm(cut.shape[1], generator=torch.Generator().manual_seed(key(clock.seed, 0xBE, 2)))[:16]
            return cut[:, places.to(cut.device)].flatten(1)

        _, found = extract(some)
        rows = found.view(-1, self.words.rows.shape[1])
        rows = rows[torch.randperm(len(rows), generator=generator)[: self.sample].to(rows.device)]
        found = kmeans(rows, min(self.codes, max(len(rows) // 10, 2)), seed=key(clock.seed, 0xBE, 1), rounds=20).centroids
        self.words.rows.fill_(1e4)[: len(found)] = found  # unused words are far from all patches
        return []

    def forward(self, views: Views, clock: Clock) -> Outcome:
        image, hidden = views.large[0], hint(views, "mask", "BEiT")[:, 0]
        tokens = self.backbone.tokens(image, replace=(hidden, self.blank))
        logits, words = at_least_single(self.name(tokens.patches[hidden])), self.words(patches(image, self.backbone.stride)[hidden])
        count = max(len(words), 1)  # a small grid with a low ratio may have no masked patch
        accuracy = (logits.argmax(1) == words).float().sum() / count
        diagnostics = {"embedding": tokens.patches.detach().mean(1), "accuracy": accuracy, "chance": torch.tensor(float(self.codes)).log()}
        return Outcome({"word": cross_entropy(logits, words, reduction="sum") / count}, diagnostics)
