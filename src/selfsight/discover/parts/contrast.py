"""Object parts by contrastive training of a linear layer on frozen features."""

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
"""Maximum number of training images (the first ones): their features and those of transformed copies stay in memory."""


@dataclass(frozen=True)
class Weights:
    """Weights of the loss terms.

    Attributes:
        contrast: the mean feature of a part is closer to that of the same part in another image than to those of other parts.
        compactness: features within a part are similar.
        colour: colours within a part are similar.
        equivariance: parts are equivariant to transformations of the image.
    """

    contrast: float = 1.0
    compactness: float = 1.0
    colour: float = 1.0
    equivariance: float = 2.0


@dataclass(frozen=True)
class _Examples:
    """Unit-length features, colours and object masks of images; features of transformed images, and the sampling grids."""

    features: Float[Tensor, "image dim rows columns"]
    colours: Float[Tensor, "image 3 rows columns"]
    inside: Float[Tensor, "image 1 rows columns"]
    moved: Float[Tensor, "image dim rows columns"]
    grids: Float[Tensor, "image rows columns 2"]


def _transforms(count: int, generator: torch.Generator) -> Float[Tensor, "image 2 3"]:
    """Random affine transformations: rotation up to 30 degrees, scale 0.8 to 1.2, shift up to a tenth of a side, mirrored in half of the cases."""
    angle, scale, right, down, mirror = torch.rand(5, count, generator=generator)
    angle, scale = (2 * angle - 1) * np.pi / 6, 0.8 + 0.4 * scale
    flip = torch.where(mirror < 0.5, -1.0, 1.0)
    first = torch.stack([flip * scale * angle.cos(), -scale * angle.sin(), 0.4 * right - 0.2], 1)
    second = torch.stack([flip * scale * angle.sin(), scale * angle.cos(), 0.4 * down - 0.2], 1)
    return torch.stack([first, second], 1)


def _transformed_features(feature_batch: FeatureBatch, transforms: Float[Tensor, "image 2 3"]) -> Float[Tensor, "image dim rows columns"]:
    """Features of the transformed images."""
    grid = affine_grid(transforms, list(feature_batch.pixels.shape), align_corners=False)
    moved = grid_sample(feature_batch.pixels, grid, padding_mode="reflection", align_corners=False)
    return FeatureBatch(feature_batch.phi, moved, feature_batch.spec).features


def _collected(batches: Iterator[FeatureBatch], object_masks: Callable[[FeatureBatch], Tensor], seed: int) -> list[_Examples]:
    """Training examples by batch."""
    generator, examples, count = torch.Generator().manual_seed(seed), list[_Examples](), 0
    for feature_batch in batches:
        transforms = _transforms(len(feature_batch), generator).to(feature_batch.pixels)
        features = normalize(feature_batch.features, dim=1)
        grids = affine_grid(transforms, [len(feature_batch), 1, *feature_batch.shape], align_corners=False)
        colours = adaptive_avg_pool2d(feature_batch.pixels, feature_batch.shape)
        inside = object_masks(feature_batch)[:, None].float()
        moved = normalize(_transformed_features(feature_batch, transforms), dim=1)
        examples.append(_Examples(features, colours, inside, moved, grids))
        count += len(feature_batch)
        if count >= LEARNT:
            break
    return examples


