"""Attribution methods: how much each pixel contributes to the score of a target.

Every method is a function of a representation, images and a target. It returns raw maps (batch, 1, height, width), whose range and sign
depend on the method and are changed for display only.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor
from torch.nn.functional import interpolate

from selfsight.core.clock import key
from selfsight.core.errors import UsageError
from selfsight.core.finite_tensors import require_finite_tensor
from selfsight.core.hooks import capture_activations, eval_mode, tensor_of
from selfsight.core.pixels import Normalised, as_normalised
from selfsight.core.representation import Representation
from selfsight.explain.attribution.backprop import Rule, reverse
from selfsight.explain.targets import Target

__all__ = [
    "Images",
    "Maps",
    "attention_rollout",
    "deconvnet",
    "grad_cam",
    "gradient",
    "gradient_times_input",
    "guided",
    "linear_approximation",
    "maps_before",
    "occlusion",
    "rise",
    "saliency",
    "score_fraction",
    "scores",
    "smooth_grad",
    "var_grad",
]

Maps = Float[Tensor, "batch 1 height width"]
Images = Num[Tensor, "batch channel height width"]
Inputs = Float[Normalised, "batch channel height width"]  # normalised
Combine = Callable[[Tensor, Tensor], Tensor]
"""From activations and gradients of a layer (both batch, channel, rows, columns) to one value per position."""
CHUNK, FEWEST = 128, 4
"""Images per forward pass: at most, and at least on a CPU."""
PLACES, MANY = {"cpu": 1 << 15}, 1 << 21
"""Pixels per forward pass, on a CPU so that activations fit its caches; on other devices."""


def _largest(_: Tensor, derivative: Tensor) -> Tensor:
    """Largest absolute gradient over channels (Simonyan et al. 2013, arXiv:1312.6034)."""
    return derivative.abs().amax(1, keepdim=True)


def _product(output: Tensor, derivative: Tensor) -> Tensor:
    """``Σ_c x_c ∂f/∂x_c``, signed: the linear approximation of the target at each position."""
    return (output * derivative).sum(1, keepdim=True)


def _positive_sum(output: Tensor, derivative: Tensor) -> Tensor:
    """``max(Σ_c x_c mean_u ∂f/∂x_c(u), 0)`` (Grad-CAM, Selvaraju et al. 2017, arXiv:1610.02391)."""
    return (output * derivative.mean((2, 3), keepdim=True)).sum(1, keepdim=True).clamp(min=0)


def maps_before(phi: Representation, target: Target) -> tuple[str, ...]:
    """Layers with a feature map of more than one position that the target can depend on, shallow to deep.

    Where the class token of the last block is read, the patch tokens of that block do not contribute and the block is left out.

    Args:
        phi: the representation.
        target: the score.

    Raises:
        UsageError: there is no such layer.
    """
    blank = torch.zeros(1, phi.backbone.channels, phi.size, phi.size, device=phi.device)
    with torch.no_grad(), eval_mode(phi.backbone), capture_activations(phi.backbone, *phi.layers) as captured:
        phi.features(blank)
    layers = [name for name in phi.layers if name in captured and tensor_of(captured[name]).ndim in (3, 4)]
    layers = [name for name in layers if phi.as_grid(tensor_of(captured[name]), blank.shape[-2:], name)[0, 0].numel() > 1]
    if target.layer in layers:
        layers = layers[: layers.index(target.layer) + 1]
    elif target.layer is None and phi.token_layout.pools_class_token:
        layers = layers[:-1]
    if not layers:
        raise UsageError(
            f"{phi.name} has no layer with a map that {target.name} depends on.",
            "Set at to a layer, or use gradient, which explains pixels.",
        )
    return tuple(layers)


def saliency(
    phi: Representation, images: Images, target: Target, *, at: str | None = "", rule: Rule = "gradient", combine: Combine = _largest
) -> Maps:
    """Gradient of the target at a layer, reduced to one value per position; maps of layers are upsampled bilinearly.

    Args:
        phi: the representation.
        images: images ``(B, C, H, W)``, uint8 or in [0, 1].
        target: the score that is explained.
        at: the layer; ``""``: the normalised images; None: the deepest layer with a feature map.
        rule: backward rule of the rectifiers.
        combine: reduction from activations and gradients to one value per position.
    """
    layer = maps_before(phi, target)[-1] if at is None else at
    maps = []
    for rows, part in parts(images, phi.device):
        passed = reverse(phi, phi.normalise(part), target, at=(layer,), rule=rule, rows=rows)
        output, derivative = passed.outputs[layer], passed.derivatives[layer]
        if layer:
            output, derivative = (phi.as_grid(each, part.shape[-2:], layer) for each in (output, derivative))
        maps.append(enlarged(combine(output, derivative), part.shape[-2:]))
    return torch.cat(maps)


gradient = saliency
deconvnet = partial(saliency, rule="deconvnet")
guided = partial(saliency, rule="guided")
gradient_times_input = partial(saliency, combine=_product)
linear_approximation = partial(saliency, at=None, combine=_product)
grad_cam = partial(saliency, at=None, combine=_positive_sum)


def at_once(size: Sequence[int], device: torch.device) -> int:
    """Number of images per forward pass.

    Args:
        size: height and width in pixels.
        device: device of the network.
    """
    minimum, pixels = (FEWEST, PLACES[device.type]) if device.type in PLACES else (1, MANY)
    return min(CHUNK, max(minimum, pixels // (size[0] * size[1])))


def parts(images: Tensor, device: torch.device, chunk: int = 0) -> Iterator[tuple[Int[Tensor, " part"], Tensor]]:
    """Iterate over pairs of indices and images, in batches.

    Args:
        images: images ``(N, …)``, or any tensor of rows.
        device: device of the network, which determines the batch size.
        chunk: batch size; 0: by the device and the image size.
    """
    chunk = chunk or at_once(images.shape[-2:], device)
    for start in range(0, len(images), chunk):
        part = images[start : start + chunk]
        yield torch.arange(start, start + len(part)), part


def enlarged(maps: Float[Tensor, "batch 1 rows columns"], size: tuple[int, ...]) -> Maps:
    """Upsample maps bilinearly to the size of the images.

    Args:
        maps: maps of a layer ``(B, 1, rows, columns)``.
        size: height and width in pixels.
    """
    return maps if tuple(maps.shape[-2:]) == tuple(size) else interpolate(maps, tuple(size), mode="bilinear")


def score_fraction(
    score: Float[Tensor, "batch *more"], full_score: Float[Tensor, " batch"], baseline_score: Float[Tensor, " batch"]
) -> Float[Tensor, "batch *more"]:
    """Rescale scores to 0 at the baseline and 1 at the full image; NaN where the image does not score above its baseline.

    Args:
        score: ``(B, …)`` scores.
        full_score: ``(B,)`` scores of the full images.
        baseline_score: ``(B,)`` scores of the baselines.
    """
    full_score, baseline_score = (each.view(-1, *(1,) * (score.ndim - 1)) for each in (full_score, baseline_score))
    return (score - baseline_score) / torch.where(full_score > baseline_score, full_score - baseline_score, torch.nan)


@torch.no_grad()
def scores(
    phi: Representation, inputs: Inputs, target: Target, rows: Int[Tensor, " batch"] | None = None, *, names: Sequence[str] = ()
) -> Float[Tensor, " batch"]:
    """The target's score of normalised images, in batches.

    Args:
        phi: the representation.
        inputs: normalised images ``(B, C, H, W)``.
        target: the score.
        rows: ``(B,)`` index of the image that each row shows; None: in order.
        names: names of the images, for the message; empty: row numbers.

    Raises:
        DataError: some scores are NaN or infinite.
    """
    rows = torch.arange(len(inputs)) if rows is None else rows
    with eval_mode(phi.backbone):
        found = torch.cat([target.score(phi, as_normalised(part), rows[indices]) for indices, part in parts(inputs, phi.device)])
    require_finite_tensor(found, names=names or None, what=f"scores ({target.name})")
    return found


def smooth_grad(
    phi: Representation, images: Images, target: Target, *, samples: int = 25, noise: float = 0.15, seed: int = 0, spread: bool = False
) -> Maps:
    """Mean gradient under Gaussian noise (SmoothGrad, Smilkov et al. 2017, arXiv:1706.03825), largest absolute value over channels.

    Args:
        phi: the representation.
        images: images ``(B, C, H, W)``, uint8 or in [0, 1].
        target: the score that is explained.
        samples: number of noise samples.
        noise: standard deviation as a fraction of the range of the normalised image.
        seed: seed of the noise.
        spread: return the variance, summed over channels, instead (VarGrad, Adebayo et al. 2018, arXiv:1810.03307).
    """
    inputs = phi.normalise(images)
    sigma = noise * (inputs.amax((1, 2, 3), keepdim=True) - inputs.amin((1, 2, 3), keepdim=True))
    first, second = (torch.zeros_like(inputs, dtype=torch.float64) for _ in range(2))
    for sample in range(samples):
        generator = torch.Generator().manual_seed(key(seed, 0x56, sample))
        noisy = inputs + sigma * torch.randn(inputs.shape, generator=generator).to(inputs)
        gradients = torch.cat(
            [reverse(phi, as_normalised(part), target, rows=rows).derivatives[""] for rows, part in parts(noisy, phi.device)]
        ).double()
        first, second = first + gradients / samples, second + gradients.square() / samples
    if spread:
        return (second - first.square()).sum(1, keepdim=True).to(inputs.dtype)
    return first.abs().amax(1, keepdim=True).to(inputs.dtype)


var_grad = partial(smooth_grad, spread=True)


def attention_rollout(phi: Representation, images: Images, target: Target) -> Maps:  # noqa: ARG001
    """Attention from each patch to the pooled vector through all blocks (Abnar & Zuidema 2020, arXiv:2005.00928), for any target.

    ``R = Π (A + 1)/2`` over blocks, A the mean over heads; the row of the class token, or the mean of the rows of the patches.

    Args:
        phi: the representation, a vision transformer.
        images: images ``(B, C, H, W)``, uint8 or in [0, 1].
        target: not used.

    Raises:
        UsageError: the network has no attention.
    """
    maps = []
    layout = phi.token_layout
    for _, part in parts(images, phi.device):
        with eval_mode(phi.backbone):
            rollout = phi.attention(part, 0).mean(1)
            identity = torch.eye(rollout.shape[-1]).to(rollout)
            rollout = (rollout + identity) / 2
            for block in range(1, len(layout.qkv)):
                rollout = (phi.attention(part, block).mean(1) + identity) / 2 @ rollout
        pooled = layout.pooled_tokens(rollout)[:, :, None]
        maps.append(enlarged(phi.as_grid(pooled, part.shape[-2:]), part.shape[-2:]))
    return torch.cat(maps)


def occlusion(phi: Representation, images: Images, target: Target, *, window: int | float = 0.2, stride: int | float = 0.1) -> Maps:
    """Mean score drop when windows over a pixel are filled with the mean colour (Zeiler & Fergus 2013, arXiv:1311.2901).

    Args:
        phi: the representation.
        images: images ``(B, C, H, W)``, uint8 or in [0, 1].
        target: the score that is explained.
        window: side of the window in pixels, or below 1 as a fraction of the shorter side; clipped at the border.
        stride: distance between windows, in the same units.

    Raises:
        UsageError: the stride exceeds the window.
    """
    inputs = phi.normalise(images)
    height, width = inputs.shape[-2:]
    side, step = (max(1, round(value * min(height, width))) if value < 1 else int(value) for value in (window, stride))
    if step > side:
        raise UsageError(f"The stride {step} exceeds the window {side}, so that some pixels are not covered.", "Use a smaller stride.")
    tops, lefts = (torch.arange(-(-max(length - side, 0) // step) + 1) * step for length in (height, width))
    windows = torch.cartesian_prod(tops, lefts)
    down, across = torch.arange(height), torch.arange(width)
    covered = ((down >= windows[:, :1]) & (down < windows[:, :1] + side))[:, :, None] & (
        (across >= windows[:, 1:]) & (across < windows[:, 1:] + side)
    )[:, None, :]
    covered = covered.to(inputs.device)
    drops = perturbed_scores(phi, inputs, target, lambda image, mask: inputs[image] * ~covered[mask][:, None], len(windows))
    drops = scores(phi, inputs, target)[:, None] - drops
    maps = drops.double() @ covered.flatten(1).double() / covered.sum(0).flatten()
    return maps.to(inputs.dtype).view(-1, 1, height, width)


def perturbed_scores(
    phi: Representation, inputs: Inputs, target: Target, make: Callable[[Tensor, Tensor], Tensor], masks: int
) -> Float[Tensor, "batch mask"]:
    """Scores of every image under every mask, in batches.

    Args:
        phi: the representation.
        inputs: normalised images ``(B, C, H, W)``.
        target: the score.
        make: function from image indices and mask indices to perturbed images.
        masks: number of masks.
    """
    pairs, chunk = torch.cartesian_prod(torch.arange(len(inputs)), torch.arange(masks)), at_once(inputs.shape[-2:], phi.device)
    with torch.no_grad(), eval_mode(phi.backbone):
        perturbed = ((make(*pair.to(inputs.device).unbind(1)), pair[:, 0]) for _, pair in parts(pairs, phi.device, chunk))
        return torch.cat([target.score(phi, as_normalised(part), rows) for part, rows in perturbed]).view(len(inputs), masks)


def rise(
    phi: Representation, images: Images, target: Target, *, masks: int = 2000, grid: int = 7, keep: float = 0.5, seed: int = 0
) -> Maps:
    """Mean score of the random masks that keep a pixel (RISE, Petsiuk et al. 2018, arXiv:1806.07421).

    ``Σ_i (f(x ⊙ M_i) - f̄) M_i / (N keep) + f̄``, with M a random binary grid that is upsampled bilinearly and shifted, and f̄ the mean of f
    over the masks; removed regions have the mean colour. Its expectation is the published ``Σ_i f M_i / (N keep)``; without f̄, scores that
    are high under every mask, such as a cosine, would show how often each pixel happened to be kept.

    Args:
        phi: the representation.
        images: images ``(B, C, H, W)``, uint8 or in [0, 1].
        target: the score that is explained.
        masks: number of masks, shared by all images.
        grid: cells per side.
        keep: probability that a cell is kept.
        seed: seed of the masks.
    """
    inputs = phi.normalise(images)
    mask_values = random_masks(masks, tuple(inputs.shape[-2:]), grid, keep, seed).to(inputs)
    masked_scores = perturbed_scores(phi, inputs, target, lambda image, mask: inputs[image] * mask_values[mask][:, None], masks)
    mean = masked_scores.to(inputs).mean(1, keepdim=True)
    return ((masked_scores.to(inputs) - mean) @ mask_values.flatten(1) / (masks * keep) + mean).view(-1, 1, *inputs.shape[-2:])


def random_masks(count: int, size: tuple[int, ...], grid: int, keep: float, seed: int) -> Float[Tensor, "mask height width"]:
    """Masks of RISE: cells of a grid are kept at random, upsampled to one cell more than the image, and cropped at random.

    Args:
        count: number of masks.
        size: height and width in pixels.
        grid: cells per side.
        keep: probability that a cell is kept.
        seed: seed of the masks.
    """
    generator = torch.Generator().manual_seed(key(seed, 0x215E))
    cells = [-(-length // grid) for length in size]
    coarse = (torch.rand(count, 1, grid, grid, generator=generator) < keep).float()
    large = interpolate(coarse, [(grid + 1) * cell for cell in cells], mode="bilinear")[:, 0]
    shifts = [torch.randint(cell, (count,), generator=generator) for cell in cells]
    down, across = (shift[:, None] + torch.arange(length) for shift, length in zip(shifts, size, strict=True))
    return large[torch.arange(count)[:, None, None], down[:, :, None], across[:, None, :]]
