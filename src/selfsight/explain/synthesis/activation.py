"""Activation maximisation: synthetic images that maximise the score of a unit, a direction, a cluster or a class.

Unconstrained optimisation finds patterns that do not occur in photographs. The parameterisation (pixels, Fourier coefficients in
decorrelated colours, or the phase of a natural spectrum) and random shifts, rotations and scales constrain the image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Num
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate, mse_loss, normalize

from selfsight.core.bounds import check_numbers
from selfsight.core.clock import key
from selfsight.core.finite_tensors import require_finite_tensor
from selfsight.core.hooks import eval_mode
from selfsight.core.pixels import Normalised
from selfsight.core.representation import Representation
from selfsight.explain.inversion.inverter import Inverter
from selfsight.explain.synthesis.priors import Spectrum, bounded_range, decorrelated_colours, total_variation
from selfsight.explain.targets import Target, activations

__all__ = [
    "Fourier",
    "Generated",
    "MaximisationResult",
    "Phase",
    "Pixels",
    "Transforms",
    "deep_dream",
    "gram",
    "maximise",
    "synthesise_style",
]


@runtime_checkable
class Parameterisation(Protocol):
    """Maps free parameters to images."""

    def start(self, shape: Sequence[int], seed: int) -> Tensor:
        """Initial parameters.

        Args:
            shape: shape of the images ``(B, 3, H, W)``.
            seed: seed of the noise.
        """
        ...

    def to_image(self, numbers: Tensor, size: Sequence[int]) -> Tensor:
        """Images in [0, 1].

        Args:
            numbers: the parameters.
            size: height and width in pixels.
        """
        ...


@dataclass(frozen=True)
class Pixels(Parameterisation):
    """Independent pixels; ``spread``: standard deviation of the initial noise."""

    spread: float = 0.1

    def start(self, shape: Sequence[int], seed: int) -> Tensor:
        return self.spread * torch.randn(*shape, generator=torch.Generator().manual_seed(key(seed, 0xA1)))

    def to_image(self, numbers: Tensor, size: Sequence[int]) -> Tensor:  # noqa: ARG002
        return numbers.sigmoid()


@dataclass(frozen=True)
class Fourier(Parameterisation):
    """Fourier coefficients in decorrelated colours, with larger steps at low frequencies (Olah et al. 2017, doi:10.23915/distill.00007).

    Attributes:
        decay: amplitudes fall as the frequency to this power.
        spread: standard deviation of the initial noise.
    """

    decay: float = 1.0
    spread: float = 0.01

    def start(self, shape: Sequence[int], seed: int) -> Tensor:
        batch, channels, height, width = shape
        generator = torch.Generator().manual_seed(key(seed, 0xA2))
        return self.spread * torch.randn(batch, channels, height, width // 2 + 1, 2, generator=generator)

    def to_image(self, numbers: Tensor, size: Sequence[int]) -> Tensor:
        height, width = size
        frequency = (torch.fft.fftfreq(height)[:, None].square() + torch.fft.rfftfreq(width).square()).sqrt()
        scale = frequency.clamp(min=1 / max(height, width)).pow(-self.decay) / max(height, width) ** self.decay * (height * width) ** 0.5
        coefficients = torch.view_as_complex(numbers) * scale.to(numbers.device)
        return decorrelated_colours(torch.fft.irfft2(coefficients, s=(height, width), norm="ortho"))


@dataclass(frozen=True, eq=False)
class Phase(Parameterisation):
    """Fourier phase with a fixed natural magnitude spectrum (MACO, Fel et al. 2023, arXiv:2306.06805).

    Attributes:
        spectrum: magnitude spectrum of the user's images, by ``estimate_spectrum``.
    """

    spectrum: Spectrum

    def start(self, shape: Sequence[int], seed: int) -> Tensor:
        batch, channels, height, width = shape
        return torch.randn(batch, channels, height, width // 2 + 1, generator=torch.Generator().manual_seed(key(seed, 0xA3)))

    def to_image(self, numbers: Tensor, size: Sequence[int]) -> Tensor:
        magnitude = self.spectrum.sized(*size).to(numbers)
        coefficients = torch.polar(magnitude.expand_as(numbers).contiguous(), numbers)
        return decorrelated_colours(torch.fft.irfft2(coefficients, s=tuple(size), norm="ortho"))


@dataclass(frozen=True, eq=False)
class Generated(Parameterisation):
    """Input code of a generator that was trained to invert features (DGN-AM, Nguyen et al. 2016, arXiv:1605.09304).

    Attributes:
        generator: by ``learn_inverter``.
        bound: largest deviation of a code value from its mean, in standard deviations; approached smoothly, where the paper clips at 3.
    """

    generator: Inverter
    bound: float = 3.0

    def start(self, shape: Sequence[int], seed: int) -> Tensor:
        random = torch.Generator().manual_seed(key(seed, 0xA4))
        return 0.5 * torch.randn(shape[0], *self.generator.code, generator=random)

    def to_image(self, numbers: Tensor, size: Sequence[int]) -> Tensor:
        image = self.generator(self.bound * torch.tanh(numbers / self.bound))
        return image if tuple(image.shape[2:]) == tuple(size) else interpolate(image, tuple(size), mode="bilinear", antialias=True)


@dataclass(frozen=True)
class Transforms:
    """Random transformations that are applied in every step.

    Attributes:
        shift: maximum shift as a fraction of the side.
        scale: maximum factor of enlargement, and of reduction.
        turn: maximum rotation in degrees.
        noise: standard deviation of noise on pixels in [0, 1].
    """

    shift: float = 0.08
    scale: float = 1.15
    turn: float = 8.0
    noise: float = 0.02

    def make(
        self, images: Float[Tensor, "batch channel height width"], generator: torch.Generator
    ) -> Float[Tensor, "batch channel height width"]:
        """Transform each image independently, with reflected borders.

        Args:
            images: images ``(B, C, H, W)`` in [0, 1].
            generator: random generator.
        """
        count = len(images)
        shift = (torch.rand(count, 2, generator=generator) * 2 - 1) * 2 * self.shift
        scale = self.scale ** (torch.rand(count, generator=generator) * 2 - 1)
        angle = torch.deg2rad((torch.rand(count, generator=generator) * 2 - 1) * self.turn)
        cosine, sine = angle.cos() / scale, angle.sin() / scale
        matrix = [torch.stack([cosine, -sine, shift[:, 0]], 1), torch.stack([sine, cosine, shift[:, 1]], 1)]
        grid = affine_grid(torch.stack(matrix, 1).to(images), list(images.shape), align_corners=False)
        moved = grid_sample(images, grid, padding_mode="reflection", align_corners=False)
        return moved + self.noise * torch.randn(moved.shape, generator=generator).to(moved) if self.noise else moved


NO_TRANSFORMS = Transforms(0.0, 1.0, 0.0, 0.0)


@dataclass(frozen=True)
class MaximisationResult:
    """Images that maximise a target.

    Attributes:
        images: images as saved, in eight bits.
        scores: the target's score of each saved image.
        shifted: its lowest score under shifts of up to two pixels.
        curve: mean score of the transformed images per step.
    """

    images: Num[Tensor, "batch 3 height width"]
    scores: Float[Tensor, " batch"]
    shifted: Float[Tensor, " batch"]
    curve: list[float]


def maximise(
    phi: Representation, target: Target, *, count: int = 1, size: int | None = None, parameterisation: Parameterisation = Fourier(),
    transforms: Transforms = Transforms(), steps: int = 200, rate: float = 0.05, prior_weight: float = 0.0, diversity: float = 0.0, seed: int = 0,
) -> MaximisationResult:  # fmt: skip
    """Synthesise images that maximise a target, in one batch.

    Args:
        phi: the representation.
        target: the score; with one index per image several targets at once.
        count: number of images.
        size: side of the images in pixels; None: the size that the network was trained with.
        parameterisation: parameterisation of the images.
        transforms: random transformations.
        steps: number of steps of Adam.
        rate: learning rate.
        prior_weight: weight of the natural-image priors.
        diversity: weight of the mean cosine similarity between the images' Gram matrices at the target's layer.
        seed: seed of the noise and the transformations.

    Raises:
        UsageError: a number is outside of its range.
        DataError: the scores of some images are NaN or infinite.
    """
    check_numbers({"count": count, "size": size, "steps": steps, "rate": rate})
    shape, rows = (size or phi.size,) * 2, torch.arange(count)
    numbers = parameterisation.start((count, 3, *shape), seed).to(phi.device).requires_grad_()
    optimiser, curve = torch.optim.Adam([numbers], lr=rate), []
    with eval_mode(phi.backbone):
        for step in range(steps):
            images = parameterisation.to_image(numbers, shape)
            inputs = phi.normalise(transforms.make(images, torch.Generator().manual_seed(key(seed, 0xA5, step))))
            score = target.score(phi, inputs, rows)
            require_finite_tensor(score, f"synthetic images at step {step}", what=f"scores ({target.name})")
            (numbers.grad,) = torch.autograd.grad(_penalty(phi, target, images, inputs, prior_weight, diversity) - score.sum(), numbers)
            optimiser.step()
            curve.append(float(score.detach().mean()))
        with torch.no_grad():
            saved = (parameterisation.to_image(numbers, shape) * 255).round().to(torch.uint8)
            return MaximisationResult(saved.cpu(), *_scores_of_shifts(phi, target, saved, rows), curve)


def _scores_of_shifts(phi: Representation, target: Target, images: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Scores (N,) of images, and the smallest ones when they are shifted by up to two pixels in every direction."""
    shifted = (images.roll((down, across), (2, 3)) for down in (-2, 0, 2) for across in (-2, 0, 2))
    scores = torch.stack([target.score(phi, phi.normalise(each), rows) for each in shifted])
    require_finite_tensor(scores.T, "synthetic images", what=f"scores ({target.name})")
    return scores[4], scores.amin(0)


