"""Do maps point at the object? The pointing game, weak localisation, insertion and deletion, each beside maps that know nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor

from selfsight.core.clock import key
from selfsight.core.errors import UsageError
from selfsight.core.representation import Representation
from selfsight.explain.attribution.perturbation import BLUR, blurred
from selfsight.explain.attribution.saliency import Maps, part_kept, perturbed_scores, scores
from selfsight.explain.targets import Target

__all__ = ["Curves", "Pointing", "boxes_of", "centre_map", "curves", "fit_threshold", "localised", "pointing_game", "random_map"]

TOLERANCE = 15 / 224
"""Of the shorter side: 15 pixels of the published game's images."""
Objects = Bool[Tensor, "batch height width"]
Threshold = Literal["value", "energy", "mean"]


def centre_map(shape: Sequence[int]) -> Maps:
    """Maps that are highest in the middle of the image, whatever it shows (batch, 1, height, width)."""
    batch, _, height, width = shape
    down, across = torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2
    return -(down[:, None].square() + across.square()).sqrt().expand(batch, 1, height, width)


def random_map(shape: Sequence[int], seed: int = 0) -> Maps:
    """Maps of noise (batch, 1, height, width)."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(key(seed, 0x9017)))


@dataclass(frozen=True)
class Pointing:
    """How often maps point at the object.

    Attributes:
        accuracy: the mean over classes of the share of hits; without labels the share of all.
        overall: the share of all images.
        centre: the accuracy of pointing at the middle.
        random: that of pointing anywhere, as an expectation.
        difficult: the accuracy for objects smaller than a quarter of the image with another class beside them; None if there are none.
        images: how many.
    """

    accuracy: float
    overall: float
    centre: float
    random: float
    difficult: float | None
    images: int


def near(objects: Objects, tolerance: float) -> Objects:
    """Places at a distance of less than ``tolerance`` pixels from an object."""
    reach = int(tolerance)
    steps = torch.arange(-reach, reach + 1)
    disc = (steps[:, None].square() + steps.square()) < tolerance**2
    if reach == 0 or not bool(disc.any()):
        return objects
    kernel = disc.float()[None, None].to(objects.device)
    grown = torch.nn.functional.conv2d(objects.float()[:, None], kernel, padding=reach)[:, 0]
    return (grown > 0.5) | objects


def pointing_game(
    maps: Maps,
    objects: Objects,
    labels: Int[Tensor, " batch"] | None = None,
    *,
    tolerance: float | None = None,
    distractors: Bool[Tensor, " batch"] | None = None,
) -> Pointing:
    """The share of maps whose highest place is an object's, or nearly (Zhang et al. 2016, arXiv:1608.00507, section 4).

    Args:
        maps: maps of any range.
        objects: where the object is.
        labels: classes, whose accuracies are averaged, as is published.
        tolerance: how far outside still counts, in pixels; by default 15 pixels on 224.
        distractors: whether objects of other classes are in the image.
    """
    height, width = objects.shape[1:]
    good = near(objects, TOLERANCE * min(height, width) if tolerance is None else tolerance)
    hits = good.flatten(1).gather(1, maps.flatten(1).argmax(1, keepdim=True).to(good.device))[:, 0].float()
    middle = good[:, (height - 1) // 2, (width - 1) // 2].float()
    groups = torch.zeros(len(maps), dtype=torch.int64) if labels is None else labels
    hard = (objects.float().mean((1, 2)) < 0.25) & distractors if distractors is not None else torch.zeros(len(maps), dtype=torch.bool)
    return Pointing(
        _by_class(hits, groups),
        float(hits.mean()),
        _by_class(middle, groups),
        _by_class(good.float().mean((1, 2)), groups),
        _by_class(hits[hard], groups[hard]) if bool(hard.any()) else None,
        len(maps),
    )


def _by_class(values: Float[Tensor, " sample"], groups: Int[Tensor, " sample"]) -> float:
    return float(torch.stack([values[groups == group].mean() for group in groups.unique()]).mean())


def boxes_of(maps: Maps, threshold: Threshold, alpha: float) -> Int[Tensor, "batch 4"]:
    """The tightest box (top, left, bottom, right; the ends excluded) around what is above a threshold.

    ``value``: above ``alpha`` of the range; ``energy``: the highest places that hold ``alpha`` of the sum of the map less its
    minimum; ``mean``: above ``alpha`` times the mean of it (Fong & Vedaldi 2017, arXiv:1704.03296, section 4.3).
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
    """Whether each box overlaps that of the object by half of their union."""
    true = boxes_of(objects[:, None].float(), "value", 0.5)
    high, low = torch.minimum(boxes[:, 2:], true[:, 2:]), torch.maximum(boxes[:, :2], true[:, :2])
    shared = (high - low).clamp(min=0).prod(1)
    either = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (true[:, 2:] - true[:, :2]).prod(1) - shared
    return shared >= 0.5 * either


