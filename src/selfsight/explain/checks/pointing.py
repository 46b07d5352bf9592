"""Localisation checks of attribution maps: pointing game, weak localisation, insertion and deletion, with uninformed baselines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor

from selfsight.core.clock import key
from selfsight.core.errors import UsageError
from selfsight.core.pixels import as_normalised
from selfsight.core.representation import Representation
from selfsight.explain.attribution.perturbation import BLUR, blurred
from selfsight.explain.attribution.saliency import Maps, perturbed_scores, score_fraction, scores
from selfsight.explain.targets import Target

__all__ = ["Curves", "Pointing", "boxes_of", "centre_map", "curves", "fit_threshold", "localised", "pointing_game", "random_map"]

TOLERANCE = 15 / 224
"""As a fraction of the shorter side: the published 15 pixels on images of 224."""
Objects = Bool[Tensor, "batch height width"]
Threshold = Literal["value", "energy", "mean"]


def centre_map(shape: Sequence[int]) -> Maps:
    """Baseline maps that peak at the image centre.

    Args:
        shape: (batch, channel, height, width); the maps have one channel.
    """
    batch, _, height, width = shape
    down, across = torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2
    return -(down[:, None].square() + across.square()).sqrt().expand(batch, 1, height, width)


def random_map(shape: Sequence[int], seed: int = 0) -> Maps:
    """Baseline maps of uniform noise.

    Args:
        shape: (batch, 1, height, width).
        seed: seed of the noise.
    """
    return torch.rand(*shape, generator=torch.Generator().manual_seed(key(seed, 0x9017)))


@dataclass(frozen=True)
class Pointing:
    """Accuracy of the pointing game.

    Attributes:
        accuracy: fraction of hits, averaged over classes; without labels over images.
        overall: fraction of hits over all images.
        centre: accuracy of pointing at the centre.
        random: expected accuracy of pointing at a random pixel.
        difficult: accuracy on objects smaller than a quarter of the image that share it with another class; None if there are none.
        images: number of images.
    """

    accuracy: float
    overall: float
    centre: float
    random: float
    difficult: float | None
    images: int


def near(objects: Objects, tolerance: float) -> Objects:
    """Dilate object masks by a disc: pixels at a distance of less than ``tolerance`` from an object.

    Args:
        objects: masks ``(B, H, W)``.
        tolerance: radius in pixels.
    """
    radius = int(tolerance)
    offsets = torch.arange(-radius, radius + 1)
    disc = (offsets[:, None].square() + offsets.square()) < tolerance**2
    if radius == 0 or not bool(disc.any()):
        return objects
    kernel = disc.float()[None, None].to(objects.device)
    dilated = torch.nn.functional.conv2d(objects.float()[:, None], kernel, padding=radius)[:, 0]
    return (dilated > 0.5) | objects


def pointing_game(
    maps: Maps,
    objects: Objects,
    labels: Int[Tensor, " batch"] | None = None,
    *,
    tolerance: float | None = None,
    distractors: Bool[Tensor, " batch"] | None = None,
) -> Pointing:
    """Fraction of maps whose maximum lies on the object or near it (Zhang et al. 2016, arXiv:1608.00507, section 4).

    Args:
        maps: attribution maps ``(B, 1, H, W)`` of any range.
        objects: object masks ``(B, H, W)``.
        labels: ``(B,)`` classes, over which accuracy is averaged as published; None: over images.
        tolerance: distance from the object that still counts, in pixels; None: 15 pixels on images of 224.
        distractors: ``(B,)`` whether objects of other classes are in the image.
    """
    height, width = objects.shape[1:]
    targets = near(objects, TOLERANCE * min(height, width) if tolerance is None else tolerance)
    hits = targets.flatten(1).gather(1, maps.flatten(1).argmax(1, keepdim=True).to(targets.device))[:, 0].float()
    centre = targets[:, (height - 1) // 2, (width - 1) // 2].float()
    groups = torch.zeros(len(maps), dtype=torch.int64) if labels is None else labels
    difficult = (objects.float().mean((1, 2)) < 0.25) & distractors if distractors is not None else torch.zeros(len(maps), dtype=torch.bool)
    return Pointing(
        _by_class(hits, groups),
        float(hits.mean()),
        _by_class(centre, groups),
        _by_class(targets.float().mean((1, 2)), groups),
        _by_class(hits[difficult], groups[difficult]) if bool(difficult.any()) else None,
        len(maps),
    )


def _by_class(values: Float[Tensor, " sample"], classes: Int[Tensor, " sample"]) -> float:
    return float(torch.stack([values[classes == label].mean() for label in classes.unique()]).mean())


def boxes_of(maps: Maps, threshold: Threshold, alpha: float) -> Int[Tensor, "batch 4"]:
    """Tightest box around the region above a threshold.

    Args:
        maps: attribution maps ``(B, 1, H, W)``.
        threshold: ``value``: above ``alpha`` of the range; ``energy``: the highest pixels that hold ``alpha`` of the sum of the map minus
            its minimum; ``mean``: above ``alpha`` times the mean of that (Fong & Vedaldi 2017, arXiv:1704.03296, section 4.3).
        alpha: parameter of the threshold.

    Returns:
        ``(B, 4)`` top, left, bottom, right in pixels, the ends exclusive.
    """
    level = (maps - maps.amin((2, 3), keepdim=True))[:, 0].flatten(1)
    if threshold == "value":
        kept = level > alpha * level.amax(1, keepdim=True)
    elif threshold == "mean":
        kept = level > alpha * level.mean(1, keepdim=True)
    else:
        order = level.sort(1, descending=True)
        before = order.values.cumsum(1) - order.values
        kept = torch.zeros_like(level, dtype=torch.bool).scatter(1, order.indices, before < alpha * level.sum(1, keepdim=True))
    kept |= level == level.amax(1, keepdim=True)
    kept = kept.view(maps.shape[0], *maps.shape[2:])
    rows, columns = kept.any(2).int(), kept.any(1).int()
    ends = [(axis.argmax(1), axis.shape[1] - axis.flip(1).argmax(1)) for axis in (rows, columns)]
    return torch.stack([ends[0][0], ends[1][0], ends[0][1], ends[1][1]], 1)


def localised(boxes: Int[Tensor, "batch 4"], objects: Objects) -> Bool[Tensor, " batch"]:
    """Whether each box and the object's box have an intersection over union of at least 0.5.

    Args:
        boxes: ``(B, 4)`` top, left, bottom, right in pixels.
        objects: object masks ``(B, H, W)``.
    """
    true = boxes_of(objects[:, None].float(), "value", 0.5)
    bottom_right, top_left = torch.minimum(boxes[:, 2:], true[:, 2:]), torch.maximum(boxes[:, :2], true[:, :2])
    intersection = (bottom_right - top_left).clamp(min=0).prod(1)
    union = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (true[:, 2:] - true[:, :2]).prod(1) - intersection
    return intersection >= 0.5 * union


def fit_threshold(maps: Maps, objects: Objects, threshold: Threshold) -> float:
    """The ``alpha`` with the highest localisation accuracy; use other images than those that are evaluated.

    Args:
        maps: attribution maps ``(B, 1, H, W)``.
        objects: object masks ``(B, H, W)``.
        threshold: kind of threshold, as for ``boxes_of``.
    """
    choices = torch.arange(0, 10, 0.5) if threshold == "mean" else torch.arange(0, 1, 0.05)
    accuracies = [float(localised(boxes_of(maps, threshold, float(alpha)), objects).float().mean()) for alpha in choices]
    return float(choices[max(range(len(accuracies)), key=accuracies.__getitem__)])


@dataclass(frozen=True)
class Curves:
    """Scores while pixels are removed or shown in the order of a map, on a scale from the baseline (0) to the full image (1).

    NaN for images that do not score above their baseline.

    Attributes:
        deletion: (batch, step), the first step without a change.
        insertion: (batch, step), the first step the baseline.
        step: fraction of the image that changes per step.
    """

    deletion: Float[Tensor, "batch step"]
    insertion: Float[Tensor, "batch step"]
    step: float

    @property
    def areas(self) -> Mapping[str, float]:
        """Areas under both curves by the trapezoidal rule, averaged over valid images: low is good for deletion, high for insertion."""
        both = {"deletion": self.deletion, "insertion": self.insertion}
        return {name: float(((curve[:, 1:] + curve[:, :-1]) / 2).nanmean()) for name, curve in both.items()}


def curves(
    phi: Representation, images: Num[Tensor, "batch channel height width"], target: Target, maps: Maps, *, steps: int = 32,
    substrate: Literal["mean", "blur"] = "blur",
) -> Curves:  # fmt: skip
    """Deletion and insertion curves, highest values first (Petsiuk et al. 2018, arXiv:1806.07421).

    Args:
        phi: the representation.
        images: images ``(B, C, H, W)``, uint8 or in [0, 1].
        target: the score.
        maps: attribution maps ``(B, 1, H, W)`` of any range.
        steps: number of steps.
        substrate: baseline of removed pixels: the mean colour, or the strongest blur.

    Raises:
        UsageError: there are more steps than pixels.
    """
    inputs = phi.normalise(images)
    pixels = maps[0].numel()
    if not 0 < steps <= pixels:
        raise UsageError(f"{steps} steps cannot be made over {pixels} pixels.", "Use between 1 and that number.")
    baseline = as_normalised(torch.zeros_like(inputs) if substrate == "mean" else blurred(inputs, BLUR))
    rank = maps.flatten(1).argsort(dim=1, descending=True, stable=True).argsort(1).view_as(maps).to(inputs.device)
    ends = torch.linspace(0, pixels, steps + 1, device=inputs.device).round()

    def deleted(image: Tensor, step: Tensor) -> Tensor:
        changed = rank[image] < ends[step][:, None, None, None]
        return torch.where(changed, baseline[image], inputs[image])

    def inserted(image: Tensor, step: Tensor) -> Tensor:
        changed = rank[image] < ends[step][:, None, None, None]
        return torch.where(changed, inputs[image], baseline[image])

    whole, nothing = scores(phi, inputs, target), scores(phi, baseline, target)
    pair = [score_fraction(perturbed_scores(phi, inputs, target, make, steps + 1), whole, nothing) for make in (deleted, inserted)]
    return Curves(pair[0], pair[1], 1 / steps)
