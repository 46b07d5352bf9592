"""Feature inversion by optimisation: images with the same features as a given one, which show what a layer discards."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, leaky_relu, mse_loss

from selfsight.core.bounds import check_numbers
from selfsight.core.clock import key
from selfsight.core.finite_tensors import require_finite_tensor
from selfsight.core.hooks import eval_mode
from selfsight.core.pixels import Normalised, as_normalised
from selfsight.core.representation import Representation
from selfsight.core.rng import seeded_rng
from selfsight.explain.synthesis.priors import BOUND, bounded_range, natural_noise, project, total_variation
from selfsight.explain.targets import activations

__all__ = ["ConvBlock", "Hourglass", "Inversion", "Prior", "caricature", "fit_hourglass", "invert", "invert_with_deep_prior", "step_of"]

FADE = 0.9
"""Decay of the running sum of squared gradients, and momentum."""


@dataclass(frozen=True)
class Inversion:
    """Images reconstructed from a layer's features.

    Attributes:
        images: reconstructions in [0, 1]; one per restart.
        errors: ``|Φ(x) - Φ0| / |Φ0|``.
        layer: the layer; None: the pooled output.
    """

    images: Float[Tensor, "batch restart channel height width"]
    errors: Float[Tensor, "batch restart"]
    layer: str | None

    def spread(self) -> Float[Tensor, " batch"]:
        """Standard deviation of each pixel over restarts, averaged over pixels: what the layer does not determine."""
        return self.images.std(1, correction=0).mean((1, 2, 3))


class _Space:
    """Converts between centred images in levels of 256, normalised inputs, and images in [0, 1]."""

    def __init__(self, phi: Representation) -> None:
        self.mean, self.std = (torch.tensor(values, device=phi.device)[:, None, None] for values in (phi.mean, phi.std))

    def inputs(self, levels: Tensor) -> Normalised:
        return as_normalised(levels / (255 * self.std))

    def levels(self, inputs: Tensor) -> Tensor:
        return inputs * (255 * self.std)

    def to_images(self, levels: Tensor) -> Tensor:
        return (levels / 255 + self.mean).clamp(0, 1)


@dataclass(frozen=True)
class Prior:
    """Natural-image prior: weight and exponent of the total variation, and weight of the bounded range.

    Attributes:
        smooth: weight of the total variation.
        beta: its exponent.
        bounded: weight of the bounded range.
    """

    smooth: float = 1.0
    beta: float = 2.0
    bounded: float = 1.0

    def __call__(self, canvas: Float[Tensor, "batch channel height width"]) -> Float[Tensor, " batch"]:
        """Penalty of each image."""
        penalty = self.bounded * bounded_range(canvas)
        return penalty + self.smooth * total_variation(canvas, self.beta) if self.smooth else penalty


def invert(
    phi: Representation,
    images: Num[Tensor, "batch channel height width"],
    layer: str | None = None,
    *,
    weight: float = 100.0,
    prior: Prior = Prior(),
    steps: tuple[int, int] = (300, 50),
    restarts: int = 1,
    keep: Tensor | None = None,
    seed: int = 0,
) -> Inversion:
    """Natural pre-images (Mahendran & Vedaldi 2016, arXiv:1512.02017), all images and restarts in one batch.

    ``min C |Φ(x) - Φ0|² / |Φ0|² + R_α(x) + R_TV(x)`` from noise, with random shifts in all but the last steps.

    Args:
        phi: the representation.
        images: images ``(B, C, H, W)``, uint8 or in [0, 1], whose features are inverted.
        layer: the layer; None: the pooled output.
        weight: C; 1, 20, 100, 300 in the paper, larger for shallower layers.
        prior: weights of the natural-image prior.
        steps: number of steps with shifts, and without shifts at a tenth of the rate.
        restarts: reconstructions per image, from different noise.
        keep: mask of the features that are matched, in the shape of one image's features.
        seed: seed of the noise and the shifts.
    """
    check_numbers({"steps": steps, "restarts": restarts})
    objective = _Objective(phi, phi.normalise(images), layer, restarts, keep)
    start = natural_noise((len(objective.features), *_larger(objective.shape, objective.stride)), seed).to(objective.features)
    with eval_mode(phi.backbone):
        found = _descend(start, lambda crop, canvas: weight * objective.error(crop) + prior(canvas), objective.stride, steps, seed)
        with torch.no_grad():
            errors = objective.error(found).sqrt()
    count = (len(images), restarts)
    return Inversion(objective.space.to_images(found).unflatten(0, count), errors.unflatten(0, count), layer)


def _reference(phi: Representation, inputs: Normalised, layer: str | None) -> Tensor:
    """The features that are inverted.

    Raises:
        DataError: those of some images are NaN or infinite.
    """
    with torch.no_grad(), eval_mode(phi.backbone):
        output = activations(phi, inputs, layer)
    require_finite_tensor(output, what=f"features ({layer or 'output'})")
    return output


class _Objective:
    """Distance to the features that are inverted."""

    def __init__(self, phi: Representation, inputs: Normalised, layer: str | None, restarts: int, keep: Tensor | None) -> None:
        self.phi, self.layer, self.space, self.shape = phi, layer, _Space(phi), inputs.shape[1:]
        output = _reference(phi, inputs, layer)
        self.stride = _stride(phi, inputs, output)
        self.kept = torch.ones_like(output[:1]) if keep is None else keep.to(output)[None]
        self.features = (output * self.kept).repeat_interleave(restarts, 0)
        self.scale = self.features.flatten(1).square().sum(1).clamp(min=1e-12)

    def error(self, levels: Tensor) -> Tensor:
        """``|Φ(x) - Φ0|² / |Φ0|²``."""
        output = activations(self.phi, self.space.inputs(levels), self.layer)
        return (output * self.kept - self.features).flatten(1).square().sum(1) / self.scale


def _stride(phi: Representation, inputs: Tensor, features: Tensor) -> int:
    """Pixels between neighbouring positions of a layer."""
    return max(inputs.shape[-1] // features.shape[-1], 1) if features.ndim == 4 else phi.backbone.stride


def _margin(stride: int) -> int:
    """Maximum shift in pixels: less than a quarter of a layer's stride."""
    return max(round(stride / 4), 1) - 1


