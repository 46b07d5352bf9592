"""Perturbation methods: the smallest region of an image, or set of channels, that preserves or destroys the score of a target.

Extremal perturbations (Fong, Patrick & Vedaldi 2019, arXiv:1910.08485) fix the area of a mask and maximise its effect. Here lengths are
fractions of the image's size and scores relative to the difference between image and blur; all images and areas form one batch.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, interpolate, pad

from selfsight.core.errors import UsageError
from selfsight.core.hooks import capture_activations, eval_mode
from selfsight.core.pixels import Normalised, as_normalised
from selfsight.core.representation import Representation
from selfsight.data.views.image.blur import gaussian_blur
from selfsight.explain.attribution.saliency import Images, Maps, at_once, parts, score_fraction, scores
from selfsight.explain.targets import Target, activations

__all__ = [
    "ExtremalMasks",
    "Mode",
    "Substrate",
    "between",
    "blurred",
    "extremal",
    "extremal_channels",
    "extremal_perturbation",
    "meaningful_perturbation",
    "smooth_mask",
]

Mode = Literal["preserve", "delete", "dual"]
Substrate = Literal["blur", "mean"]
Areas = Sequence[float]
CELLS, REACH, SHARPNESS = 32, 2, 20.0
"""Cells on the longer side, radius of the smooth maximum in cells, and its temperature."""
START, RATE, PRESSURE = 0.5, 0.1, (3.0, 3000.0)
"""Initial mask parameters; initial step size; weight of the area penalty in the first and the last step, with geometric growth."""
LEVELS, BLUR = 8, 20 / 224
"""Blur levels, and the standard deviation of the strongest as a fraction of the shorter side."""


@dataclass(frozen=True)
class ExtremalMasks:
    """Masks of fixed areas.

    Attributes:
        masks: 1 where the image is kept and 0 elsewhere; for channels (batch, area, channel, 1).
        areas: requested areas, as fractions.
        masked_score: the score where only the mask is kept (preserve, dual) or removed (delete).
        full_score, baseline_score: the score of the full image, and of its baseline (the strongest blur).
        steps: number of steps made.
    """

    masks: Float[Tensor, "batch area height width"]
    areas: tuple[float, ...]
    masked_score: Float[Tensor, "batch area"]
    full_score: Float[Tensor, " batch"]
    baseline_score: Float[Tensor, " batch"]
    steps: int

    @property
    def visible(self) -> Float[Tensor, "batch area"]:
        """Areas of the masks that were found."""
        return self.masks.mean((2, 3))

    @property
    def share(self) -> Float[Tensor, "batch area"]:
        """``masked_score`` on a scale from the baseline (0) to the full image (1); NaN where the image does not score above its blur."""
        return score_fraction(self.masked_score, self.full_score, self.baseline_score)


def blurred(inputs: Images, part: float) -> Images:
    """Gaussian blur.

    Args:
        inputs: images ``(B, C, H, W)``.
        part: standard deviation as a fraction of the shorter side.
    """
    shorter = min(inputs.shape[-2:])
    sigma = part * shorter
    if sigma <= 0:
        return inputs
    radius = min(max(round(3 * sigma), 1), shorter - 1)
    return gaussian_blur(inputs, inputs.new_full((len(inputs),), sigma), 2 * radius + 1)


def pyramid(inputs: Normalised, substrate: Substrate = "blur") -> Float[Tensor, "batch level channel height width"]:
    """Blur pyramid of a normalised image, from its baseline (level 0) to the image itself.

    Args:
        inputs: normalised images ``(B, C, H, W)``.
        substrate: the baseline: the strongest blur, or the mean colour.
    """
    strengths = [level / (LEVELS - 1) for level in range(LEVELS)]
    return torch.stack([inputs * strength if substrate == "mean" else blurred(inputs, BLUR * (1 - strength)) for strength in strengths], 1)


def between(levels: Float[Tensor, "batch level channel height width"], mask: Float[Tensor, "batch 1 height width"]) -> Images:
    """Sample each pixel from the pyramid level that the mask selects, with linear interpolation between levels.

    Args:
        levels: pyramid ``(B, level, C, H, W)``.
        mask: ``(B, 1, H, W)`` in [0, 1]; 0: the baseline, 1: the image.
    """
    position = mask.clamp(0, 1) * (LEVELS - 1)
    floor = position.detach().floor().clamp(max=LEVELS - 2)
    index = floor.long()[:, None].expand(-1, -1, levels.shape[2], -1, -1)
    below, above = levels.gather(1, index)[:, 0], levels.gather(1, index + 1)[:, 0]
    return below + (position - floor) * (above - below)


def _span_of(full_score: Float[Tensor, " batch"], baseline_score: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """Unit of scores: the absolute difference between image and blur, at least a quarter of their mean absolute value; positive, and never tiny."""
    return torch.maximum((full_score - baseline_score).abs(), (full_score.abs() + baseline_score.abs()) / 8).clamp(min=1e-6)


def smooth_mask(parameters: Float[Tensor, "mask rows columns"]) -> Float[Tensor, "mask rows columns"]:
    """Smooth maximum ``Σ p exp(20 p) / Σ exp(20 p)`` over 5 x 5 neighbours, then a 3 x 3 binomial blur.

    One active parameter opens 7 x 7 cells with a soft edge. Four separable passes replace the published unfolding of 81 neighbours.
    """
    side = 2 * REACH + 1
    weights = (SHARPNESS * (parameters - 1)).exp()[:, None]
    box = partial(avg_pool2d, kernel_size=side, stride=1, padding=REACH, count_include_pad=False)
    dilated = box(parameters[:, None] * weights) / box(weights)
    kernel = parameters.new_tensor([1, 2, 1]) / 4
    dilated = conv2d(pad(dilated, (0, 0, 1, 1), mode="replicate"), kernel.view(1, 1, -1, 1))
    return conv2d(pad(dilated, (1, 1, 0, 0), mode="replicate"), kernel.view(1, 1, 1, -1))[:, 0]


def _area_penalty(masks: Float[Tensor, "mask place"], areas: Float[Tensor, " mask"]) -> Float[Tensor, " mask"]:
    """``mean (sort(m) - r_a)²``, where r_a is sorted with the requested fraction of ones."""
    count = masks.shape[1]
    reference = (torch.arange(count, device=masks.device) + 1 - (1 - areas[:, None]) * count).clamp(0, 1)
    return (masks.sort(1).values - reference).square().mean(1)


@dataclass(frozen=True)
class _Effect:
    """Effect of masks on the score, relative to the difference between image and baseline."""

    shown: Callable[[Tensor, Tensor], Tensor]  # from masks and image indices to scores
    full_score: Tensor
    baseline_score: Tensor

    def reward(self, masks: Tensor, image: Tensor, mode: Mode) -> Tensor:
        unit = _span_of(self.full_score, self.baseline_score)[image]

        def relative(visible: Tensor) -> Tensor:
            return (self.shown(visible, image) - self.baseline_score[image]) / unit

        if mode == "dual":
            return relative(masks) - relative(1 - masks)
        return relative(masks) if mode == "preserve" else -relative(1 - masks)


@dataclass(frozen=True)
class _Rows:
    """Image and area of each row of a batch; the areas of an image are consecutive."""

    image: Tensor
    area: Tensor


def _optimise(
    effect: _Effect, start: Tensor, mask_of: Callable[[Tensor], Tensor], rows: _Rows, mode: Mode, steps: int
) -> tuple[Tensor, int]:
    """Gradient descent with momentum on the parameters of all masks, in [0, 1]; converged masks leave the batch.

    A mask has one step size: with one per parameter, as in Adam, parameters without effect would be opened as fast as the others.
    """
    best, active = start.clone(), torch.arange(len(start), device=start.device)
    parameters, first, second = start.clone(), torch.zeros_like(start), torch.zeros_like(start[:, :1, :1])
    previous, step = torch.full((len(start),), -torch.inf, device=start.device), 0
    for step in range(1, steps + 1):
        parameters.requires_grad_()
        masks = mask_of(parameters)
        pressure = PRESSURE[0] * (PRESSURE[1] / PRESSURE[0]) ** (step / steps)
        reward = effect.reward(masks, rows.image[active], mode) - pressure * _area_penalty(masks.flatten(1), rows.area[active])
        (gradient,) = torch.autograd.grad(-reward.sum(), parameters)
        first, second = first.lerp(gradient, 0.1), second.lerp(gradient.square().mean((1, 2), keepdim=True), 0.1)
        update = (first / (second.sqrt() + 1e-12)).clamp(-3, 3)
        decay = 1.0 if step < 0.7 * steps else max((steps - step) / (0.3 * steps), 0.0)
        parameters = (parameters.detach() - RATE * decay * update).clamp(0, 1)
        if step % 20 == 0 or step == steps:
            best[active] = parameters
            converged = ((reward.detach() - previous[active]).abs() < 1e-3) & (step > steps // 2)
            previous[active] = reward.detach()
            remaining = ~converged
            active, parameters, first, second = active[remaining], parameters[remaining], first[remaining], second[remaining]
            if not len(active):
                break
    return best, step


def _search(
    effect: _Effect, start: Tensor, mask_of: Callable[[Tensor], Tensor], areas: Areas, mode: Mode, steps: int
) -> tuple[Tensor, Tensor, int]:
    """Optimise a mask per image (its ``start``) and area; returns the masks, their scores and the number of steps."""
    rows = _Rows(
        torch.arange(len(start), device=start.device).repeat_interleave(len(areas)),
        torch.tensor(areas, device=start.device, dtype=start.dtype).repeat(len(start)),
    )
    parameters, step = _optimise(effect, start[rows.image], mask_of, rows, mode, steps)
    with torch.no_grad():
        masks = mask_of(parameters)
        masked_score = effect.shown(masks if mode != "delete" else 1 - masks, rows.image)
    shape = (len(start), len(areas))
    return masks.unflatten(0, shape), masked_score.unflatten(0, shape), step


def _some(images: Tensor, areas: Areas, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of images that fit the network together with a mask per area."""
    if not areas or not all(0 < area < 1 for area in areas):
        raise UsageError(f"Areas are fractions of an image between 0 and 1, not {tuple(areas)}.", "Use areas such as 0.1.")
    return parts(images, device, max(1, at_once(images.shape[-2:], device) // len(areas)))


def _cells(size: Sequence[int]) -> tuple[int, int]:
    cell = max(max(size) / CELLS, 1)
    return max(round(size[0] / cell), 1), max(round(size[1] / cell), 1)


def extremal_perturbation(
    phi: Representation,
    images: Images,
    target: Target,
    *,
    areas: Areas = (0.1,),
    mode: Mode = "preserve",
    steps: int = 100,
    smooth: bool = True,
    substrate: Substrate = "blur",
) -> ExtremalMasks:
    """For each area, the smooth mask that best preserves or destroys the score of a target.

    Args:
        phi: the representation.
        images: images ``(B, C, H, W)``, uint8 or in [0, 1].
        target: the score.
        areas: fractions of the image that masks keep.
        mode: preserve the score with the visible region, delete it by hiding the region, or both (dual).
        steps: maximum number of steps; converged masks stop earlier.
        smooth: False: independent cells, for comparison; such masks exploit artefacts of a single network.
        substrate: baseline of hidden regions: the blurred image, which keeps its colours, or the mean colour.
    """
    mask_of = smooth_mask if smooth else torch.clone
    of_images = partial(_of_pixels, areas=areas, mode=mode, steps=steps, mask_of=mask_of, substrate=substrate)
    return _joined([of_images(phi, part, target.of(rows)) for rows, part in _some(images, areas, phi.device)])


def _of_pixels(
    phi: Representation,
    images: Tensor,
    target: Target,
    *,
    areas: Areas,
    mode: Mode,
    steps: int,
    mask_of: Callable[[Tensor], Tensor],
    substrate: Substrate,
) -> ExtremalMasks:
    inputs = phi.normalise(images)
    blend = _Blend(phi, target, pyramid(inputs, substrate))
    effect = _Effect(blend.score, scores(phi, inputs, target), scores(phi, as_normalised(blend.levels[:, 0]), target))
    start = inputs.new_full((len(inputs), *_cells(inputs.shape[-2:])), START)
    with eval_mode(phi.backbone):
        masks, masked_score, step = _search(effect, start, mask_of, areas, mode, steps)
    full = blend.full(masks.flatten(0, 1))[:, 0].unflatten(0, masks.shape[:2])
    return ExtremalMasks(full, tuple(areas), masked_score, effect.full_score, effect.baseline_score, step)


def _joined(results: Sequence[ExtremalMasks]) -> ExtremalMasks:
    masks, masked_score, full_score, baseline_score = (
        torch.cat([getattr(one, name) for one in results]) for name in ("masks", "masked_score", "full_score", "baseline_score")
    )
    return ExtremalMasks(masks, results[0].areas, masked_score, full_score, baseline_score, max(result.steps for result in results))


@dataclass(frozen=True)
class _Blend:
    phi: Representation
    target: Target
    levels: Tensor

    def full(self, masks: Tensor) -> Tensor:
        size = tuple(self.levels.shape[-2:])
        return masks[:, None] if masks.shape[1:] == size else interpolate(masks[:, None], size, mode="bilinear")

    def score(self, masks: Tensor, image: Tensor) -> Tensor:
        return self.target.score(self.phi, as_normalised(between(self.levels[image], self.full(masks))), image.cpu())


def extremal(
    phi: Representation,
    images: Images,
    target: Target,
    *,
    areas: Areas = (0.025, 0.05, 0.1, 0.2),
    mode: Mode = "preserve",
    steps: int = 100,
) -> Maps:
    """The sum of the masks of several areas, blurred by 9 % of the shorter side, as the pointing game uses it.

    Args:
        phi: the representation.
        images: images ``(B, C, H, W)``, uint8 or in [0, 1].
        target: the score.
        areas: fractions of the image that masks keep.
        mode: as for ``extremal_perturbation``.
        steps: maximum number of steps.
    """
    found = extremal_perturbation(phi, images, target, areas=areas, mode=mode, steps=steps)
    return blurred(found.masks.sum(1, keepdim=True), 0.09)


def extremal_channels(
    phi: Representation, images: Images, target: Target, layer: str, *, areas: Areas = (0.1,), mode: Mode = "preserve", steps: int = 100
) -> ExtremalMasks:
    """For each fraction of a layer's channels, those that best preserve or destroy the score; the others are set to zero.

    Args:
        phi: the representation.
        images: images ``(B, C, H, W)``, uint8 or in [0, 1].
        target: the score.
        layer: dotted name of the layer.
        areas: fractions of the channels that masks keep.
        mode: as for ``extremal_perturbation``.
        steps: maximum number of steps.
    """
    return _joined([_of_channels(phi, part, target.of(rows), layer, areas, mode, steps) for rows, part in _some(images, areas, phi.device)])


def _of_channels(phi: Representation, images: Tensor, target: Target, layer: str, areas: Areas, mode: Mode, steps: int) -> ExtremalMasks:
    inputs = phi.normalise(images)
    with torch.no_grad(), eval_mode(phi.backbone):
        output = activations(phi, as_normalised(inputs[:1]), layer)
        channels = phi.as_grid(output, inputs.shape[-2:], layer).shape[1]

    def shown(masks: Tensor, image: Tensor) -> Tensor:
        with capture_activations(phi.backbone, edit={layer: lambda output: phi.token_layout.per_channel(output, masks[:, :, 0])}):
            return target.score(phi, as_normalised(inputs[image]), image.cpu())

    ones, image_indices = inputs.new_ones(len(inputs), channels, 1), torch.arange(len(inputs), device=inputs.device)
    with eval_mode(phi.backbone):
        with torch.no_grad():
            effect = _Effect(shown, shown(ones, image_indices), shown(torch.zeros_like(ones), image_indices))
        masks, masked_score, step = _search(effect, START * ones, lambda masks: masks, areas, mode, steps)
    return ExtremalMasks(masks, tuple(areas), masked_score, effect.full_score, effect.baseline_score, step)


def meaningful_perturbation(
    phi: Representation, images: Images, target: Target, *, steps: int = 300, sparse: float = 1e-4, smooth: float = 1e-2
) -> Maps:
    """Region that must be blurred to lower the score (Fong & Vedaldi 2017, arXiv:1704.03296): one minus the optimised mask.

    ``min f(x m + blur(x) (1 - m)) + 1e-4 Σ|1 - m| + 1e-2 Σ|∇m|³``, with m on 28 cells and f relative to image minus blur.

    Args:
        phi: the representation.
        images: images ``(B, C, H, W)``, uint8 or in [0, 1].
        target: the score.
        steps: number of steps of Adam.
        sparse: weight of the area.
        smooth: weight of the total variation.
    """
    return torch.cat([_meaningful(phi, part, target.of(rows), steps, sparse, smooth) for rows, part in parts(images, phi.device)])


def _meaningful(phi: Representation, images: Tensor, target: Target, steps: int, sparse: float, smooth: float) -> Maps:
    inputs = phi.normalise(images)
    blurry = as_normalised(blurred(inputs, 10 / 224))
    full_score, baseline_score = scores(phi, inputs, target), scores(phi, blurry, target)
    span = _span_of(full_score, baseline_score)
    longer = max(inputs.shape[-2:])
    cells = [max(round(28 * side / longer), 2) for side in inputs.shape[-2:]]
    mask = torch.full((len(inputs), 1, *cells), 0.5, device=inputs.device, dtype=inputs.dtype)
    mask.requires_grad_()
    optimiser = torch.optim.Adam([mask], lr=0.1)
    with eval_mode(phi.backbone):
        for _ in range(steps):
            mask_full = blurred(interpolate(mask, tuple(inputs.shape[-2:]), mode="bilinear"), 5 / 224)
            masked = as_normalised(inputs * mask_full + blurry * (1 - mask_full))
            scores_now = target.score(phi, masked, torch.arange(len(inputs)))
            variation = ((mask.diff(dim=2).abs() ** 3).sum((1, 2, 3))) + ((mask.diff(dim=3).abs() ** 3).sum((1, 2, 3)))
            loss = (scores_now - baseline_score) / span + sparse * (1 - mask).abs().sum((1, 2, 3)) + smooth * variation
            (mask.grad,) = torch.autograd.grad(loss.sum(), mask)
            optimiser.step()
            with torch.no_grad():
                mask.clamp_(0, 1)
    return 1 - interpolate(mask.detach(), tuple(inputs.shape[-2:]), mode="bilinear")