@torch.enable_grad()
def learn_parts(
    batches: Callable[[], Iterator[FeatureBatch]], object_masks: Callable[[FeatureBatch], Bool[Tensor, "batch rows columns"]],
    begin: Callable[[FeatureBatch], Int[Tensor, "batch rows columns"]], parts: int, *, seed: int = 0, steps: int = 300,
    temperature: float = 0.19, weights: Weights = Weights(), progress: ProgressCallback = no_progress,
) -> nn.Linear:  # fmt: skip
    """A linear layer from unit-length features of a location to part logits.

    The four loss terms are those of Choudhury et al. 2021 (arXiv:2111.06349), who train a whole network with features of another one; here a
    layer on the representation's own features is trained. Part k of an image has the mean feature ``f_k``, weighted by probability and object
    mask. Contrast: the cross-entropy of ``cos(f_k, f'_l) / temperature`` against k, with f' of another image.

    Args:
        batches: function that iterates over the images.
        object_masks: function to the object masks of a batch.
        begin: function to the initial parts of a batch.
        parts: number of parts.
        seed: seed of the transformations.
        steps: number of steps of Adam, a batch of images each.
        temperature: temperature of the contrastive term.
        weights: weights of the loss terms.
        progress: called with the loss every 100 steps.
    """
    with torch.no_grad():
        examples = _collected(batches(), object_masks, seed)
        head = _initial_head(examples, batches(), begin, parts)
    optimiser = torch.optim.Adam(head.parameters(), lr=3e-3)
    for step in range(steps):
        batch = examples[step % len(examples)]
        optimiser.zero_grad()
        loss = _loss(head, batch, temperature, weights)
        torch.autograd.backward(loss)
        optimiser.step()
        if step % 100 == 99:
            progress(f"parts by contrast: step {step + 1} of {steps}, loss {loss.item():.3f}")
    return head.requires_grad_(requires_grad=False)


def _initial_head(
    examples: list[_Examples], batches: Iterator[FeatureBatch], begin: Callable[[FeatureBatch], Tensor], parts: int
) -> nn.Linear:
    """A layer whose weights are the mean features of the initial parts."""
    sums = torch.zeros(parts, examples[0].features.shape[1], device=examples[0].features.device)
    for example, feature_batch in zip(examples, batches, strict=False):
        members = one_hot(begin(feature_batch) - 1, parts).float() * example.inside.permute(0, 2, 3, 1)
        sums += torch.einsum("brcp,bdrc->pd", members, example.features)
    centres = normalize(sums)
    head = nn.Linear(sums.shape[1], parts, device=sums.device)
    head.weight.data = 10 * centres
    nn.init.zeros_(head.bias)
    return head


def _loss(head: nn.Linear, example: _Examples, temperature: float, weights: Weights) -> Float[Tensor, ""]:
    probabilities = head(example.features.movedim(1, -1)).softmax(-1).movedim(-1, 1)
    assignment = probabilities * example.inside
    mass = assignment.sum((2, 3)).clamp(min=1e-6)
    area = example.inside.sum().clamp(min=1)

    def means(values: Tensor) -> Float[Tensor, "image part dim"]:
        return torch.einsum("bprc,bdrc->bpd", assignment, values) / mass[..., None]

    def spread(values: Tensor, centres: Tensor) -> Float[Tensor, ""]:
        """Mean of ``Σ_k Σ_u P_k(u) |v(u) - v_k|²`` over object locations, by ``|v - m|² = |v|² - 2 v m + |m|²``."""
        square = torch.einsum("bprc,bdrc->", assignment, values.square())
        return (square - (mass[..., None] * centres.square()).sum()) / area

    centres = means(example.features)
    unit = normalize(centres, dim=2)
    similarity = torch.einsum("bpd,bqd->bpq", unit, unit.roll(1, 0)) / temperature
    target = torch.arange(similarity.shape[1], device=similarity.device).expand(len(similarity), -1)
    contrast = cross_entropy(similarity.transpose(1, 2), target)
    return (
        weights.contrast * contrast
        + weights.compactness * spread(example.features, centres)
        + weights.colour * spread(example.colours, means(example.colours))
        + weights.equivariance * _moved(head, example, probabilities)
    )


def _moved(head: nn.Linear, example: _Examples, probabilities: Tensor) -> Float[Tensor, ""]:
    """Equivariance loss ``KL(g P || P g)`` over the object between transformed parts and parts of the transformed image."""
    expected = grid_sample(probabilities, example.grids, align_corners=False)
    inside = grid_sample(example.inside, example.grids, align_corners=False)[:, 0]
    log_probabilities = head(example.moved.movedim(1, -1)).log_softmax(-1).movedim(-1, 1)
    divergence = (expected * (expected.clamp(min=1e-8).log() - log_probabilities)).sum(1)
    return (divergence * inside).sum() / inside.sum().clamp(min=1)
