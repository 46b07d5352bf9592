"""Parts that a layer over frozen features learns by contrast."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, affine_grid, cross_entropy, grid_sample, normalize, one_hot

from selfsight.core.progress import ProgressCallback, no_progress
from selfsight.discover.dense.features import FeatureBatch

__all__ = ["Weights", "learn_parts"]

LEARNT = 400
"""Pictures that are learnt from at most: the first, for their features are held, as they are and moved."""


@dataclass(frozen=True)
class Weights:
    """What each part of the loss counts.

    Attributes:
        contrast: a part's mean feature is more like that of the same part of another picture than like that of its other parts.
        even: features of a part are alike.
        tint: colours of a part are alike.
        moved: parts move with the picture.
    """

    contrast: float = 1.0
    even: float = 1.0
    tint: float = 1.0
    moved: float = 2.0


@dataclass(frozen=True)
class _Held:
    """What is learnt from: unit-length features, colours and objects of pictures, the features of moved pictures and where they went."""

    features: Float[Tensor, "picture dim rows columns"]
    colours: Float[Tensor, "picture 3 rows columns"]
    inside: Float[Tensor, "picture 1 rows columns"]
    moved: Float[Tensor, "picture dim rows columns"]
    grids: Float[Tensor, "picture rows columns 2"]


def _turns(count: int, generator: torch.Generator) -> Float[Tensor, "picture 2 3"]:
    """Turned by up to 30 degrees, scaled by 0.8 to 1.2, shifted by up to a tenth of a side, half of them mirrored."""
    angle, scale, right, down, mirror = torch.rand(5, count, generator=generator)
    angle, scale = (2 * angle - 1) * np.pi / 6, 0.8 + 0.4 * scale
    flip = torch.where(mirror < 0.5, -1.0, 1.0)
    first = torch.stack([flip * scale * angle.cos(), -scale * angle.sin(), 0.4 * right - 0.2], 1)
    second = torch.stack([flip * scale * angle.sin(), scale * angle.cos(), 0.4 * down - 0.2], 1)
    return torch.stack([first, second], 1)


def _seen_again(feature_batch: FeatureBatch, turns: Float[Tensor, "picture 2 3"]) -> Float[Tensor, "picture dim rows columns"]:
    """Features of the moved pictures."""
    grid = affine_grid(turns, list(feature_batch.pixels.shape), align_corners=False)
    moved = grid_sample(feature_batch.pixels, grid, padding_mode="reflection", align_corners=False)
    return FeatureBatch(feature_batch.phi, moved, feature_batch.spec).features


def _collected(batches: Iterator[FeatureBatch], ground: Callable[[FeatureBatch], Tensor], seed: int) -> list[_Held]:
    """Pictures of one shape each, and what they give."""
    generator, found, count = torch.Generator().manual_seed(seed), list[_Held](), 0
    for feature_batch in batches:
        turns = _turns(len(feature_batch), generator).to(feature_batch.pixels)
        features = normalize(feature_batch.features, dim=1)
        grids = affine_grid(turns, [len(feature_batch), 1, *feature_batch.shape], align_corners=False)
        colours = adaptive_avg_pool2d(feature_batch.pixels, feature_batch.shape)
        found.append(
            _Held(features, colours, ground(feature_batch)[:, None].float(), normalize(_seen_again(feature_batch, turns), dim=1), grids)
        )
        count += len(feature_batch)
        if count >= LEARNT:
            break
    return found


@torch.enable_grad()
def learn_parts(
    batches: Callable[[], Iterator[FeatureBatch]],
    ground: Callable[[FeatureBatch], Bool[Tensor, "batch rows columns"]],
    begin: Callable[[FeatureBatch], Int[Tensor, "batch rows columns"]],
    parts: int,
    *,
    seed: int = 0,
    steps: int = 300,
    temperature: float = 0.19,
    weights: Weights = Weights(),
    progress: ProgressCallback = no_progress,
) -> nn.Linear:
    """A linear layer from unit-length features of a place to its part.

    After Choudhury et al. 2021 (arXiv:2111.06349), whose four terms these are; theirs teach a whole network and look at features of
    another, ours a layer over the representation's own. Part k of a picture has the mean feature ``f_k``, weighted by probabilities and
    by where the object is. Contrast: the cross-entropy of ``cos(f_k, f'_l) / temperature`` against k, f' of another picture.

    Args:
        batches, ground: the pictures, and which places are of objects.
        begin: parts to begin with.
        parts: how many.
        seed, steps: of all chance; of Adam, a batch of pictures each.
        temperature, weights: of the loss.
        progress: called with the loss.
    """
    with torch.no_grad():
        held = _collected(batches(), ground, seed)
        head = _begun(held, batches(), begin, parts)
    optimiser = torch.optim.Adam(head.parameters(), lr=3e-3)
    for step in range(steps):
        one = held[step % len(held)]
        optimiser.zero_grad()
        loss = _loss(head, one, temperature, weights)
        torch.autograd.backward(loss)
        optimiser.step()
        if step % 100 == 99:
            progress(f"parts by contrast: step {step + 1} of {steps}, loss {loss.item():.3f}")
    return head.requires_grad_(requires_grad=False)


def _begun(held: list[_Held], batches: Iterator[FeatureBatch], begin: Callable[[FeatureBatch], Tensor], parts: int) -> nn.Linear:
    """A layer that says what the parts to begin with are the mean features of."""
    sums = torch.zeros(parts, held[0].features.shape[1], device=held[0].features.device)
    for one, feature_batch in zip(held, batches, strict=False):
        chosen = one_hot(begin(feature_batch) - 1, parts).float() * one.inside.permute(0, 2, 3, 1)
        sums += torch.einsum("brcp,bdrc->pd", chosen, one.features)
    centres = normalize(sums)
    head = nn.Linear(sums.shape[1], parts, device=sums.device)
    head.weight.data = 10 * centres
    nn.init.zeros_(head.bias)
    return head


def _loss(head: nn.Linear, one: _Held, temperature: float, weights: Weights) -> Float[Tensor, ""]:
    chance = head(one.features.movedim(1, -1)).softmax(-1).movedim(-1, 1)
    share = chance * one.inside
    mass = share.sum((2, 3)).clamp(min=1e-6)
    area = one.inside.sum().clamp(min=1)

    def means(values: Tensor) -> Float[Tensor, "picture part dim"]:
        return torch.einsum("bprc,bdrc->bpd", share, values) / mass[..., None]

    def spread(values: Tensor, middle: Tensor) -> Float[Tensor, ""]:
        """``Σ_k Σ_u P_k(u) |v(u) - v_k|²`` a place of an object, by ``|v - m|² = |v|² - 2 v m + |m|²``."""
        square = torch.einsum("bprc,bdrc->", share, values.square())
        return (square - (mass[..., None] * middle.square()).sum()) / area

    middle = means(one.features)
    unit = normalize(middle, dim=2)
    alike = torch.einsum("bpd,bqd->bpq", unit, unit.roll(1, 0)) / temperature
    target = torch.arange(alike.shape[1], device=alike.device).expand(len(alike), -1)
    contrast = cross_entropy(alike.transpose(1, 2), target)
    return (
        weights.contrast * contrast
        + weights.even * spread(one.features, middle)
        + weights.tint * spread(one.colours, means(one.colours))
        + weights.moved * _moved(head, one, chance)
    )


def _moved(head: nn.Linear, one: _Held, chance: Tensor) -> Float[Tensor, ""]:
    """How far the parts of a moved picture are from the moved parts of the picture: ``KL(g P || P g)`` over its objects."""
    expected = grid_sample(chance, one.grids, align_corners=False)
    inside = grid_sample(one.inside, one.grids, align_corners=False)[:, 0]
    told = head(one.moved.movedim(1, -1)).log_softmax(-1).movedim(-1, 1)
    differ = (expected * (expected.clamp(min=1e-8).log() - told)).sum(1)
    return (differ * inside).sum() / inside.sum().clamp(min=1)
