"""What is explained: a number that a representation says of an image.

There are no logits in a network that learnt without labels. A target reads a number from the pooled vector or from a layer: a unit,
a direction, a class of a probe, a cluster, the likeness to another image.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor
from torch.nn.functional import linear, normalize

from selfsight.core.errors import UsageError
from selfsight.core.hooks import capture_activations, tensor_of
from selfsight.core.readout import Readout
from selfsight.core.representation import Representation

__all__ = ["Target", "activations", "cluster", "code", "direction", "features_of", "like", "log_odds", "probe_class", "strongest", "unit"]

Place = Literal["mean", "max"] | tuple[int, int]


class _StopForward(Exception):
    """The layer has spoken; the rest of the network need not run."""


@dataclass(frozen=True, eq=False)
class Target:
    """A number that a representation says of an image.

    Attributes:
        name: what to call it.
        read: from the pooled vectors (batch, dim) or the map of a layer (batch, dim, rows, columns) to numbers (batch, number).
        which: which of the numbers is meant: one for all images, or one for each.
        layer: the layer that is read; None: the pooled output.
    """

    name: str
    read: Callable[[Tensor], Float[Tensor, "batch number"]]
    which: int | Int[Tensor, " image"] = 0
    layer: str | None = None

    def numbers(self, phi: Representation, given: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch number"]:
        """All that is read from normalised images, in single precision at least."""
        return self.read_from(phi, activations(phi, given, self.layer), given.shape[-2:])

    def read_from(self, phi: Representation, output: Tensor, size: Sequence[int]) -> Float[Tensor, "batch number"]:
        """All that is read from what the layer returned for images of a size."""
        shown = output if output.ndim == 2 else phi.as_grid(output, size, self.layer or "")
        return self.read(shown if shown.dtype == torch.float64 else shown.float())

    def pick(self, numbers: Float[Tensor, "batch number"], rows: Int[Tensor, " batch"] | None = None) -> Float[Tensor, " batch"]:
        """The number that is meant. ``rows``: the image that each row shows, where images are shown several times.

        Raises:
            UsageError: there is no such number, or not one for each image.
        """
        count, which = numbers.shape[1], torch.as_tensor(self.which, device=numbers.device)
        if int(which.max()) >= count or int(which.min()) < 0:
            raise UsageError(f"{self.name}: there are {count} such numbers, from 0 to {count - 1}.", "Give one of these.")
        if which.ndim == 0:
            return numbers[:, which]
        rows = torch.arange(len(numbers)) if rows is None else rows
        if int(rows.max()) >= len(which):
            raise UsageError(f"{self.name} is meant for {len(which)} images, and more came.", "Give one number for each image.")
        return numbers.gather(1, which[rows.to(which.device)][:, None])[:, 0]

    def score(
        self, phi: Representation, given: Float[Tensor, "batch channel height width"], rows: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, " batch"]:
        """The number, of normalised images."""
        return self.pick(self.numbers(phi, given), rows)

    def of(self, rows: Int[Tensor, " part"]) -> "Target":
        """The same target for some of the images."""
        return self if isinstance(self.which, int) else self.at(self.which[rows.to(self.which.device)])

    def at(self, which: int | Int[Tensor, " image"]) -> "Target":
        """The same reading, of another number."""
        return replace(self, which=which)


def activations(phi: Representation, given: Float[Tensor, "batch channel height width"], layer: str | None) -> Tensor:
    """The pooled vectors of normalised images, or what a layer returns; layers after one of ``phi.layers`` do not run.

    Raises:
        UsageError: there is no such layer.
    """
    if layer is None:
        return phi.backbone(given).pooled
    if layer not in phi.layers:  # which may run several times; the last counts
        with capture_activations(phi.backbone, layer) as captured:
            phi.backbone(given)
        return tensor_of(captured[layer])
    found: list[Tensor] = []

    def stop(output: object) -> None:
        found.append(tensor_of(output))
        raise _StopForward

    with suppress(_StopForward), capture_activations(phi.backbone, edit={layer: stop}):
        phi.backbone(given)
    return found[0]


def features_of(
    phi: Representation, images: Num[Tensor, "batch channel height width"], layer: str | None = None
) -> Float[Tensor, "batch dim *cells"]:
    """The map of a layer, or the vectors of one without places, in single precision; None: the pooled output."""
    given = phi.normalise(images)
    output = activations(phi, given, layer)
    return (output if output.ndim == 2 else phi.as_grid(output, given.shape[-2:], layer or "")).float()


def unit(layer: str, channel: int | Int[Tensor, " image"], place: Place = "mean") -> Target:
    """A channel of a layer: its mean over places, its largest value, or its value at one place (row, column)."""

    def read(shown: Tensor) -> Tensor:
        if shown.ndim == 2:
            return shown
        if place == "max":
            return shown.amax((2, 3))
        return shown.mean((2, 3)) if place == "mean" else shown[:, :, place[0], place[1]]

    return Target(f"unit {layer}/{channel}" if isinstance(channel, int) else f"units of {layer}", read, channel, layer)


def direction(vector: Float[Tensor, " dim"], layer: str | None = None, name: str = "direction") -> Target:
    """The inner product with a vector, of the pooled output or of the mean over the places of a layer."""

    def read(shown: Tensor) -> Tensor:
        rows = shown if shown.ndim == 2 else shown.mean((2, 3))
        return linear(rows, vector.to(rows)[None])

    return Target(name, read, 0, layer)


def probe_class(readout: Readout, name: str | int) -> Target:
    """The log-odds of a class by a linear probe: ``l_c - log Σ_{j≠c} exp l_j`` of the logits ``l = W (x - mean) / scale + b``.

    (A logit alone says little: what all logits share makes no class likelier, and half of all pictures have a larger one when they are
    blurred.)

    Raises:
        UsageError: it is no linear probe, or has no such class.
    """
    if readout.kind != "linear":
        raise UsageError(f"A class is read from a linear probe, and this readout is of kind {readout.kind!r}.", "Give measures/linear.")
    classes = list(readout.classes)
    if isinstance(name, str) and name not in classes and not name.isdigit():
        raise UsageError(f"The probe has no class {name!r}.", f"It has: {', '.join(classes[:20]) or 'numbers alone'}.")
    number = classes.index(name) if name in classes else int(name)
    weight, bias, mean, scale = (torch.from_numpy(readout.arrays[part]).float() for part in ("weight", "bias", "mean", "scale"))
    slope = weight / scale
    offset = bias - slope @ mean
    return Target(f"class {name}", lambda rows: log_odds(linear(rows, slope.to(rows), offset.to(rows))), number)


def log_odds(logits: Float[Tensor, "batch number"]) -> Float[Tensor, "batch number"]:
    """``l_c - log Σ_{j≠c} exp l_j``; of one number alone the number."""
    if logits.shape[1] == 1:
        return logits
    first = torch.zeros_like(logits, dtype=torch.bool).scatter(1, logits.argmax(1, keepdim=True), value=True)
    beside = logits.masked_fill(first, -torch.inf).logsumexp(1, keepdim=True)
    parts = logits.softmax(1).masked_fill(first, 0)  # all of them at most a half
    return logits - torch.where(first, beside, logits.logsumexp(1, keepdim=True) + (-parts).log1p())


def cluster(readout: Readout, number: int | Int[Tensor, " image"]) -> Target:
    """Likeness to a cluster's centroid.

    The cosine where the clusters are of unit-length vectors; otherwise ``x · c - |c|²/2``, which is largest for the nearest.

    Raises:
        UsageError: the readout has no centroids.
    """
    if "centroids" not in readout.arrays:
        raise UsageError(f"A readout of kind {readout.kind!r} has no centroids.", "Give measures/cluster.")
    centroids = torch.from_numpy(readout.arrays["centroids"]).float()

    def read(rows: Tensor) -> Tensor:
        if readout.facts.get("unit_length"):
            return normalize(rows) @ normalize(centroids.to(rows)).T
        return linear(rows, centroids.to(rows), -centroids.to(rows).square().sum(1) / 2)

    return Target(f"cluster {number}" if isinstance(number, int) else "own cluster", read, number)


def like(phi: Representation, image: Num[Tensor, "channel height width"], layer: str | None = None, name: str = "another image") -> Target:
    """The cosine of the pooled vector (or the mean over the places of a layer) with that of another image or of a region cut from one."""
    with torch.no_grad():
        other = phi.pooled(image[None], layer).float()

    def read(shown: Tensor) -> Tensor:
        rows = shown if shown.ndim == 2 else shown.mean((2, 3))
        return normalize(rows) @ normalize(other.to(rows)).T

    return Target(f"like {name}", read, 0, layer)


def code(phi: Representation, images: Num[Tensor, "batch channel height width"], layer: str | None = None) -> Target:
    """An image's own code: ``<Φ(x), Φ(x0)> / |Φ(x0)|²``, one where nothing is changed."""
    with torch.no_grad():
        own = features_of(phi, images, layer).flatten(1)

    def read(shown: Tensor) -> Tensor:
        return shown.flatten(1) @ (own / own.square().sum(1, keepdim=True).clamp(min=1e-12)).to(shown).T

    return Target("own code", read, torch.arange(len(images)), layer)


def strongest(target: Target, phi: Representation, images: Num[Tensor, "batch channel height width"]) -> Target:
    """The same reading, of the largest number of each image: its most active unit, its likeliest class, its own cluster."""
    with torch.no_grad():
        return target.at(target.numbers(phi, phi.normalise(images)).argmax(1))
