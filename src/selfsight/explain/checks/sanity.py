"""Does a map depend on what it should? On the unit that is explained, on the weights, and not on a shift of all inputs."""

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
from selfsight.explain.attribution.saliency import Maps, perturbed_scores, scores
from selfsight.explain.targets import Target

__all__ = ["cascade", "correlation", "infidelity", "neuron_sensitivity", "randomised", "rank_correlation", "shift_sensitivity", "shifted"]

Method = Callable[[Representation, Tensor, Target], Maps]


def correlation(one: Maps, other: Maps) -> Float[Tensor, " batch"]:
    """Pearson's correlation of two maps of each image; zero where one is the same everywhere."""
    left, right = (each.flatten(1).double() - each.flatten(1).double().mean(1, keepdim=True) for each in (one, other))
    scale = (left.square().sum(1) * right.square().sum(1)).sqrt()
    return ((left * right).sum(1) / torch.where(scale == 0, 1, scale)).float()


def rank_correlation(one: Maps, other: Maps) -> Float[Tensor, " batch"]:
    """Spearman's correlation, ties in the order of the places."""
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
    """How much the map of the strongest unit is that of any unit: the mean correlation with the maps of other units, drawn at random.

    One where a method does not care which unit it is asked about (Mahendran & Vedaldi 2016, "Salient deconvolutional networks").

    Args:
        phi: the representation.
        images: images.
        target: any unit of the layer.
        method: an attribution method.
        others: units that are compared with the strongest.
        seed: of the draw.
    """
    with torch.no_grad():
        numbers = target.numbers(phi, phi.normalise(images))
    first = numbers.argmax(1)
    strongest = method(phi, images, target.at(first))
    dice = torch.Generator().manual_seed(key(seed, 0x5E))
    found = []
    for _ in range(others):
        step = torch.randint(1, numbers.shape[1], (len(images),), generator=dice).to(first.device)
        found.append(correlation(strongest, method(phi, images, target.at((first + step) % numbers.shape[1]))))
    return torch.stack(found).mean(0)


def randomised(phi: Representation, layers: int, *, seed: int = 0) -> Representation:
    """The same network with its deepest ``layers`` of ``phi.layers``, and all that was registered after them, as they were drawn.

    Raises:
        UsageError: there are not so many.
    """
    if not 0 <= layers <= len(phi.layers):
        raise UsageError(f"{phi.name} has {len(phi.layers)} layers, and {layers} should be drawn anew.", "Give fewer.")
    backbone: Any = deepcopy(phi.backbone)
    fresh = untrained_twin(phi, seed=seed).backbone.state_dict()
    kept = phi.layers[: len(phi.layers) - layers]
    state = backbone.state_dict()
    dropped = tuple(f"{layer}." for layer in phi.layers[len(kept) :])
    first = next((place for place, name in enumerate(state) if name.startswith(dropped)), len(state)) if kept else 0
    backbone.load_state_dict({name: fresh[name] if place >= first else state[name] for place, name in enumerate(state)})
    return Representation(
        backbone, mean=phi.mean, std=phi.std, size=phi.size, name=f"{phi.name}, {layers} layers drawn anew", spec=phi.spec
    )


def cascade(
    phi: Representation,
    images: Num[Tensor, "batch channel height width"],
    target: Target,
    method: Method,
    *,
    seed: int = 0,
) -> list[dict[str, float]]:
    """How maps change while layers are drawn anew, from the deepest on (Adebayo et al. 2018, arXiv:1810.03292).

    Gives for 0, 1, 2, … layers Spearman's correlation with the first map, of the values and of their absolute values; the mean over
    images. A method whose maps stay alike does not explain what the network has learnt.
    """
    first = method(phi, images, target)
    found = []
    for layers in range(len(phi.layers) + 1):
        maps = method(randomised(phi, layers, seed=seed), images, target)
        found.append(
            {
                "layers": float(layers),
                "signed": float(rank_correlation(first, maps).mean()),
                "absolute": float(rank_correlation(first.abs(), maps.abs()).mean()),
            }
        )
    return found


class _Shifted(Backbone):
    """A network that takes a constant from its inputs first."""

    def __init__(self, inner: Backbone, shift: Tensor) -> None:
        super().__init__()
        self.inner, self.shift = inner, shift
        self.dim, self.stride, self.channels = inner.dim, inner.stride, inner.channels
        self.layers = tuple(f"inner.{name}" for name in inner.layers)
        self.prefix, self.pool, self.channels_last = (
            getattr(inner, name, usual) for name, usual in (("prefix", 0), ("pool", "mean"), ("channels_last", False))
        )

    def forward(self, images: Float[Tensor, "batch channel *size"]) -> Features:
        return self.inner(images - self.shift)


def shifted(phi: Representation, shift: Float[Tensor, " channel"]) -> Representation:
    """The same function of images that are all a constant brighter after normalisation, padding included."""
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
    """How far maps move when a constant is added to all inputs and taken away by the network (Kindermans et al. 2017, arXiv:1711.00867).

    The norm of the difference in parts of the map's; zero for a method that explains the function alone.
    """
    moved = torch.full((phi.backbone.channels,), shift)
    other = shifted(phi, moved)
    other.mean = tuple(mean - shift * std for mean, std in zip(phi.mean, phi.std, strict=True))
    inner = target if target.layer is None else replace(target, layer=f"inner.{target.layer}")
    before, after = method(phi, images, target), method(other, images, inner)
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
        phi, images, target: as for ``saliency``.
        maps: attributions of each input, signed (batch, channel, height, width).
        noise: the standard deviation of I, after normalisation.
        samples: how many.
        seed: of the noise.
    """
    given = phi.normalise(images)
    dice = torch.Generator().manual_seed(key(seed, 0x1F))
    shifts = noise * torch.randn(samples, *given.shape[1:], generator=dice).to(given)
    after = perturbed_scores(phi, given, target, lambda image, sample: given[image] - shifts[sample], samples)
    expected = torch.einsum("bchw,schw->bs", maps.to(given), shifts)
    return (expected - (scores(phi, given, target)[:, None] - after)).square().mean(1)