def fit_threshold(maps: Maps, objects: Objects, threshold: Threshold) -> float:
    """The ``alpha`` that localises most of these images, which should be others than those that are judged."""
    choices = torch.arange(0, 10, 0.5) if threshold == "mean" else torch.arange(0, 1, 0.05)
    found = [float(localised(boxes_of(maps, threshold, float(alpha)), objects).float().mean()) for alpha in choices]
    return float(choices[max(range(len(found)), key=found.__getitem__)])


@dataclass(frozen=True)
class Curves:
    """The score while places are taken away, or shown, in the order of a map; in parts of what lies between image and substrate.

    NaN for images that have no more of the score than the substrate.

    Attributes:
        deletion, insertion: (batch, step), the first step without a change.
        step: the part of the image that changes from step to step.
    """

    deletion: Float[Tensor, "batch step"]
    insertion: Float[Tensor, "batch step"]
    step: float

    @property
    def areas(self) -> Mapping[str, float]:
        """Areas under both curves, by trapezoids, the mean over images that can be judged: low is good for deletion, high for insertion."""
        both = {"deletion": self.deletion, "insertion": self.insertion}
        return {name: float(((curve[:, 1:] + curve[:, :-1]) / 2).nanmean()) for name, curve in both.items()}


def curves(
    phi: Representation,
    images: Num[Tensor, "batch channel height width"],
    target: Target,
    maps: Maps,
    *,
    steps: int = 32,
    substrate: Literal["mean", "blur"] = "blur",
) -> Curves:
    """Deletion and insertion (Petsiuk et al. 2018, arXiv:1806.07421): the highest places first.

    Args:
        phi, images, target: as for ``saliency``.
        maps: maps of any range.
        steps: in how many steps.
        substrate: what stands where the image does not: the mean colour, or its strongest blur.

    Raises:
        UsageError: there are more steps than places.
    """
    given = phi.normalise(images)
    places = maps[0].numel()
    if not 0 < steps <= places:
        raise UsageError(f"{steps} steps cannot be made over {places} places.", "Give at least one and at most as many as there are.")
    other = torch.zeros_like(given) if substrate == "mean" else blurred(given, BLUR)
    rank = maps.flatten(1).argsort(dim=1, descending=True, stable=True).argsort(1).view_as(maps).to(given.device)
    ends = torch.linspace(0, places, steps + 1, device=given.device).round()

    def mixed(image: Tensor, step: Tensor) -> Tensor:
        taken = rank[image] < ends[step][:, None, None, None]
        return torch.where(taken, other[image], given[image])

    def shown(image: Tensor, step: Tensor) -> Tensor:
        taken = rank[image] < ends[step][:, None, None, None]
        return torch.where(taken, given[image], other[image])

    whole, nothing = scores(phi, given, target), scores(phi, other, target)
    both = [part_kept(perturbed_scores(phi, given, target, make, steps + 1), whole, nothing) for make in (mixed, shown)]
    return Curves(both[0], both[1], 1 / steps)
