"""Inversion: pictures that a layer cannot tell from a given one, and so what the layer has forgotten of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, leaky_relu, mse_loss

from selfsight.core.clock import key
from selfsight.core.hooks import eval_mode
from selfsight.core.representation import Representation
from selfsight.explain.synthesis.priors import BOUND, bounded_range, natural_noise, project, total_variation
from selfsight.explain.targets import activations

__all__ = ["ConvBlock", "Hourglass", "Inversion", "Prior", "caricature", "fit_hourglass", "invert", "invert_by_network", "step_of"]

FADE = 0.9
"""Of the optimiser's memory of squared gradients, and its momentum."""


@dataclass(frozen=True)
class Inversion:
    """Pictures found again from a layer's features.

    Attributes:
        pictures: in [0, 1]; the restarts of each image beside each other.
        errors: ``|Φ(x) - Φ0| / |Φ0|``.
        layer: the layer; None: the pooled output.
    """

    pictures: Float[Tensor, "batch restart channel height width"]
    errors: Float[Tensor, "batch restart"]
    layer: str | None

    def spread(self) -> Float[Tensor, " batch"]:
        """The standard deviation over restarts of a pixel, the mean over pixels: what the layer does not determine."""
        return self.pictures.std(1, correction=0).mean((1, 2, 3))


class _Space:
    """From pictures around the mean colour, in levels of 256, to what a network is given, and back to [0, 1]."""

    def __init__(self, phi: Representation) -> None:
        self.mean, self.std = (torch.tensor(values, device=phi.device)[:, None, None] for values in (phi.mean, phi.std))

    def given(self, levels: Tensor) -> Tensor:
        return levels / (255 * self.std)

    def levels(self, given: Tensor) -> Tensor:
        return given * (255 * self.std)

    def pictures(self, levels: Tensor) -> Tensor:
        return (levels / 255 + self.mean).clamp(0, 1)


@dataclass(frozen=True)
class Prior:
    """What is known of pictures: weight and exponent of their total variation, and weight of their bounded range."""

    smooth: float = 1.0
    beta: float = 2.0
    bounded: float = 1.0

    def __call__(self, canvas: Float[Tensor, "batch channel height width"]) -> Float[Tensor, " batch"]:
        """The penalty of each picture."""
        found = self.bounded * bounded_range(canvas)
        return found + self.smooth * total_variation(canvas, self.beta) if self.smooth else found


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

    ``min C |Φ(x) - Φ0|² / |Φ0|² + R_α(x) + R_TV(x)``, from noise, the picture shifted at random in every step but the last ones.

    Args:
        phi: the representation.
        images: the pictures whose features are inverted.
        layer: the layer; None: the pooled output.
        weight: C: 1, 20, 100, 300 in the paper, larger for shallower layers.
        prior: what is known of pictures.
        steps: with shifts, and without at a tenth of the rate.
        restarts: pictures for each image, from different noise.
        keep: a mask of the features that count, in the shape of one image's features.
        seed: of the noise and the shifts.
    """
    aim = _Aim(phi, phi.normalise(images), layer, restarts, keep)
    noise = natural_noise((len(aim.features), *_larger(aim.shape, aim.stride)), seed).to(aim.features)
    with eval_mode(phi.backbone):
        found = _descend(noise, lambda shown, canvas: weight * aim.missed(shown) + prior(canvas), aim.stride, steps, seed)
        with torch.no_grad():
            errors = aim.missed(found).sqrt()
    count = (len(images), restarts)
    return Inversion(aim.space.pictures(found).unflatten(0, count), errors.unflatten(0, count), layer)


class _Aim:
    """The features that are to be met."""

    def __init__(self, phi: Representation, given: Tensor, layer: str | None, restarts: int, keep: Tensor | None) -> None:
        self.phi, self.layer, self.space, self.shape = phi, layer, _Space(phi), given.shape[1:]
        with torch.no_grad(), eval_mode(phi.backbone):
            found = activations(phi, given, layer)
        self.stride = _stride(phi, given, found)
        self.kept = torch.ones_like(found[:1]) if keep is None else keep.to(found)[None]
        self.features = (found * self.kept).repeat_interleave(restarts, 0)
        self.scale = self.features.flatten(1).square().sum(1).clamp(min=1e-12)

    def missed(self, levels: Tensor) -> Tensor:
        """``|Φ(x) - Φ0|² / |Φ0|²``."""
        found = activations(self.phi, self.space.given(levels), self.layer)
        return (found * self.kept - self.features).flatten(1).square().sum(1) / self.scale


def _stride(phi: Representation, given: Tensor, features: Tensor) -> int:
    """Pixels between neighbouring places of a layer."""
    return max(given.shape[-1] // features.shape[-1], 1) if features.ndim == 4 else phi.backbone.stride


def _margin(stride: int) -> int:
    """Pixels that a picture may be shifted by: less than a quarter of a layer's stride."""
    return max(round(stride / 4), 1) - 1


