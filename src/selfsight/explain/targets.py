"""Targets: the scalar score of an image that is explained.

A network that learnt without labels has no logits. A target reads a value from the pooled vector or from a layer: a unit, a direction,
a class of a probe, a cluster, the similarity to another image.
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
from selfsight.core.finite_tensors import require_finite_tensor
from selfsight.core.hooks import capture_activations, tensor_of
from selfsight.core.names import shortened
from selfsight.core.pixels import Normalised
from selfsight.core.readout import Readout
from selfsight.core.representation import Representation

__all__ = [
    "Target",
    "activations",
    "argmax_target",
    "cluster",
    "code",
    "direction",
    "features_of",
    "log_odds",
    "probe_class",
    "similarity_to",
    "unit",
]

Place = Literal["mean", "max"] | tuple[int, int]


class _StopForward(Exception):
    """Ends a forward pass after the requested layer."""


@dataclass(frozen=True, eq=False)
class Target:
    """A scalar score of an image.

    Attributes:
        name: name of the target.
        read: function from pooled vectors (batch, dim) or the map of a layer (batch, dim, rows, columns) to values (batch, number).
        which: index of the value: one for all images, or one per image.
        layer: the layer that is read; None: the pooled output.
    """

    name: str
    read: Callable[[Tensor], Float[Tensor, "batch number"]]
    which: int | Int[Tensor, " image"] = 0
    layer: str | None = None

    def numbers(self, phi: Representation, inputs: Float[Normalised, "batch channel height width"]) -> Float[Tensor, "batch number"]:
        """All values that are read from normalised images, at least in single precision.

        Args:
            phi: the representation.
            inputs: normalised images ``(B, C, H, W)``.
        """
        return self.read_from(phi, activations(phi, inputs, self.layer), inputs.shape[-2:])

    def read_from(self, phi: Representation, output: Tensor, size: Sequence[int]) -> Float[Tensor, "batch number"]:
        """All values that are read from a layer's output.

        Args:
            phi: the representation.
            output: output of the layer.
            size: height and width of the images in pixels.
        """
        features = output if output.ndim == 2 else phi.as_grid(output, size, self.layer or "")
        return self.read(features if features.dtype == torch.float64 else features.float())

    def pick(self, numbers: Float[Tensor, "batch number"], rows: Int[Tensor, " batch"] | None = None) -> Float[Tensor, " batch"]:
        """Select the value with index ``which``.

        Args:
            numbers: ``(B, number)`` all values.
            rows: ``(B,)`` index of the image that each row shows, where images are repeated; None: in order.

        Raises:
            UsageError: the index is out of range, or there are more images than indices.
        """
        count, which = numbers.shape[1], torch.as_tensor(self.which, device=numbers.device)
        if int(which.max()) >= count or int(which.min()) < 0:
            raise UsageError(f"{self.name}: the index must be from 0 to {count - 1}.", "Use an index in this range.")
        if which.ndim == 0:
            return numbers[:, which]
        rows = torch.arange(len(numbers)) if rows is None else rows
        if int(rows.max()) >= len(which):
            raise UsageError(f"{self.name} has indices for {len(which)} images, and there are more images.", "Use one index per image.")
        return numbers.gather(1, which[rows.to(which.device)][:, None])[:, 0]

    def score(
        self, phi: Representation, inputs: Float[Normalised, "batch channel height width"], rows: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, " batch"]:
        """The score of normalised images.

        Args:
            phi: the representation.
            inputs: normalised images ``(B, C, H, W)``.
            rows: ``(B,)`` index of the image that each row shows; None: in order.
        """
        return self.pick(self.numbers(phi, inputs), rows)

    def of(self, rows: Int[Tensor, " part"]) -> "Target":
        """The same target for a subset of the images."""
        return self if isinstance(self.which, int) else self.at(self.which[rows.to(self.which.device)])

    def at(self, which: int | Int[Tensor, " image"]) -> "Target":
        """The same target with another index."""
        return replace(self, which=which)


def activations(phi: Representation, inputs: Float[Normalised, "batch channel height width"], layer: str | None) -> Tensor:
    """Pooled vectors of normalised images, or the output of a layer; layers after one of ``phi.layers`` do not run.

    Args:
        phi: the representation.
        inputs: normalised images ``(B, C, H, W)``.
        layer: dotted name; None: the pooled output.

    Raises:
        UsageError: the layer does not exist.
    """
    if layer is None:
        return phi.backbone(inputs).pooled
    if layer not in phi.layers:  # it may run several times; the last output counts
        with capture_activations(phi.backbone, layer) as captured:
            phi.backbone(inputs)
        return tensor_of(captured[layer])
    outputs: list[Tensor] = []

    def stop(output: object) -> None:
        outputs.append(tensor_of(output))
        raise _StopForward

    with suppress(_StopForward), capture_activations(phi.backbone, edit={layer: stop}):
        phi.backbone(inputs)
    return outputs[0]


def features_of(
    phi: Representation, images: Num[Tensor, "batch channel height width"], layer: str | None = None
) -> Float[Tensor, "batch dim *cells"]:
    """Feature map of a layer, or its vectors if it has no map, in single precision.

    Args:
        phi: the representation.
        images: images ``(B, C, H, W)``, uint8 or in [0, 1].
        layer: dotted name; None: the pooled output.
    """
    inputs = phi.normalise(images)
    output = activations(phi, inputs, layer)
    return (output if output.ndim == 2 else phi.as_grid(output, inputs.shape[-2:], layer or "")).float()


def unit(layer: str, channel: int | Int[Tensor, " image"], place: Place = "mean") -> Target:
    """A channel of a layer: its mean or maximum over positions, or its value at one position.

    Args:
        layer: dotted name.
        channel: index of the channel, or one per image.
        place: ``mean``, ``max`` or (row, column).
    """

    def read(features: Tensor) -> Tensor:
        if features.ndim == 2:
            return features
        if place == "max":
            return features.amax((2, 3))
        if place == "mean":
            return features.mean((2, 3))
        if place[0] >= features.shape[2] or place[1] >= features.shape[3]:
            cells = f"{features.shape[2]} x {features.shape[3]}"
            raise UsageError(
                f"The layer {layer} has {cells} positions, and none at {place[0]},{place[1]}.", "Rows and columns count from 0."
            )
        return features[:, :, place[0], place[1]]

    return Target(f"unit {layer}/{channel}" if isinstance(channel, int) else f"units of {layer}", read, channel, layer)


def direction(vector: Float[Tensor, " dim"], layer: str | None = None, name: str = "direction") -> Target:
    """Inner product with a vector, of the pooled output or of the mean over the positions of a layer.

    Args:
        vector: ``(D,)``.
        layer: dotted name; None: the pooled output.
        name: name of the target.
    """

    def read(features: Tensor) -> Tensor:
        vectors = features if features.ndim == 2 else features.mean((2, 3))
        return linear(vectors, vector.to(vectors)[None])

    return Target(name, read, 0, layer)


def probe_class(readout: Readout, name: str | int) -> Target:
    """Log-odds of a class under a linear probe: ``l_c - log Σ_{j≠c} exp l_j`` of the logits ``l = W (x - mean) / scale + b``.

    (A single logit is not informative: an offset shared by all logits changes no probability, and half of all images have a larger logit
    when they are blurred.)

    Args:
        readout: a linear probe.
        name: name or index of the class.

    Raises:
        UsageError: the readout is not a linear probe, or has no such class.
    """
    if readout.kind != "linear":
        raise UsageError(f"A class needs a linear probe, and this readout is of kind {readout.kind!r}.", "Use measures/linear.")
    classes = list(readout.classes)
    if isinstance(name, str) and name not in classes and not name.isdigit():
        raise UsageError(f"The probe has no class {name!r}.", f"Its classes: {shortened(classes, 20) or 'indices only'}.")
    number = classes.index(name) if name in classes else int(name)
    weight, bias, mean, scale = (torch.from_numpy(readout.arrays[key]).float() for key in ("weight", "bias", "mean", "scale"))
    weight_scaled = weight / scale
    offset = bias - weight_scaled @ mean
    return Target(f"class {name}", lambda rows: log_odds(linear(rows, weight_scaled.to(rows), offset.to(rows))), number)


def log_odds(logits: Float[Tensor, "batch number"]) -> Float[Tensor, "batch number"]:
    """``l_c - log Σ_{j≠c} exp l_j`` of logits ``(B, class)``; a single logit is returned unchanged."""
    if logits.shape[1] == 1:
        return logits
    largest = torch.zeros_like(logits, dtype=torch.bool).scatter(1, logits.argmax(1, keepdim=True), value=True)
    others = logits.masked_fill(largest, -torch.inf).logsumexp(1, keepdim=True)
    probabilities = logits.softmax(1).masked_fill(largest, 0)  # each at most 0.5
    return logits - torch.where(largest, others, logits.logsumexp(1, keepdim=True) + (-probabilities).log1p())


def cluster(readout: Readout, number: int | Int[Tensor, " image"]) -> Target:
    """Similarity to the centroid of a cluster.

    The cosine where the clusters are of unit-length vectors; otherwise ``x · c - |c|²/2``, which is largest for the nearest centroid.

    Args:
        readout: a clustering.
        number: index of the cluster, or one per image.

    Raises:
        UsageError: the readout has no centroids.
    """
    if "centroids" not in readout.arrays:
        raise UsageError(f"A readout of kind {readout.kind!r} has no centroids.", "Use measures/cluster.")
    centroids = torch.from_numpy(readout.arrays["centroids"]).float()

    def read(vectors: Tensor) -> Tensor:
        if readout.facts.get("unit_length"):
            return normalize(vectors) @ normalize(centroids.to(vectors)).T
        return linear(vectors, centroids.to(vectors), -centroids.to(vectors).square().sum(1) / 2)

    return Target(f"cluster {number}" if isinstance(number, int) else "own cluster", read, number)


def similarity_to(
    phi: Representation, image: Num[Tensor, "channel height width"], layer: str | None = None, name: str = "another image"
) -> Target:
    """Cosine similarity of the pooled vector (or the mean over the positions of a layer) to that of another image or image region.

    Args:
        phi: the representation.
        image: the other image ``(C, H, W)``, uint8 or in [0, 1].
        layer: dotted name; None: the pooled output.
        name: name of the other image.
    """
    with torch.no_grad():
        reference = phi.pooled(image[None], layer).float()
    require_finite_tensor(reference, names=[name])

    def read(features: Tensor) -> Tensor:
        vectors = features if features.ndim == 2 else features.mean((2, 3))
        return normalize(vectors) @ normalize(reference.to(vectors)).T

    return Target(f"like {name}", read, 0, layer)


def code(phi: Representation, images: Num[Tensor, "batch channel height width"], layer: str | None = None) -> Target:
    """Similarity to each image's own features, ``<Φ(x), Φ(x0)> / |Φ(x0)|²``; 1 for the unchanged image.

    Args:
        phi: the representation.
        images: images ``(B, C, H, W)``, uint8 or in [0, 1].
        layer: dotted name; None: the pooled output.
    """
    with torch.no_grad():
        references = features_of(phi, images, layer).flatten(1)

    def read(features: Tensor) -> Tensor:
        return features.flatten(1) @ (references / references.square().sum(1, keepdim=True).clamp(min=1e-12)).to(features).T

    return Target("own code", read, torch.arange(len(images)), layer)


def argmax_target(target: Target, phi: Representation, images: Num[Tensor, "batch channel height width"]) -> Target:
    """The same target with the index of the largest value of each image: its most active unit, its most likely class, its own cluster.

    Args:
        target: a target with several values.
        phi: the representation.
        images: images ``(B, C, H, W)``, uint8 or in [0, 1].
    """
    with torch.no_grad():
        return target.at(target.numbers(phi, phi.normalise(images)).argmax(1))