def _larger(shape: Sequence[int], stride: int) -> tuple[int, ...]:
    """Shape of an image with a margin for shifts."""
    return (shape[0], shape[1] + _margin(stride), shape[2] + _margin(stride))


def _descend(
    canvas: Tensor, loss: Callable[[Tensor, Tensor], Tensor], stride: int, steps: tuple[int, int], seed: int, rate: float = 0.05
) -> Tensor:
    """The paper's gradient descent: gradients scaled by a decaying sum of squares, momentum, projected colours; returns the central crop."""
    margin = _margin(stride)
    height, width = canvas.shape[2] - margin, canvas.shape[3] - margin
    eta = height * width * rate * BOUND**2 / 6
    squares = torch.zeros_like(canvas)
    for count, factor, shifts in ((steps[0], 1.0, True), (steps[1], 0.1, False)):
        velocity = torch.zeros_like(canvas)
        for step in range(count):
            generator = torch.Generator().manual_seed(key(seed, 0x51F7, step, int(shifts)))
            top, left = (int(torch.randint(margin + 1, (), generator=generator)) if shifts else margin // 2 for _ in range(2))
            canvas = canvas.detach().requires_grad_()
            penalty = loss(canvas[:, :, top : top + height, left : left + width], canvas)
            (gradient,) = torch.autograd.grad(penalty.sum(), canvas)
            squares = FADE * squares + gradient.square()
            velocity = FADE * velocity - gradient / (1 / (factor * eta) + squares.sqrt())
            canvas = project(canvas.detach() + velocity)
    return canvas.detach()[:, :, margin // 2 : margin // 2 + height, margin // 2 : margin // 2 + width]


def caricature(
    phi: Representation,
    images: Num[Tensor, "batch channel height width"],
    layer: str | None = None,
    *,
    weight: float = 8.0,
    steps: tuple[int, int] = (150, 0),
    seed: int = 0,
) -> Float[Tensor, "batch channel height width"]:
    """Amplify what a layer detects (the same paper, section 4.3): ``min -w <Φ0⁺, Φ(x)> / |Φ0⁺|² + R(x)`` from x0.

    ``w = C |∇R(x0)| / |∇<Φ0⁺, Φ(x0)> / |Φ0⁺|²|`` for each image, so that C is the ratio of the two gradients at the start in every layer;
    above 1 the inner product increases. The norm of ``∇R`` is at least that of an image of typical contrast.

    Args:
        phi: the representation.
        images: images ``(B, C, H, W)``, uint8 or in [0, 1].
        layer: the layer; None: the pooled output.
        weight: C.
        steps: number of steps with shifts, and without.
        seed: seed of the shifts.
    """
    space, inputs = _Space(phi), phi.normalise(images)
    reference = _reference(phi, inputs, layer).clamp(min=0)
    stride = _stride(phi, inputs, reference)
    scale = reference.flatten(1).square().sum(1).clamp(min=1e-12)

    def similarity(crop: Tensor) -> Tensor:
        return (activations(phi, space.inputs(crop), layer) * reference).flatten(1).sum(1) / scale

    margin = _margin(stride)
    start = nn.functional.pad(project(space.levels(inputs)), (margin // 2, margin - margin // 2) * 2, mode="replicate")
    with eval_mode(phi.backbone):
        relative = weight * _balance(project(space.levels(inputs)), similarity)
        return space.to_images(_descend(start, lambda crop, canvas: Prior()(canvas) - relative * similarity(crop), stride, steps, seed))


@torch.enable_grad()
def _balance(levels: Float[Tensor, "batch channel height width"], objective: Callable[[Tensor], Tensor]) -> Float[Tensor, " batch"]:
    """Norm of the gradient of the prior over that of an objective, at each image."""
    levels = levels.detach().requires_grad_()
    prior, aim = (torch.autograd.grad(each(levels).sum(), levels)[0].flatten(1).norm(dim=1) for each in (Prior(), objective))
    typical = 2 / (BOUND * levels[0, 0].numel() ** 0.5)  # of the prior, if its value is 1 and colours are BOUND from the mean
    return prior.clamp(min=typical) / aim.clamp(min=torch.finfo(aim.dtype).tiny)


class Hourglass(nn.Module):
    """An encoder-decoder with skip connections, whose structure is an image prior (Ulyanov et al. 2018, arXiv:1711.10925).

    Args:
        widths: channels per level; each level has half the resolution of the one before.
        noise: channels of the fixed input noise.
        skip: channels of each skip connection.
    """

    def __init__(self, widths: Sequence[int] = (16, 32, 64, 128), noise: int = 32, skip: int = 4) -> None:
        super().__init__()
        before = (noise, *widths[:-1])
        above = (*widths[1:], widths[-1])
        self.down = nn.ModuleList(ConvBlock(left, right, 5) for left, right in zip(before, widths, strict=True))
        self.cuts = nn.ModuleList(nn.Conv2d(left, skip, 1) for left in before)
        self.up = nn.ModuleList(ConvBlock(high + skip, width, 5) for high, width in zip(above, widths, strict=True))
        self.colours = nn.Conv2d(widths[0], 3, 1)

    def forward(self, noise: Float[Tensor, "batch noise height width"]) -> Float[Tensor, "batch 3 height width"]:
        """Images in [0, 1]."""
        levels, features = [], noise
        for block in self.down:
            levels.append(features)
            features = block(avg_pool2d(features, 2, ceil_mode=True))
        for level, cut, block in zip(reversed(levels), reversed(self.cuts), reversed(self.up), strict=True):
            larger = interpolate(features, level.shape[-2:], mode="nearest")
            features = block(torch.cat([larger, cut(level)], 1))
        return self.colours(features).sigmoid()


class ConvBlock(nn.Module):
    """Convolution, group norm with one group, leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2), nn.GroupNorm(1, outputs)

    def forward(self, features: Tensor) -> Tensor:
        return leaky_relu(self.norm(self.conv(features)), 0.2)


def _hourglass(size: Sequence[int], seed: int) -> tuple[Hourglass, Tensor]:
    with seeded_rng(key(seed, 0xD1)):
        levels = min(max(int(min(size)).bit_length() - 2, 1), 4)
        network = Hourglass((16, 32, 64, 128)[:levels])
        return network, torch.rand(1, 32, *size) * 0.1


def fit_hourglass(image: Float[Tensor, "3 height width"], *, steps: int = 300, rate: float = 0.01, seed: int = 0) -> list[float]:
    """Squared error per step while a deep image prior fits one image: it falls fast for a photograph and slowly for noise.

    Args:
        image: the image ``(3, H, W)`` in [0, 1].
        steps: number of steps of Adam.
        rate: learning rate.
        seed: seed of the weights and the input noise.
    """
    network, noise = _hourglass(image.shape[1:], seed)
    optimiser, errors = torch.optim.Adam(network.parameters(), lr=rate), []
    for _ in range(steps):
        loss = mse_loss(network(noise)[0], image)
        step_of(optimiser, loss)
        errors.append(float(loss.detach()))
    return errors


def step_of(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    """One optimiser step that computes gradients of the optimiser's parameters only; an analysed network gets none.

    Args:
        optimiser: the optimiser.
        loss: the scalar loss.
    """
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        parameter.grad = gradient
    optimiser.step()


def invert_with_deep_prior(
    phi: Representation,
    images: Num[Tensor, "batch channel height width"],
    layer: str | None = None,
    *,
    steps: int = 1000,
    rate: float = 0.003,
    seed: int = 0,
) -> Inversion:
    """Inversion with a deep image prior: ``min_θ |Φ(g_θ(z)) - Φ0|²``, with one network per image.

    Args:
        phi: the representation.
        images: images ``(B, C, H, W)``, uint8 or in [0, 1], whose features are inverted.
        layer: the layer; None: the pooled output.
        steps: number of steps of Adam.
        rate: learning rate.
        seed: seed of the weights and the input noise.
    """
    check_numbers({"steps": steps, "rate": rate})
    reconstructions, errors = [], []
    with eval_mode(phi.backbone):
        for image in phi.normalise(images):
            reference = _reference(phi, as_normalised(image[None]), layer)
            made, noise = _hourglass(image.shape[1:], seed)
            network, noise = made.to(phi.device), noise.to(phi.device)
            optimiser = torch.optim.Adam(network.parameters(), lr=rate)
            for _ in range(steps):
                error = (
                    activations(phi, phi.normalise(network(noise)), layer) - reference
                ).square().sum() / reference.square().sum().clamp(min=1e-12)
                step_of(optimiser, error)
            with torch.no_grad():
                reconstruction = network(noise)
                reconstructions.append(reconstruction)
                errors.append(
                    (activations(phi, phi.normalise(reconstruction), layer) - reference).norm() / reference.norm().clamp(min=1e-6)
                )
    return Inversion(torch.stack(reconstructions), torch.stack(errors)[:, None], layer)
