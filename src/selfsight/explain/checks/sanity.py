"""Sanity checks of attribution maps: dependence on the explained unit and on the weights, invariance to an input shift."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Num
from torch import Tensor

from selfsight.backbones.loading import untrained_twin
from selfsight.core.clock import key
from selfsight.core.errors import UsageError
from selfsight.core.representation import Backbone, Features, Representation
from selfsight.core.token_layout import TokenLayout
from selfsight.explain.attribution.saliency import Maps, perturbed_scores, scores
from selfsight.explain.targets import Target

__all__ = [
    "cascading_randomisation",
    "correlation",
    "infidelity",
    "neuron_sensitivity",
    "randomise_layers",
    "rank_correlation",
    "shift_sensitivity",
    "shifted",
]

Method = Callable[[Representation, Tensor, Target], Maps]


def correlation(one: Maps, other: Maps) -> Float[Tensor, " batch"]:
    """Pearson correlation between two maps of each image; zero where one is constant.

    Args:
        one: maps ``(B, 1, H, W)``.
        other: maps of the same shape.
    """
    left, right = (each.flatten(1).double() - each.flatten(1).double().mean(1, keepdim=True) for each in (one, other))
    scale = (left.square().sum(1) * right.square().sum(1)).sqrt()
    return ((left * right).sum(1) / torch.where(scale == 0, 1, scale)).float()


def rank_correlation(one: Maps, other: Maps) -> Float[Tensor, " batch"]:
    """Spearman correlation between two maps of each image, ties in pixel order.

    Args:
        one: maps ``(B, 1, H, W)``.
        other: maps of the same shape.
    """
    return correlation(*(each.flatten(1).argsort(dim=1, stable=True).argsort(1)[:, None, None].float() for each in (one, other)))


def neuron_sensitivity(
    phi: Representation,
    images: Num[Tensor, "batch channel height width"],
    target: Target,
    method: Method,
    *,
    others: int = 8,
    seed: int = 0,
) -> Float[Tensor, " batch"]:
    """Mean correlation between the map of the strongest unit and maps of random other units.

    1 for a method that ignores which unit is explained (Mahendran & Vedaldi 2016, "Salient deconvolutional networks").

    Args:
        phi: the representation.
        images: images ``(B, C, H, W)``, uint8 or in [0, 1].
        target: any unit of the layer.
        method: an attribution method.
        others: number of units that are compared with the strongest.
        seed: seed of the draw.
    """
    with torch.no_grad():
        values = target.numbers(phi, phi.normalise(images))
    first = values.argmax(1)
    strongest = method(phi, images, target.at(first))
    generator = torch.Generator().manual_seed(key(seed, 0x5E))
    correlations = []
    for _ in range(others):
        step = torch.randint(1, values.shape[1], (len(images),), generator=generator).to(first.device)
        correlations.append(correlation(strongest, method(phi, images, target.at((first + step) % values.shape[1]))))
    return torch.stack(correlations).mean(0)


def randomise_layers(phi: Representation, layers: int, *, seed: int = 0) -> Representation:
    """Replace the weights of the deepest layers, and of all modules registered after them, by random initial weights.

    Args:
        phi: the representation.
        layers: number of ``phi.layers`` to replace, from the deepest.
        seed: seed of the weights.

    Raises:
        UsageError: the network has fewer layers.
    """
    if not 0 <= layers <= len(phi.layers):
        raise UsageError(f"{phi.name} has {len(phi.layers)} layers, and {layers} were to be randomised.", "Use at most that many.")
    backbone: Any = deepcopy(phi.backbone)
    fresh = untrained_twin(phi, seed=seed).backbone.state_dict()
    kept = phi.layers[: len(phi.layers) - layers]
    state = backbone.state_dict()
    replaced = tuple(f"{layer}." for layer in phi.layers[len(kept) :])
    first = next((index for index, name in enumerate(state) if name.startswith(replaced)), len(state)) if kept else 0
    backbone.load_state_dict({name: fresh[name] if index >= first else state[name] for index, name in enumerate(state)})
    return Representation(
        backbone, mean=phi.mean, std=phi.std, size=phi.size, name=f"{phi.name}, {layers} layers randomised", spec=phi.spec
    )


def cascading_randomisation(
    phi: Representation,
    images: Num[Tensor, "batch channel height width"],
    target: Target,
    method: Method,
    *,
    seed: int = 0,
) -> list[dict[str, float]]:
    """Cascading randomisation: change of the maps while layers are replaced from the deepest on (Adebayo et al. 2018, arXiv:1810.03292).

    A method whose maps hardly change does not explain what the network has learnt.

    Args:
        phi: the representation.
        images: images ``(B, C, H, W)``, uint8 or in [0, 1].
        target: the score.
        method: an attribution method.
        seed: seed of the weights.

    Returns:
        For 0, 1, 2, … layers the Spearman correlation with the first map, of values and of absolute values, averaged over images.
    """
    first = method(phi, images, target)
    correlations = []
    for layers in range(len(phi.layers) + 1):
        maps = method(randomise_layers(phi, layers, seed=seed), images, target)
        correlations.append(
            {
                "layers": float(layers),
                "signed": float(rank_correlation(first, maps).mean()),
                "absolute": float(rank_correlation(first.abs(), maps.abs()).mean()),
            }
        )
    return correlations


class _Shifted(Backbone):
    """A network that subtracts a constant from its inputs."""

    def __init__(self, inner: Backbone, shift: Tensor) -> None:
        super().__init__()
        self.inner, self.shift = inner, shift
        self.dim, self.stride, self.channels = inner.dim, inner.stride, inner.channels
        self.layers = tuple(f"inner.{name}" for name in inner.layers)
        layout = TokenLayout.of(inner)
        self.prefix, self.pool, self.channels_last = layout.prefix, layout.pool, layout.channels_last

    def forward(self, images: Float[Tensor, "batch channel *size"]) -> Features:
        return self.inner(images - self.shift)


def shifted(phi: Representation, shift: Float[Tensor, " channel"]) -> Representation:
    """The same function on images that are brighter by a constant after normalisation, padding included.

    Args:
        phi: the representation.
        shift: ``(C,)`` constant per channel, in normalised units.
    """
    inner = phi.backbone
    return Representation(
        _Shifted(inner, shift[:, None, None].to(phi.device)), mean=phi.mean, std=phi.std, size=phi.size, name=f"{phi.name}, shifted"
    )


def shift_sensitivity(
    phi: Representation,
    images: Num[Tensor, "batch channel height width"],
    target: Target,
    method: Method,
    *,
    shift: float = 1.0,
) -> Float[Tensor, " batch"]:
    """Change of the maps when a constant is added to the inputs and subtracted by the network (Kindermans et al. 2017, arXiv:1711.00867).

    Args:
        phi: the representation.
        images: images ``(B, C, H, W)``, uint8 or in [0, 1].
        target: the score.
        method: an attribution method.
        shift: the constant, in normalised units.

    Returns:
        ``(B,)`` norm of the difference relative to the norm of the map; zero for a method that depends on the function alone.
    """
    shifts = torch.full((phi.backbone.channels,), shift)
    shifted_phi = shifted(phi, shifts)
    shifted_phi.mean = tuple(mean - shift * std for mean, std in zip(phi.mean, phi.std, strict=True))
    inner = target if target.layer is None else replace(target, layer=f"inner.{target.layer}")
    before, after = method(phi, images, target), method(shifted_phi, images, inner)
    return (before - after).flatten(1).norm(dim=1) / before.flatten(1).norm(dim=1).clamp(min=1e-12)


def infidelity(
    phi: Representation,
    images: Num[Tensor, "batch channel height width"],
    target: Target,
    maps: Float[Tensor, "batch channel height width"],
    *,
    noise: float = 0.2,
    samples: int = 50,
    seed: int = 0,
) -> Float[Tensor, " batch"]:
    """``E (I · m - (f(x) - f(x - I)))²`` for Gaussian I (Yeh et al. 2019, arXiv:1901.09392).

    Args:
        phi: the representation.
        images: images ``(B, C, H, W)``, uint8 or in [0, 1].
        target: the score f.
        maps: signed attributions m of each input value ``(B, C, H, W)``.
        noise: standard deviation of I, in normalised units.
        samples: number of samples of I.
        seed: seed of the noise.
    """
    inputs = phi.normalise(images)
    generator = torch.Generator().manual_seed(key(seed, 0x1F))
    shifts = noise * torch.randn(samples, *inputs.shape[1:], generator=generator).to(inputs)
    perturbed = perturbed_scores(phi, inputs, target, lambda image, sample: inputs[image] - shifts[sample], samples)
    expected = torch.einsum("bchw,schw->bs", maps.to(inputs), shifts)
    return (expected - (scores(phi, inputs, target)[:, None] - perturbed)).square().mean(1)
