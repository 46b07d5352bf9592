"""Activation maximisation: pictures that make a unit, a direction, a cluster or a class say most.

A free picture finds patterns that no photograph has; what a picture may be is said by how it is written down (pixels, a Fourier
transform in independent colours, or the phase alone of a spectrum that photographs have) and by the shifts, turns and scales under
which it has to go on working.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Num
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate, mse_loss, normalize

from selfsight.core.clock import key
from selfsight.core.hooks import eval_mode
from selfsight.core.representation import Representation
from selfsight.explain.inversion.inverter import Inverter
from selfsight.explain.synthesis.priors import Spectrum, bounded_range, decorrelated_colours, total_variation
from selfsight.explain.targets import Target, activations

__all__ = ["Fourier", "Generated", "Maximised", "Phase", "Pixels", "Transforms", "deep_dream", "gram", "maximise", "synthesise_style"]


@runtime_checkable
class Parameterisation(Protocol):
    """How a picture is written down in numbers that are free."""

    def start(self, shape: Sequence[int], seed: int) -> Tensor:
        """The numbers of a first picture (batch, 3, height, width)."""
        ...

    def picture(self, numbers: Tensor, size: Sequence[int]) -> Tensor:
        """The pictures in [0, 1] of a size (height, width)."""
        ...


@dataclass(frozen=True)
class Pixels:
    """Every pixel by itself; ``spread``: of the noise it begins with."""

    spread: float = 0.1

    def start(self, shape: Sequence[int], seed: int) -> Tensor:
        return self.spread * torch.randn(*shape, generator=torch.Generator().manual_seed(key(seed, 0xA1)))

    def picture(self, numbers: Tensor, size: Sequence[int]) -> Tensor:  # noqa: ARG002
        return numbers.sigmoid()


@dataclass(frozen=True)
class Fourier:
    """A Fourier transform in independent colours, low frequencies first (Olah et al. 2017, doi:10.23915/distill.00007).

    ``decay``: amplitudes fall as the frequency to this power; ``spread``: of the noise it begins with.
    """

    decay: float = 1.0
    spread: float = 0.01

    def start(self, shape: Sequence[int], seed: int) -> Tensor:
        batch, channels, height, width = shape
        dice = torch.Generator().manual_seed(key(seed, 0xA2))
        return self.spread * torch.randn(batch, channels, height, width // 2 + 1, 2, generator=dice)

    def picture(self, numbers: Tensor, size: Sequence[int]) -> Tensor:
        height, width = size
        frequency = (torch.fft.fftfreq(height)[:, None].square() + torch.fft.rfftfreq(width).square()).sqrt()
        scale = frequency.clamp(min=1 / max(height, width)).pow(-self.decay) / max(height, width) ** self.decay * (height * width) ** 0.5
        waves = torch.view_as_complex(numbers) * scale.to(numbers.device)
        return decorrelated_colours(torch.fft.irfft2(waves, s=(height, width), norm="ortho"))


@dataclass(frozen=True, eq=False)
class Phase:
    """The phase alone; the magnitude is what photographs have on average (MACO, Fel et al. 2023, arXiv:2306.06805).

    ``spectrum``: of the user's own pictures, by ``estimate_spectrum``.
    """

    spectrum: Spectrum

    def start(self, shape: Sequence[int], seed: int) -> Tensor:
        batch, channels, height, width = shape
        return torch.randn(batch, channels, height, width // 2 + 1, generator=torch.Generator().manual_seed(key(seed, 0xA3)))

    def picture(self, numbers: Tensor, size: Sequence[int]) -> Tensor:
        magnitude = self.spectrum.sized(*size).to(numbers)
        waves = torch.polar(magnitude.expand_as(numbers).contiguous(), numbers)
        return decorrelated_colours(torch.fft.irfft2(waves, s=tuple(size), norm="ortho"))


@dataclass(frozen=True, eq=False)
class Generated:
    """The code of a generator that has learnt to paint pictures for features (DGN-AM, Nguyen et al. 2016, arXiv:1605.09304).

    ``generator``: of ``learn_inverter``; ``bound``: how far, in standard deviations, a number of the code may be from its mean. (Three
    in the paper, which cuts the codes off; here they come near it smoothly.)
    """

    generator: Inverter
    bound: float = 3.0

    def start(self, shape: Sequence[int], seed: int) -> Tensor:
        dice = torch.Generator().manual_seed(key(seed, 0xA4))
        return 0.5 * torch.randn(shape[0], *self.generator.code, generator=dice)

    def picture(self, numbers: Tensor, size: Sequence[int]) -> Tensor:
        found = self.generator(self.bound * torch.tanh(numbers / self.bound))
        return found if tuple(found.shape[2:]) == tuple(size) else interpolate(found, tuple(size), mode="bilinear", antialias=True)


@dataclass(frozen=True)
class Transforms:
    """What a picture is put through in every step.

    Attributes:
        shift: the farthest shift, in parts of the side.
        scale: the largest factor of enlargement, and of shrinking.
        turn: the farthest turn, in degrees.
        noise: the standard deviation of noise on pixels in [0, 1].
    """

    shift: float = 0.08
    scale: float = 1.15
    turn: float = 8.0
    noise: float = 0.02

    def make(
        self, pictures: Float[Tensor, "batch channel height width"], dice: torch.Generator
    ) -> Float[Tensor, "batch channel height width"]:
        """Each picture moved in its own way, borders reflected."""
        count = len(pictures)
        shift = (torch.rand(count, 2, generator=dice) * 2 - 1) * 2 * self.shift
        scale = self.scale ** (torch.rand(count, generator=dice) * 2 - 1)
        angle = torch.deg2rad((torch.rand(count, generator=dice) * 2 - 1) * self.turn)
        cosine, sine = angle.cos() / scale, angle.sin() / scale
        rows = [torch.stack([cosine, -sine, shift[:, 0]], 1), torch.stack([sine, cosine, shift[:, 1]], 1)]
        grid = affine_grid(torch.stack(rows, 1).to(pictures), list(pictures.shape), align_corners=False)
        moved = grid_sample(pictures, grid, padding_mode="reflection", align_corners=False)
        return moved + self.noise * torch.randn(moved.shape, generator=dice).to(moved) if self.noise else moved


NO_TRANSFORMS = Transforms(0.0, 1.0, 0.0, 0.0)


@dataclass(frozen=True)
class Maximised:
    """Pictures that make a target large.

    Attributes:
        pictures: as they are saved, in eight bits.
        scores: the target's number of each, as saved.
        shifted: its least number under shifts of up to two pixels.
        curve: the mean score of the moved pictures, step by step.
    """

    pictures: Num[Tensor, "batch 3 height width"]
    scores: Float[Tensor, " batch"]
    shifted: Float[Tensor, " batch"]
    curve: list[float]


def maximise(
    phi: Representation,
    target: Target,
    *,
    count: int = 1,
    size: int | None = None,
    writing: Parameterisation = Fourier(),
    moves: Transforms = Transforms(),
    steps: int = 200,
    rate: float = 0.05,
    natural: float = 0.0,
    diverse: float = 0.0,
    seed: int = 0,
) -> Maximised:
    """Pictures with the largest number of a target, all in one batch.

    Args:
        phi, target: the representation, and a unit, a direction, a cluster, a class; with a number for each picture several at once.
        count, size: how many pictures; their side in pixels, by default what the network was trained with.
        writing, moves: how they are written down; what they have to stand.
        steps, rate: of Adam.
        natural, diverse: weight of the natural-image priors; of the mean cosine between the pictures' Gram matrices at the target's layer.
        seed: of the noise and the moves.
    """
    shape, rows = (size or phi.size,) * 2, torch.arange(count)
    numbers = writing.start((count, 3, *shape), seed).to(phi.device).requires_grad_()
    optimiser, curve = torch.optim.Adam([numbers], lr=rate), []
    with eval_mode(phi.backbone):
        for step in range(steps):
            shown = writing.picture(numbers, shape)
            given = phi.normalise(moves.make(shown, torch.Generator().manual_seed(key(seed, 0xA5, step))))
            score = target.score(phi, given, rows)
            (numbers.grad,) = torch.autograd.grad(_held(phi, target, shown, given, natural, diverse) - score.sum(), numbers)
            optimiser.step()
            curve.append(float(score.detach().mean()))
        with torch.no_grad():
            pictures = (writing.picture(numbers, shape) * 255).round().to(torch.uint8)
            moved = (pictures.roll((down, across), (2, 3)) for down in (-2, 0, 2) for across in (-2, 0, 2))
            scores = torch.stack([target.score(phi, phi.normalise(each), rows) for each in moved])
    return Maximised(pictures.cpu(), scores[4], scores.amin(0), curve)


def _held(phi: Representation, target: Target, shown: Tensor, given: Tensor, natural: float, diverse: float) -> Tensor:
    """What holds pictures back: what is known of pictures, and each other."""
    found = shown.new_zeros(())
    if natural:
        levels = 255 * (shown - shown.new_tensor(phi.mean)[:, None, None])
        found = found + natural * (total_variation(levels) + bounded_range(levels)).sum()
    if diverse and len(shown) > 1:
        found = found + diverse * len(shown) * _likeness(gram(_grid(phi, given, target.layer)))
    return found


def _grid(phi: Representation, given: Tensor, layer: str | None) -> Tensor:
    if layer is None:
        return phi.backbone(given).grid
    return phi.as_grid(activations(phi, given, layer), given.shape[-2:], layer)


def gram(grid: Float[Tensor, "batch dim rows columns"]) -> Float[Tensor, "batch dim dim2"]:
    """``1/N Σ_u x(u) x(u)ᵀ``: which channels speak together, wherever (Gatys et al. 2015, arXiv:1505.07376)."""
    flat = grid.flatten(2)
    return flat @ flat.transpose(1, 2) / flat.shape[2]


def _likeness(grams: Float[Tensor, "batch dim dim2"]) -> Tensor:
    """The mean cosine between different pictures' Gram matrices."""
    rows = normalize(grams.flatten(1))
    return ((rows @ rows.T).sum() - len(rows)) / (len(rows) * (len(rows) - 1))


