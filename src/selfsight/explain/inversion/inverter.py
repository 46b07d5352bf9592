"""Learned inversion: a decoder that reconstructs images from a layer's features in one pass.

With a pixel loss alone its output approaches the mean of all images with the same features, which is blurred; a feature loss and an
adversarial loss counteract this (Dosovitskiy & Brox 2016, arXiv:1506.02753 and 1602.02644).
"""

from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Num
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu, mse_loss

from selfsight.core.clock import key
from selfsight.core.errors import UsageError
from selfsight.core.files import disk_fault, inside, parsing, read_json
from selfsight.core.finite_tensors import require_finite_tensor
from selfsight.core.hooks import eval_mode
from selfsight.core.json_text import json_text
from selfsight.core.progress import ProgressCallback, no_progress
from selfsight.core.representation import Representation
from selfsight.core.rng import seeded_rng
from selfsight.core.weights import fill, read_weights
from selfsight.explain.attribution.saliency import parts
from selfsight.explain.inversion.descent import ConvBlock, Inversion, step_of
from selfsight.explain.targets import features_of
from selfsight.objectives.adversarial import discriminator_loss, generator_loss
from selfsight.render.panels import facts, panel

__all__ = ["Inverter", "invert_learned", "learn_inverter"]

START = 4
"""Side of the first feature map for vectors, in cells."""


class Inverter(nn.Module):
    """A decoder from standardised features to images; each level doubles the resolution.

    Args:
        dim: length of a feature vector.
        cells: side of the feature map in cells; 0: one vector.
        size: side of the images in pixels.
        width: channels of the last level, doubled at each level before, at most 256.

    Attributes:
        layer: layer of the features; None: the pooled output.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, dim: int, *, cells: int, size: int, width: int = 32, layer: str | None = None) -> None:
        super().__init__()
        self.layer = layer
        self.about: dict[str, Any] = {"dim": dim, "cells": cells, "size": size, "width": width, "layer": layer}
        first = cells or START
        self.size, doublings = size, max((size - 1) // first, 0).bit_length()
        widths = [min(width * 2**level, 256) for level in reversed(range(doublings + 1))]
        self.enter = ConvBlock(dim, widths[0], 3) if cells else nn.Linear(dim, widths[0] * START**2)
        self.levels = nn.ModuleList(ConvBlock(before, after, 3) for before, after in pairwise(widths))
        self.colours = nn.Conv2d(widths[-1], 3, 3, padding=1)
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))

    def _repr_html_(self) -> str:
        return panel("Learned inverter", facts({**self.about, "layer": self.layer or "output"}))

    def standardised(self, features: Float[Tensor, "batch dim *cells"]) -> Float[Tensor, "batch dim *cells"]:
        """Features standardised per dimension."""
        shape = (-1,) + (1,) * (features.ndim - 2)
        return (features - self.mean.view(shape)) / self.std.view(shape)

    def forward(self, codes: Float[Tensor, "batch dim *cells"]) -> Float[Tensor, "batch 3 height width"]:
        """Images in [0, 1] from standardised features."""
        features = self.enter(codes)
        features = leaky_relu(features, 0.2).unflatten(1, (-1, START, START)) if codes.ndim == 2 else features
        for block in self.levels:
            features = block(interpolate(features, scale_factor=2.0, mode="nearest"))
        images = self.colours(features).sigmoid()
        return images if images.shape[-1] == self.size else interpolate(images, (self.size,) * 2, mode="bilinear", antialias=True)

    def save(self, folder: Path) -> None:
        """Write ``inverter.safetensors`` and ``inverter.json``."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = self.state_dict()
        try:
            save_file(tensors, folder / "inverter.safetensors")
        except SafetensorError as error:
            needed = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
            raise disk_fault(str(folder / "inverter.safetensors"), folder, needed, error) from error
        (folder / "inverter.json").write_text(json_text(self.about) + "\n")

    @property
    def code(self) -> tuple[int, ...]:
        """Shape of the features of one image."""
        return (len(self.mean), *([self.about["cells"]] * 2 if self.about["cells"] else []))

    @classmethod
    def load(cls, folder: Path) -> "Inverter":
        """Load an inverter that ``save`` wrote.

        Raises:
            DataError: a file is damaged.
        """
        remedy = f"Delete {folder}; it is trained again."
        options = read_json(inside(folder, "inverter.json"), remedy)
        with parsing(folder / "inverter.json", remedy):
            inverter = cls(options.pop("dim"), **options)
        fill(inverter, read_weights(inside(folder, "inverter.safetensors")), folder / "inverter.safetensors")
        return inverter.eval()


class _Discriminator(nn.Sequential):
    """Patch discriminator: positive logits for real patches."""

    def __init__(self, width: int = 32) -> None:
        super().__init__(
            nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2), ConvBlock(width, 2 * width, 4, 2), nn.Conv2d(2 * width, 1, 3, padding=1)
        )