def _penalty(phi: Representation, target: Target, images: Tensor, inputs: Normalised, prior_weight: float, diversity: float) -> Tensor:
    """Penalty of the natural-image priors and of the similarity between images."""
    penalty = images.new_zeros(())
    if prior_weight:
        levels = 255 * (images - images.new_tensor(phi.mean)[:, None, None])
        penalty = penalty + prior_weight * (total_variation(levels) + bounded_range(levels)).sum()
    if diversity and len(images) > 1:
        penalty = penalty + diversity * len(images) * _similarity(gram(_grid(phi, inputs, target.layer)))
    return penalty


def _grid(phi: Representation, inputs: Normalised, layer: str | None) -> Tensor:
    if layer is None:
        return phi.backbone(inputs).grid
    return phi.as_grid(activations(phi, inputs, layer), inputs.shape[-2:], layer)


def gram(grid: Float[Tensor, "batch dim rows columns"]) -> Float[Tensor, "batch dim dim2"]:
    """Gram matrix ``1/N Σ_u x(u) x(u)ᵀ`` over positions (Gatys et al. 2015, arXiv:1505.07376)."""
    flat = grid.flatten(2)
    return flat @ flat.transpose(1, 2) / flat.shape[2]


def _similarity(grams: Float[Tensor, "batch dim dim2"]) -> Tensor:
    """Mean cosine similarity between the Gram matrices of different images."""
    rows = normalize(grams.flatten(1))
    return ((rows @ rows.T).sum() - len(rows)) / (len(rows) * (len(rows) - 1))


