"""Perturbation: the smallest part of an image, or of a layer's channels, that makes a representation say what it says.

Extremal perturbations (Fong, Patrick & Vedaldi 2019, arXiv:1910.08485) hold the area of a mask fixed and make its effect the largest.
Here the area is that of the visible mask, all sizes are parts of the image's, scores are in parts of what there is between the image
and its blur, and all images and all areas are optimised in one batch.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float, Num
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, interpolate, pad

from selfsight.core.errors import UsageError
from selfsight.core.hooks import capture_activations, eval_mode
from selfsight.core.representation import Representation
from selfsight.data.views.image.blur import gaussian_blur
from selfsight.explain.attribution.saliency import Maps, at_once, part_kept, parts, scores
from selfsight.explain.targets import Target, activations

__all__ = [
    "Extremal",
    "Mode",
    "Substrate",
    "blurred",
    "extremal",
    "extremal_channels",
    "extremal_perturbation",
    "meaningful_perturbation",
    "smooth_mask",
]

Mode = Literal["preserve", "delete", "dual"]
Substrate = Literal["blur", "mean"]
CELLS, REACH, SHARPNESS = 32, 2, 20.0
"""Parameters on the longer side, the reach of the maximum in cells, its temperature."""
START = 0.5
"""Where parameters begin: a mask that is open to both sides."""
RATE, PRESSURE = 0.1, (3.0, 3000.0)
"""Size of a mask's first steps; weight of the area's penalty, first and last: it grows geometrically."""
LEVELS, BLUR = 8, 20 / 224
"""Levels of blur, and the strongest in parts of the shorter side."""


@dataclass(frozen=True)
class Extremal:
    """Masks of fixed areas.

    Attributes:
        masks: what is kept (1) and what is not (0); for channels (batch, area, channel, 1).
        areas: what was asked.
        kept: the target's number where only the mask is kept (preserve, dual) or taken away (delete).
        whole, nothing: the same of the whole image, and of its substrate (the strongest blur).
        steps: how many were made.
    """

    masks: Float[Tensor, "batch area height width"]
    areas: tuple[float, ...]
    kept: Float[Tensor, "batch area"]
    whole: Float[Tensor, " batch"]
    nothing: Float[Tensor, " batch"]
    steps: int

    @property
    def visible(self) -> Float[Tensor, "batch area"]:
        """The areas that came out."""
        return self.masks.mean((2, 3))

    @property
    def share(self) -> Float[Tensor, "batch area"]:
        """``kept`` from nothing (0) to the whole image (1); NaN where the image has no more of the score than its blur."""
        return part_kept(self.kept, self.whole, self.nothing)


def blurred(given: Float[Tensor, "batch channel height width"], part: float) -> Float[Tensor, "batch channel height width"]:
    """Images blurred by a Gaussian whose standard deviation is a part of the shorter side."""
    shorter = min(given.shape[-2:])
    sigma = part * shorter
    if sigma <= 0:
        return given
    reach = min(max(round(3 * sigma), 1), shorter - 1)
    return gaussian_blur(given, given.new_full((len(given),), sigma), 2 * reach + 1)


def pyramid(
    given: Float[Tensor, "batch channel height width"], substrate: Substrate = "blur"
) -> Float[Tensor, "batch level channel height width"]:
    """A normalised image from what stands where it does not, its strongest blur or the mean colour, to itself."""
    parts_shown = [level / (LEVELS - 1) for level in range(LEVELS)]
    return torch.stack([given * part if substrate == "mean" else blurred(given, BLUR * (1 - part)) for part in parts_shown], 1)


def between(
    levels: Float[Tensor, "batch level channel height width"], mask: Float[Tensor, "batch 1 height width"]
) -> Float[Tensor, "batch channel height width"]:
    """Each place at the level that its mask says, 0 the blur and 1 the image; linear between levels."""
    height = mask.clamp(0, 1) * (LEVELS - 1)
    lower = height.detach().floor().clamp(max=LEVELS - 2)
    index = lower.long()[:, None].expand(-1, -1, levels.shape[2], -1, -1)
    low, high = levels.gather(1, index)[:, 0], levels.gather(1, index + 1)[:, 0]
    return low + (height - lower) * (high - low)


def span_of(whole: Float[Tensor, " batch"], nothing: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """The unit in which scores count: what lies between image and blur, but no less than a quarter of their mean size.

    Never negative, so that a search never turns round, and never tiny, so that it does not outweigh the area.
    """
    return torch.maximum((whole - nothing).abs(), (whole.abs() + nothing.abs()) / 8).clamp(min=1e-6)


def smooth_mask(parameters: Float[Tensor, "mask rows columns"]) -> Float[Tensor, "mask rows columns"]:
    """The smooth maximum ``Σ p exp(20 p) / Σ exp(20 p)`` over 5 x 5 neighbours, then a binomial blur of 3 x 3: one where all are.

    What one parameter opens is 7 x 7 cells wide, one in its middle and soft at its edge. Four passes of short filters, in place of
    the published unfolding of 81 neighbours.
    """
    side = 2 * REACH + 1
    sharp = (SHARPNESS * (parameters - 1)).exp()[:, None]
    box = partial(avg_pool2d, kernel_size=side, stride=1, padding=REACH, count_include_pad=False)
    opened = box(parameters[:, None] * sharp) / box(sharp)
    bell = parameters.new_tensor([1, 2, 1]) / 4
    opened = conv2d(pad(opened, (0, 0, 1, 1), mode="replicate"), bell.view(1, 1, -1, 1))
    return conv2d(pad(opened, (1, 1, 0, 0), mode="replicate"), bell.view(1, 1, 1, -1))[:, 0]


def area_penalty(masks: Float[Tensor, "mask place"], areas: Float[Tensor, " mask"]) -> Float[Tensor, " mask"]:
    """``mean (sort(m) - r_a)²``, r_a as many ones as the area asks for after zeros."""
    count = masks.shape[1]
    filled = (torch.arange(count, device=masks.device) + 1 - (1 - areas[:, None]) * count).clamp(0, 1)
    return (masks.sort(1).values - filled).square().mean(1)


@dataclass(frozen=True)
class _Effect:
    """What a mask does: the share of the score that it keeps, of rows of the batch; 1 minus the mask for what it takes away."""

    shown: Callable[[Tensor, Tensor], Tensor]
    """From masks and the numbers of the images to the target's numbers."""
    whole: Tensor
    nothing: Tensor

    def reward(self, masks: Tensor, image: Tensor, mode: Mode) -> Tensor:
        unit = span_of(self.whole, self.nothing)[image]

        def share(seen: Tensor) -> Tensor:
            return (self.shown(seen, image) - self.nothing[image]) / unit

        if mode == "dual":
            return share(masks) - share(1 - masks)
        return share(masks) if mode == "preserve" else -share(1 - masks)