def learn_inverter(
    phi: Representation, images: Num[Tensor, "image 3 side side2"], layer: str | None = None, *, steps: int = 1500, batch: int = 32,
    rate: float = 1e-3, feature_weight: float = 0.01, adversarial_weight: float = 0.0, width: int = 32, seed: int = 0,
    progress: ProgressCallback = no_progress,
) -> Inverter:  # fmt: skip
    """Train an inverter: ``|g(Φ(x)) - x|²/N + λ |Φ(g(Φ(x))) - Φ(x)|² / |Φ(x)|² + μ L``, L the adversarial loss.

    Args:
        phi: the representation.
        images: square training images ``(N, 3, S, S)``, uint8 or in [0, 1].
        layer: the layer; None: the pooled output.
        steps: number of steps of AdamW.
        batch: batch size.
        rate: learning rate, with cosine decay to zero.
        feature_weight: λ, the weight of the feature loss.
        adversarial_weight: μ, the weight of the adversarial loss; 0: no discriminator.
        width: channels of the last level.
        seed: seed of the weights and the batches.
        progress: called with the loss every 250 steps.

    Raises:
        UsageError: there are fewer than two images, or they are not square.
    """
    inverter, discriminator = _untrained(phi, images, layer, width, seed)
    optimiser, discriminator_optimiser = (
        torch.optim.AdamW(net.parameters(), lr=rate, betas=(0.5, 0.99)) for net in (inverter, discriminator)
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    with eval_mode(phi.backbone):
        for step in range(steps):
            originals = _batch(images, batch, key(seed, 0x1F8, step)).to(phi.device)
            reconstructions, loss = _reconstructed(phi, inverter, originals, feature_weight)
            step_of(optimiser, loss + adversarial_weight * generator_loss(discriminator(reconstructions)) if adversarial_weight else loss)
            if adversarial_weight:
                step_of(discriminator_optimiser, discriminator_loss(discriminator(originals), discriminator(reconstructions.detach())))
            schedule.step()
            if (step + 1) % 250 == 0:
                progress(f"step {step + 1} of {steps}, loss {float(loss.detach()):.4f}")
    return inverter.eval()


def _reconstructed(phi: Representation, inverter: Inverter, originals: Tensor, feature_weight: float) -> tuple[Tensor, Tensor]:
    """Reconstructions of images, and their loss in pixels and features."""
    with torch.no_grad():
        features = features_of(phi, originals, inverter.layer)
    reconstructions = inverter(inverter.standardised(features))
    loss = mse_loss(reconstructions, originals)
    return reconstructions, loss + feature_weight * _relative_error(
        phi, reconstructions, inverter.layer, features
    ).mean() if feature_weight else loss


def _batch(images: Tensor, count: int, seed: int) -> Tensor:
    """A random batch of images in [0, 1]."""
    images = images[torch.randint(len(images), (count,), generator=torch.Generator().manual_seed(seed))]
    return images if images.is_floating_point() else images / 255


def _untrained(phi: Representation, images: Tensor, layer: str | None, width: int, seed: int) -> tuple[Inverter, _Discriminator]:
    """An untrained inverter with the mean and standard deviation of the features, and an untrained discriminator."""
    if len(images) < 2 or images.shape[2] != images.shape[3]:
        raise UsageError(f"An inverter cannot be learnt from images of shape {tuple(images.shape)}.", "Use at least two square images.")
    with seeded_rng(key(seed, 0x1F7)), torch.no_grad(), eval_mode(phi.backbone):
        features = torch.cat([features_of(phi, part, layer).cpu() for _, part in parts(images[:500], phi.device)])
        require_finite_tensor(features, "training images")
        cells = features.shape[-1] if features.ndim == 4 else 0
        inverter, discriminator = (
            Inverter(features.shape[1], cells=cells, size=images.shape[2], width=width, layer=layer),
            _Discriminator(),
        )
        rows = features.transpose(0, 1).flatten(1)
        inverter.mean.copy_(rows.mean(1))
        inverter.std.copy_(rows.std(1).clamp(min=1e-3 * float(rows.std())))
    return inverter.to(phi.device), discriminator.to(phi.device)


def _relative_error(phi: Representation, images: Tensor, layer: str | None, reference: Tensor) -> Float[Tensor, " batch"]:
    """``|Φ(x) - Φ0|² / |Φ0|²``."""
    square = reference.flatten(1).square().sum(1).clamp(min=1e-12)
    return (features_of(phi, images, layer) - reference).flatten(1).square().sum(1) / square


def invert_learned(phi: Representation, images: Num[Tensor, "batch 3 side side2"], inverter: Inverter) -> Inversion:
    """Reconstruct images from their features with a learned inverter.

    Args:
        phi: the representation.
        images: images ``(B, 3, S, S)``, uint8 or in [0, 1].
        inverter: by ``learn_inverter``.

    Raises:
        UsageError: the size of the images is not that of the inverter.
    """
    if tuple(images.shape[2:]) != (inverter.size,) * 2:
        raise UsageError(f"The inverter is for images of {inverter.size} px, not {tuple(images.shape[2:])}.", "Use images of that size.")
    reconstructions, errors = [], []
    with torch.no_grad(), eval_mode(phi.backbone):
        for _, part in parts(images, phi.device):
            features = features_of(phi, part, inverter.layer)
            require_finite_tensor(features)
            reconstructions.append(inverter(inverter.standardised(features)))
            errors.append(_relative_error(phi, reconstructions[-1], inverter.layer, features).sqrt())
    return Inversion(torch.cat(reconstructions)[:, None], torch.cat(errors)[:, None], inverter.layer)