def deep_dream(
    phi: Representation, images: Num[Tensor, "batch 3 height width"], layer: str, *, octaves: int = 3, ratio: float = 1.4,
    steps: int = 10, rate: float = 0.02, seed: int = 0,
) -> Float[Tensor, "batch 3 height width"]:  # fmt: skip
    """Amplify what a layer detects in images, from coarse to fine (Mordvintsev et al. 2015, "Inceptionism").

    Args:
        phi: the representation.
        images: images ``(B, 3, H, W)``, uint8 or in [0, 1].
        layer: the layer whose mean squared activation is maximised.
        octaves: number of image scales.
        ratio: factor between two scales.
        steps: gradient steps per scale.
        rate: step size; gradients are divided by their mean absolute value.
        seed: seed of the shifts.

    Returns:
        Images in [0, 1].
    """
    original = images.to(phi.device).float() / (1 if images.is_floating_point() else 255)
    sizes = [[max(round(side / ratio**octave), phi.backbone.stride) for side in original.shape[2:]] for octave in reversed(range(octaves))]
    change = torch.zeros_like(interpolate(original, sizes[0], mode="bilinear"))
    with eval_mode(phi.backbone):
        for number, size in enumerate(sizes):
            base = interpolate(original, size, mode="bilinear", antialias=True)
            change = interpolate(change, size, mode="bilinear")
            for step in range(steps):
                generator = torch.Generator().manual_seed(key(seed, 0xDD, number, step))
                down, across = (
                    int(shift)
                    for shift in torch.randint(-phi.backbone.stride // 2, phi.backbone.stride // 2 + 1, (2,), generator=generator)
                )
                image = (base + change).clamp(0, 1).roll((down, across), (2, 3)).requires_grad_()
                strength = activations(phi, phi.normalise(image), layer).square().flatten(1).mean(1)
                require_finite_tensor(strength, what=f"activations ({layer})")
                (gradient,) = torch.autograd.grad(strength.sum(), image)
                gradient = gradient.roll((-down, -across), (2, 3))
                change = change + rate * gradient / gradient.abs().mean((1, 2, 3), keepdim=True).clamp(min=1e-12)
    return (original + change).clamp(0, 1)


def _relative_error(value: Tensor, reference: Tensor) -> Tensor:
    """Mean squared difference relative to the mean square of the second argument."""
    return mse_loss(value, reference) / reference.square().mean().clamp(min=1e-12)


def synthesise_style(
    phi: Representation, style: Num[Tensor, "batch 3 height width"], layers: Sequence[str], *,
    content: Num[Tensor, "batch 3 height2 width2"] | None = None, content_weight: float = 1.0, steps: int = 200, rate: float = 0.05,
    parameterisation: Parameterisation = Fourier(), seed: int = 0,
) -> tuple[Float[Tensor, "batch 3 height width"], list[float]]:  # fmt: skip
    """Texture synthesis, or style transfer with content images (Gatys et al. 2015, arXiv:1508.06576).

    Args:
        phi: the representation.
        style: images ``(B, 3, H, W)`` whose Gram matrices are matched.
        layers: layers of the Gram matrices.
        content: images of the same number and size whose features at the last layer are matched too.
        content_weight: weight of the content term.
        steps: number of steps of Adam.
        rate: learning rate.
        parameterisation: parameterisation of the images.
        seed: seed of the initial noise.

    Returns:
        The images in [0, 1], and the loss per step.
    """
    size = tuple(style.shape[2:])
    with torch.no_grad(), eval_mode(phi.backbone):
        grams = [gram(phi.grid(style, layer)) for layer in layers]
        content_features = None if content is None else phi.grid(content, layers[-1])
    for layer, matrices in zip(layers, grams, strict=True):
        require_finite_tensor(matrices, what=f"Gram matrices ({layer})")
    numbers = parameterisation.start((len(style), 3, *size), seed).to(phi.device).requires_grad_()
    optimiser, curve = torch.optim.Adam([numbers], lr=rate), []
    with eval_mode(phi.backbone):
        for _ in range(steps):
            images = parameterisation.to_image(numbers, size)
            errors = [_relative_error(gram(phi.grid(images, layer)), aim) for layer, aim in zip(layers, grams, strict=True)]
            loss = torch.stack(errors).sum()
            if content_features is not None:
                loss = loss + content_weight * _relative_error(phi.grid(images, layers[-1]), content_features)
            (numbers.grad,) = torch.autograd.grad(loss, numbers)
            optimiser.step()
            curve.append(float(loss.detach()))
    return parameterisation.to_image(numbers, size).detach(), curve