def _larger(shape: Sequence[int], stride: int) -> tuple[int, ...]:
    """A picture's shape with a margin for shifts."""
    return (shape[0], shape[1] + _margin(stride), shape[2] + _margin(stride))


def _descend(
    canvas: Tensor, loss: Callable[[Tensor, Tensor], Tensor], stride: int, steps: tuple[int, int], seed: int, rate: float = 0.05
) -> Tensor:
    """The paper's descent: gradients divided by a fading memory of their size, momentum, colours held in range; the middle is cut out."""
    margin = _margin(stride)
    height, width = canvas.shape[2] - margin, canvas.shape[3] - margin
    eta = height * width * rate * BOUND**2 / 6
    memory = torch.zeros_like(canvas)
    for count, part, shifts in ((steps[0], 1.0, True), (steps[1], 0.1, False)):
        speed = torch.zeros_like(canvas)
        for step in range(count):
            dice = torch.Generator().manual_seed(key(seed, 0x51F7, step, int(shifts)))
            top, left = (int(torch.randint(margin + 1, (), generator=dice)) if shifts else margin // 2 for _ in range(2))
            canvas = canvas.detach().requires_grad_()
            value = loss(canvas[:, :, top : top + height, left : left + width], canvas)
            (slope,) = torch.autograd.grad(value.sum(), canvas)
            memory = FADE * memory + slope.square()
            speed = FADE * speed - slope / (1 / (part * eta) + memory.sqrt())
            canvas = project(canvas.detach() + speed)
    return canvas.detach()[:, :, margin // 2 : margin // 2 + height, margin // 2 : margin // 2 + width]


def caricature(
    phi: Representation,
    images: Num[Tensor, "batch channel height width"],
    layer: str | None = None,
    *,
    weight: float = 1.0,
    steps: tuple[int, int] = (150, 0),
    seed: int = 0,
) -> Float[Tensor, "batch channel height width"]:
    """Pictures with more of what a layer sees in them (the same paper, section 4.3): ``min -C <Φ0⁺, Φ(x)> / |Φ0⁺|² + R(x)`` from x0.

    Args:
        phi: the representation.
        images: the pictures.
        layer: the layer; None: the pooled output.
        weight: C.
        steps: with shifts, and without.
        seed: of the shifts.
    """
    space, given = _Space(phi), phi.normalise(images)
    with torch.no_grad(), eval_mode(phi.backbone):
        aim = activations(phi, given, layer).clamp(min=0)
    stride = _stride(phi, given, aim)
    scale = aim.flatten(1).square().sum(1).clamp(min=1e-12)

    def loss(shown: Tensor, canvas: Tensor) -> Tensor:
        seen = (activations(phi, space.given(shown), layer) * aim).flatten(1).sum(1) / scale
        return Prior()(canvas) - weight * seen

    margin = _margin(stride)
    start = nn.functional.pad(space.levels(given), (margin // 2, margin - margin // 2) * 2, mode="replicate")
    with eval_mode(phi.backbone):
        return space.pictures(_descend(project(start), loss, stride, steps, seed))


class Hourglass(nn.Module):
    """An encoder and a decoder with short cuts, whose form alone is a prior of pictures (Ulyanov et al. 2018, arXiv:1711.10925).

    Args:
        widths: channels of each level, each half as large as the one before.
        noise: channels of the fixed noise that it is shown.
        skip: channels of each short cut.
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
        """Pictures in [0, 1]."""
        levels, shown = [], noise
        for block in self.down:
            levels.append(shown)
            shown = block(avg_pool2d(shown, 2, ceil_mode=True))
        for level, cut, block in zip(reversed(levels), reversed(self.cuts), reversed(self.up), strict=True):
            larger = interpolate(shown, level.shape[-2:], mode="nearest")
            shown = block(torch.cat([larger, cut(level)], 1))
        return self.colours(shown).sigmoid()


class ConvBlock(nn.Module):
    """A convolution, a norm over the picture and a leaky rectifier."""

    def __init__(self, before: int, after: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(before, after, kernel, stride, (kernel - 1) // 2), nn.GroupNorm(1, after)

    def forward(self, shown: Tensor) -> Tensor:
        return leaky_relu(self.norm(self.conv(shown)), 0.2)


def _hourglass(size: Sequence[int], seed: int) -> tuple[Hourglass, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key(seed, 0xD1))
        levels = min(max(int(min(size)).bit_length() - 2, 1), 4)
        network = Hourglass((16, 32, 64, 128)[:levels])
        return network, torch.rand(1, 32, *size) * 0.1


def fit_hourglass(picture: Float[Tensor, "3 height width"], *, steps: int = 300, rate: float = 0.01, seed: int = 0) -> list[float]:
    """The squared error of each step while an hourglass learns one picture: fast for a photograph, slow for noise."""
    network, noise = _hourglass(picture.shape[1:], seed)
    optimiser, found = torch.optim.Adam(network.parameters(), lr=rate), []
    for _ in range(steps):
        loss = mse_loss(network(noise)[0], picture)
        step_of(optimiser, loss)
        found.append(float(loss.detach()))
    return found


def step_of(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step, with slopes for its own parameters alone: a network that is looked at keeps its own."""
    owned = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    for parameter, slope in zip(owned, torch.autograd.grad(loss, owned), strict=True):
        parameter.grad = slope
    optimiser.step()


def invert_by_network(
    phi: Representation,
    images: Num[Tensor, "batch channel height width"],
    layer: str | None = None,
    *,
    steps: int = 1000,
    rate: float = 0.003,
    seed: int = 0,
) -> Inversion:
    """Inversion with the form of a network as the prior (deep image prior): ``min_θ |Φ(g_θ(z)) - Φ0|²``, one network an image."""
    given = phi.normalise(images)
    pictures, errors = [], []
    with eval_mode(phi.backbone):
        for one in given:
            with torch.no_grad():
                aim = activations(phi, one[None], layer)
            network, noise = _hourglass(one.shape[1:], seed)
            network, noise = network.to(phi.device), noise.to(phi.device)
            optimiser = torch.optim.Adam(network.parameters(), lr=rate)
            for _ in range(steps):
                error = (activations(phi, phi.normalise(network(noise)), layer) - aim).square().sum() / aim.square().sum().clamp(min=1e-12)
                step_of(optimiser, error)
            with torch.no_grad():
                found = network(noise)
                pictures.append(found)
                errors.append((activations(phi, phi.normalise(found), layer) - aim).norm() / aim.norm().clamp(min=1e-6))
    return Inversion(torch.stack(pictures), torch.stack(errors)[:, None], layer)
