"""Learned inversion: a network that gives pictures for a layer's features, in one pass.

What it gives is near the mean of all pictures with such features, and so blurred, unless it is also asked to have these features and
to look like a picture (Dosovitskiy & Brox 2016, arXiv:1506.02753 and 1602.02644).
"""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Num
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu, mse_loss

from selfsight.core.clock import key
from selfsight.core.errors import UsageError
from selfsight.core.hooks import eval_mode
from selfsight.core.progress import ProgressCallback, no_progress
from selfsight.core.representation import Representation
from selfsight.explain.attribution.saliency import parts
from selfsight.explain.inversion.descent import ConvBlock, Inversion, step_of
from selfsight.explain.targets import features_of
from selfsight.objectives.adversarial import deceive, tell_apart
from selfsight.render.panels import facts, panel

__all__ = ["Inverter", "invert_learned", "learn_inverter"]

START = 4
"""Places a side that a vector is first spread over."""


class Inverter(nn.Module):
    """From standardised features to pictures: each level twice as large as the one before.

    Args:
        dim: length of a feature vector.
        cells: places a side of the map; 0: one vector.
        size: side of the pictures in pixels.
        width: channels of the largest level; twice as many at each smaller one, 256 at most.

    Attributes:
        layer: whose features; None: the pooled output.
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
        return panel("Paints pictures for features", facts({**self.about, "layer": self.layer or "output"}))

    def standardised(self, features: Float[Tensor, "batch dim *cells"]) -> Float[Tensor, "batch dim *cells"]:
        """Each feature around its mean, in its standard deviations."""
        shape = (-1,) + (1,) * (features.ndim - 2)
        return (features - self.mean.view(shape)) / self.std.view(shape)

    def forward(self, codes: Float[Tensor, "batch dim *cells"]) -> Float[Tensor, "batch 3 height width"]:
        """Pictures in [0, 1] of standardised features."""
        shown = self.enter(codes)
        shown = leaky_relu(shown, 0.2).unflatten(1, (-1, START, START)) if codes.ndim == 2 else shown
        for block in self.levels:
            shown = block(interpolate(shown, scale_factor=2.0, mode="nearest"))
        found = self.colours(shown).sigmoid()
        return found if found.shape[-1] == self.size else interpolate(found, (self.size,) * 2, mode="bilinear", antialias=True)

    def save(self, folder: Path) -> None:
        """Write ``inverter.safetensors`` and ``inverter.json``."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(self.state_dict(), folder / "inverter.safetensors")
        (folder / "inverter.json").write_text(json.dumps(self.about) + "\n")

    @property
    def code(self) -> tuple[int, ...]:
        """The shape of the features of one picture."""
        return (len(self.mean), *([self.about["cells"]] * 2 if self.about["cells"] else []))

    @classmethod
    def load(cls, folder: Path) -> "Inverter":
        """Read what ``save`` wrote."""
        about = json.loads((folder / "inverter.json").read_text())
        found = cls(about.pop("dim"), **about)
        found.load_state_dict(load_file(folder / "inverter.safetensors"))
        return found.eval()


class _Judge(nn.Sequential):
    """Says of each part of a picture whether it is real (above zero) or painted."""

    def __init__(self, width: int = 32) -> None:
        super().__init__(
            nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2), ConvBlock(width, 2 * width, 4, 2), nn.Conv2d(2 * width, 1, 3, padding=1)
        )