@dataclass(frozen=True)
class _Rows:
    """For each row of a batch, all areas of an image after each other, which image and which area it is."""

    image: Tensor
    area: Tensor


def _optimise(
    effect: _Effect, start: Tensor, mask_of: Callable[[Tensor], Tensor], rows: _Rows, mode: Mode, steps: int
) -> tuple[Tensor, int]:
    """Momentum on the parameters of all masks, kept between 0 and 1; masks that stand still leave the batch.

    A mask's step has one size, and its parameters keep their proportions: what hardly matters to the score hardly moves
    while the area still weighs little. (With a step size for each parameter, as Adam has, places without any effect would take the
    area as fast as those that count.)
    """
    best, alive = start.clone(), torch.arange(len(start), device=start.device)
    parameters, first, second = start.clone(), torch.zeros_like(start), torch.zeros_like(start[:, :1, :1])
    before, step = torch.full((len(start),), -torch.inf, device=start.device), 0
    for step in range(1, steps + 1):
        parameters.requires_grad_()
        masks = mask_of(parameters)
        push = PRESSURE[0] * (PRESSURE[1] / PRESSURE[0]) ** (step / steps)
        gain = effect.reward(masks, rows.image[alive], mode) - push * area_penalty(masks.flatten(1), rows.area[alive])
        (slope,) = torch.autograd.grad(-gain.sum(), parameters)
        first, second = first.lerp(slope, 0.1), second.lerp(slope.square().mean((1, 2), keepdim=True), 0.1)
        moved = (first / (second.sqrt() + 1e-12)).clamp(-3, 3)
        fade = 1.0 if step < 0.7 * steps else max((steps - step) / (0.3 * steps), 0.0)
        parameters = (parameters.detach() - RATE * fade * moved).clamp(0, 1)
        if step % 20 == 0 or step == steps:
            best[alive] = parameters
            still = ((gain.detach() - before[alive]).abs() < 1e-3) & (step > steps // 2)
            before[alive] = gain.detach()
            left = ~still
            alive, parameters, first, second = alive[left], parameters[left], first[left], second[left]
            if not len(alive):
                break
    return best, step


def _search(
    effect: _Effect, start: Tensor, mask_of: Callable[[Tensor], Tensor], areas: Sequence[float], mode: Mode, steps: int
) -> tuple[Tensor, Tensor, int]:
    """For each image (its ``start``) and area the best mask, the number that it leaves, and the steps made."""
    rows = _Rows(
        torch.arange(len(start), device=start.device).repeat_interleave(len(areas)),
        torch.tensor(areas, device=start.device, dtype=start.dtype).repeat(len(start)),
    )
    found, made = _optimise(effect, start[rows.image], mask_of, rows, mode, steps)
    with torch.no_grad():
        masks = mask_of(found)
        kept = effect.shown(masks if mode != "delete" else 1 - masks, rows.image)
    shape = (len(start), len(areas))
    return masks.unflatten(0, shape), kept.unflatten(0, shape), made


def _some(images: Tensor, areas: Sequence[float], device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """As many images as, with a mask for each area, are given to the network at once.

    Raises:
        UsageError: an area is not between 0 and 1.
    """
    if not areas or not all(0 < area < 1 for area in areas):
        raise UsageError(f"Areas are parts of an image, and {tuple(areas)} are not all between 0 and 1.", "Give areas such as 0.1.")
    return parts(images, device, max(1, at_once(images.shape[-2:], device) // len(areas)))


def _cells(size: Sequence[int]) -> tuple[int, int]:
    cell = max(max(size) / CELLS, 1)
    return max(round(size[0] / cell), 1), max(round(size[1] / cell), 1)


def extremal_perturbation(
    phi: Representation,
    images: Num[Tensor, "batch channel height width"],
    target: Target,
    *,
    areas: Sequence[float] = (0.1,),
    mode: Mode = "preserve",
    steps: int = 100,
    smooth: bool = True,
    substrate: Substrate = "blur",
) -> Extremal:
    """For each area the smooth mask that keeps most of a target's number, or takes most of it away.

    Args:
        phi, images, target, areas: as for ``saliency``; parts of the image.
        mode: keep the number by what the mask shows (preserve), destroy it by what it hides (delete), or both (dual).
        steps: of the search; masks that stand still stop sooner.
        smooth: False: every cell by itself, for comparison; such masks find what is peculiar to one network.
        substrate: what stands where a mask does not show the image: its blur, which keeps its hues, or the mean colour.

    Raises:
        UsageError: an area is not between 0 and 1.
    """
    form = smooth_mask if smooth else torch.clone
    place = partial(_of_places, areas=areas, mode=mode, steps=steps, form=form, substrate=substrate)
    return _joined([place(phi, part, target.of(rows)) for rows, part in _some(images, areas, phi.device)])


def _of_places(
    phi: Representation,
    images: Tensor,
    target: Target,
    *,
    areas: Sequence[float],
    mode: Mode,
    steps: int,
    form: Callable[[Tensor], Tensor],
    substrate: Substrate,
) -> Extremal:
    given = phi.normalise(images)
    veil = _Veil(phi, target, pyramid(given, substrate))
    effect = _Effect(veil.score, scores(phi, given, target), scores(phi, veil.levels[:, 0], target))
    start = given.new_full((len(given), *_cells(given.shape[-2:])), START)
    with eval_mode(phi.backbone):
        masks, kept, made = _search(effect, start, form, areas, mode, steps)
    full = veil.full(masks.flatten(0, 1))[:, 0].unflatten(0, masks.shape[:2])
    return Extremal(full, tuple(areas), kept, effect.whole, effect.nothing, made)


def _joined(found: Sequence[Extremal]) -> Extremal:
    """Results of several parts of the images, as one."""
    masks, kept, whole, nothing = (torch.cat([getattr(each, name) for each in found]) for name in ("masks", "kept", "whole", "nothing"))
    return Extremal(masks, found[0].areas, kept, whole, nothing, max(each.steps for each in found))


@dataclass(frozen=True)
class _Veil:
    """Blurs images where masks do not show them."""

    phi: Representation
    target: Target
    levels: Tensor

    def full(self, masks: Tensor) -> Tensor:
        """Masks of cells in the size of the images."""
        size = tuple(self.levels.shape[-2:])
        return masks[:, None] if masks.shape[1:] == size else interpolate(masks[:, None], size, mode="bilinear")

    def score(self, masks: Tensor, image: Tensor) -> Tensor:
        """The target's number of what masks show of these images."""
        return self.target.score(self.phi, between(self.levels[image], self.full(masks)), image.cpu())


def extremal(
    phi: Representation,
    images: Num[Tensor, "batch channel height width"],
    target: Target,
    *,
    areas: Sequence[float] = (0.025, 0.05, 0.1, 0.2),
    mode: Mode = "preserve",
    steps: int = 100,
) -> Maps:
    """The sum of the masks of several areas, smoothed by 9 % of the shorter side, as the pointing game uses them."""
    found = extremal_perturbation(phi, images, target, areas=areas, mode=mode, steps=steps)
    return blurred(found.masks.sum(1, keepdim=True), 0.09)


def extremal_channels(
    phi: Representation,
    images: Num[Tensor, "batch channel height width"],
    target: Target,
    layer: str,
    *,
    areas: Sequence[float] = (0.1,),
    mode: Mode = "preserve",
    steps: int = 100,
) -> Extremal:
    """For each share of a layer's channels those that keep most of a target's number, or take most of it away; others are set to zero.

    The masks have one row for each channel and one column.
    """
    return _joined([_of_channels(phi, part, target.of(rows), layer, areas, mode, steps) for rows, part in _some(images, areas, phi.device)])


def _of_channels(
    phi: Representation, images: Tensor, target: Target, layer: str, areas: Sequence[float], mode: Mode, steps: int
) -> Extremal:
    given = phi.normalise(images)
    with torch.no_grad(), eval_mode(phi.backbone):
        output = activations(phi, given[:1], layer)
        channels = phi.as_grid(output, given.shape[-2:], layer).shape[1]
    last = output.ndim == 3 or getattr(phi.backbone, "channels_last", False)

    def shown(masks: Tensor, image: Tensor) -> Tensor:
        def scale(output: Tensor) -> Tensor:
            ones = (1,) * (output.ndim - 2)
            return output * masks.view(len(masks), *ones, channels) if last else output * masks.view(len(masks), channels, *ones)

        with capture_activations(phi.backbone, edit={layer: scale}):
            return target.score(phi, given[image], image.cpu())

    ones, every = given.new_ones(len(given), channels, 1), torch.arange(len(given), device=given.device)
    with eval_mode(phi.backbone):
        with torch.no_grad():
            effect = _Effect(shown, shown(ones, every), shown(torch.zeros_like(ones), every))
        masks, kept, made = _search(effect, START * ones, lambda masks: masks, areas, mode, steps)
    return Extremal(masks, tuple(areas), kept, effect.whole, effect.nothing, made)


def meaningful_perturbation(
    phi: Representation,
    images: Num[Tensor, "batch channel height width"],
    target: Target,
    *,
    steps: int = 300,
    sparse: float = 1e-4,
    smooth: float = 1e-2,
) -> Maps:
    """What has to be blurred for a target's number to fall (Fong & Vedaldi 2017, arXiv:1704.03296): one minus the mask that is left.

    ``min f(x m + blur(x) (1 - m)) + 1e-4 Σ|1 - m| + 1e-2 Σ|∇m|³``, m on 28 cells, f in parts of what lies between image and blur.
    """
    return torch.cat([_meaningful(phi, part, target.of(rows), steps, sparse, smooth) for rows, part in parts(images, phi.device)])


def _meaningful(phi: Representation, images: Tensor, target: Target, steps: int, sparse: float, smooth: float) -> Maps:
    given = phi.normalise(images)
    soft = blurred(given, 10 / 224)
    whole, nothing = scores(phi, given, target), scores(phi, soft, target)
    span = span_of(whole, nothing)
    longer = max(given.shape[-2:])
    cells = [max(round(28 * side / longer), 2) for side in given.shape[-2:]]
    mask = torch.full((len(given), 1, *cells), 0.5, device=given.device, dtype=given.dtype)
    mask.requires_grad_()
    optimiser = torch.optim.Adam([mask], lr=0.1)
    with eval_mode(phi.backbone):
        for _ in range(steps):
            large = blurred(interpolate(mask, tuple(given.shape[-2:]), mode="bilinear"), 5 / 224)
            said_now = target.score(phi, given * large + soft * (1 - large), torch.arange(len(given)))
            slopes = ((mask.diff(dim=2).abs() ** 3).sum((1, 2, 3))) + ((mask.diff(dim=3).abs() ** 3).sum((1, 2, 3)))
            loss = (said_now - nothing) / span + sparse * (1 - mask).abs().sum((1, 2, 3)) + smooth * slopes
            (mask.grad,) = torch.autograd.grad(loss.sum(), mask)
            optimiser.step()
            with torch.no_grad():
                mask.clamp_(0, 1)
    return 1 - interpolate(mask.detach(), tuple(given.shape[-2:]), mode="bilinear")