def deep_dream(
    phi: Representation,
    images: Num[Tensor, "batch 3 height width"],
    layer: str,
    *,
    octaves: int = 3,
    ratio: float = 1.4,
    steps: int = 10,
    rate: float = 0.02,
    seed: int = 0,
) -> Float[Tensor, "batch 3 height width"]:
    """Pictures with more of whatever a layer sees in them, from coarse to fine (Mordvintsev et al. 2015, "Inceptionism").

    Args:
        phi: the representation.
        images: the pictures.
        layer: the layer whose squared outputs are raised.
        octaves, ratio: sizes that are worked through, and the factor between two of them.
        steps, rate: of ascent at each size; the gradient is divided by its mean size.
        seed: of the shifts.
    """
    first = images.to(phi.device).float() / (1 if images.is_floating_point() else 255)
    sizes = [[max(round(side / ratio**octave), phi.backbone.stride) for side in first.shape[2:]] for octave in reversed(range(octaves))]
    change = torch.zeros_like(interpolate(first, sizes[0], mode="bilinear"))
    with eval_mode(phi.backbone):
        for number, size in enumerate(sizes):
            base = interpolate(first, size, mode="bilinear", antialias=True)
            change = interpolate(change, size, mode="bilinear")
            for step in range(steps):
                dice = torch.Generator().manual_seed(key(seed, 0xDD, number, step))
                down, across = (
                    int(shift) for shift in torch.randint(-phi.backbone.stride // 2, phi.backbone.stride // 2 + 1, (2,), generator=dice)
                )
                shown = (base + change).clamp(0, 1).roll((down, across), (2, 3)).requires_grad_()
                strength = activations(phi, phi.normalise(shown), layer).square().flatten(1).mean(1)
                (slope,) = torch.autograd.grad(strength.sum(), shown)
                slope = slope.roll((-down, -across), (2, 3))
                change = change + rate * slope / slope.abs().mean((1, 2, 3), keepdim=True).clamp(min=1e-12)
    return (first + change).clamp(0, 1)


def _apart(one: Tensor, other: Tensor) -> Tensor:
    """The squared difference, in parts of the square of the second."""
    return mse_loss(one, other) / other.square().mean().clamp(min=1e-12)


def synthesise_style(
    phi: Representation,
    style: Num[Tensor, "batch 3 height width"],
    layers: Sequence[str],
    *,
    content: Num[Tensor, "batch 3 height2 width2"] | None = None,
    content_weight: float = 1.0,
    steps: int = 200,
    rate: float = 0.05,
    writing: Parameterisation = Fourier(),
    seed: int = 0,
) -> tuple[Float[Tensor, "batch 3 height width"], list[float]]:
    """New pictures with the texture of others, or photographs in their style (Gatys et al. 2015, arXiv:1508.06576).

    Args:
        phi: the representation.
        style: the pictures whose Gram matrices are matched.
        layers: the layers where they are.
        content, content_weight: pictures of the same number and size whose last layer is matched too; weight of that.
        steps, rate: of Adam.
        writing, seed: how pictures are written down; of the noise that they begin with.

    Returns:
        The pictures, and the loss of every step.
    """
    size = tuple(style.shape[2:])
    with torch.no_grad(), eval_mode(phi.backbone):
        wanted = [gram(phi.grid(style, layer)) for layer in layers]
        kept = None if content is None else phi.grid(content, layers[-1])
    numbers = writing.start((len(style), 3, *size), seed).to(phi.device).requires_grad_()
    optimiser, curve = torch.optim.Adam([numbers], lr=rate), []
    with eval_mode(phi.backbone):
        for _ in range(steps):
            shown = writing.picture(numbers, size)
            loss = torch.stack([_apart(gram(phi.grid(shown, layer)), aim) for layer, aim in zip(layers, wanted, strict=True)]).sum()
            loss = loss if kept is None else loss + content_weight * _apart(phi.grid(shown, layers[-1]), kept)
            (numbers.grad,) = torch.autograd.grad(loss, numbers)
            optimiser.step()
            curve.append(float(loss.detach()))
    return writing.picture(numbers, size).detach(), curve