def learn_inverter(
    phi: Representation,
    pictures: Num[Tensor, "picture 3 side side2"],
    layer: str | None = None,
    *,
    steps: int = 1500,
    batch: int = 32,
    rate: float = 1e-3,
    alike: float = 0.01,
    real: float = 0.0,
    width: int = 32,
    seed: int = 0,
    progress: ProgressCallback = no_progress,
) -> Inverter:
    """An inverter of a layer: ``|g(Φ(x)) - x|²/N + alike |Φ(g(Φ(x))) - Φ(x)|² / |Φ(x)|² + real L``, L that of a judge of pictures.

    Args:
        phi, layer: the representation, and its layer; None: the pooled output.
        pictures: squares to learn from, in [0, 1] or 0 to 255.
        steps, batch, rate: of AdamW; the rate falls to nothing by a cosine.
        alike, real: weights of the features, and of looking real (0: no judge).
        width, seed, progress: channels of the largest level; of the weights and the batches; called with how it stands.

    Raises:
        UsageError: there are fewer than two pictures, or they are not square.
    """
    inverter, judge = _untrained(phi, pictures, layer, width, seed)
    painter, critic = (torch.optim.AdamW(net.parameters(), lr=rate, betas=(0.5, 0.99)) for net in (inverter, judge))
    calendar = torch.optim.lr_scheduler.CosineAnnealingLR(painter, steps)
    with eval_mode(phi.backbone):
        for step in range(steps):
            wanted = _batch(pictures, batch, key(seed, 0x1F8, step)).to(phi.device)
            painted, loss = _painted(phi, inverter, wanted, alike)
            step_of(painter, loss + real * deceive(judge(painted)) if real else loss)
            if real:
                step_of(critic, tell_apart(judge(wanted), judge(painted.detach())))
            calendar.step()
            if (step + 1) % 250 == 0:
                progress(f"step {step + 1} of {steps}, loss {float(loss.detach()):.4f}")
    return inverter.eval()


def _painted(phi: Representation, inverter: Inverter, wanted: Tensor, alike: float) -> tuple[Tensor, Tensor]:
    """What is painted for the features of pictures, and its loss in pixels and features."""
    with torch.no_grad():
        aim = features_of(phi, wanted, inverter.layer)
    painted = inverter(inverter.standardised(aim))
    loss = mse_loss(painted, wanted)
    return painted, loss + alike * _missed(phi, painted, inverter.layer, aim).mean() if alike else loss


def _batch(pictures: Tensor, count: int, seed: int) -> Tensor:
    """Some of the pictures, in [0, 1]."""
    found = pictures[torch.randint(len(pictures), (count,), generator=torch.Generator().manual_seed(seed))]
    return found if found.is_floating_point() else found / 255


def _untrained(phi: Representation, pictures: Tensor, layer: str | None, width: int, seed: int) -> tuple[Inverter, _Judge]:
    """An inverter that knows the mean and spread of features, and a judge, both untrained."""
    if len(pictures) < 2 or pictures.shape[2] != pictures.shape[3]:
        raise UsageError(f"An inverter cannot be learnt from pictures of {tuple(pictures.shape)}.", "Give two square pictures at least.")
    with torch.random.fork_rng(devices=[]), torch.no_grad(), eval_mode(phi.backbone):
        torch.manual_seed(key(seed, 0x1F7))
        found = torch.cat([features_of(phi, part, layer).cpu() for _, part in parts(pictures[:500], phi.device)])
        cells = found.shape[-1] if found.ndim == 4 else 0
        inverter, judge = Inverter(found.shape[1], cells=cells, size=pictures.shape[2], width=width, layer=layer), _Judge()
        rows = found.transpose(0, 1).flatten(1)
        inverter.mean.copy_(rows.mean(1))
        inverter.std.copy_(rows.std(1).clamp(min=1e-3 * float(rows.std())))
    return inverter.to(phi.device), judge.to(phi.device)


def _missed(phi: Representation, pictures: Tensor, layer: str | None, aim: Tensor) -> Float[Tensor, " batch"]:
    """``|Φ(x) - Φ0|² / |Φ0|²``."""
    square = aim.flatten(1).square().sum(1).clamp(min=1e-12)
    return (features_of(phi, pictures, layer) - aim).flatten(1).square().sum(1) / square


def invert_learned(phi: Representation, images: Num[Tensor, "batch 3 side side2"], inverter: Inverter) -> Inversion:
    """Pictures for the features of others, by a learned inverter, and how far their features are from those.

    Raises:
        UsageError: the pictures have another size than those that it has learnt from.
    """
    if tuple(images.shape[2:]) != (inverter.size,) * 2:
        raise UsageError(f"The inverter paints {inverter.size} px, and the pictures are {tuple(images.shape[2:])}.", "Give that size.")
    pictures, errors = [], []
    with torch.no_grad(), eval_mode(phi.backbone):
        for _, part in parts(images, phi.device):
            aim = features_of(phi, part, inverter.layer)
            pictures.append(inverter(inverter.standardised(aim)))
            errors.append(_missed(phi, pictures[-1], inverter.layer, aim).sqrt())
    return Inversion(torch.cat(pictures)[:, None], torch.cat(errors)[:, None], inverter.layer)
