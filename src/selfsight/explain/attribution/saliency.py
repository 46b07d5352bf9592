"""Attribution: how much each place of an image has to do with what a representation says of it.

Every method is a function of a representation, images and a target that gives raw maps (batch, 1, height, width): range and sign are
the method's own, and are only changed for display.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int, Num
from torch import Tensor
from torch.nn.functional import interpolate

from selfsight.core.clock import key
from selfsight.core.errors import UsageError
from selfsight.core.hooks import capture_activations, eval_mode, tensor_of
from selfsight.core.representation import Representation
from selfsight.explain.attribution.backprop import Rule, reverse
from selfsight.explain.targets import Target

__all__ = [
    "Maps",
    "attention_rollout",
    "deconvnet",
    "grad_cam",
    "gradient",
    "gradient_times_input",
    "guided",
    "integrated_gradients",
    "linear_approximation",
    "maps_before",
    "occlusion",
    "part_kept",
    "path_integral",
    "rise",
    "saliency",
    "scores",
    "smooth_grad",
    "var_grad",
]

Maps = Float[Tensor, "batch 1 height width"]
Combine = Callable[[Tensor, Tensor], Tensor]
"""From what a layer said and what came back to it (both batch, channel, rows, columns) to one number a place."""
CHUNK, FEWEST = 128, 4
"""Images that are given to the network at once, at most and on a processor at least."""
PLACES = {"cpu": 1 << 15}
"""Their pixels: fewer images where they are large. On a processor so many that what layers say stays in its caches."""
MANY = 1 << 21
"""The same for other devices."""


def largest(_: Tensor, derivative: Tensor) -> Tensor:
    """The largest absolute derivative over channels (Simonyan et al. 2013, arXiv:1312.6034)."""
    return derivative.abs().amax(1, keepdim=True)


def product(output: Tensor, derivative: Tensor) -> Tensor:
    """``Σ_c x_c ∂f/∂x_c``, signed: the target's linear approximation at each place."""
    return (output * derivative).sum(1, keepdim=True)


def positive_sum(output: Tensor, derivative: Tensor) -> Tensor:
    """``max(Σ_c x_c mean_u ∂f/∂x_c(u), 0)`` (Grad-CAM, Selvaraju et al. 2017, arXiv:1610.02391)."""
    return (output * derivative.mean((2, 3), keepdim=True)).sum(1, keepdim=True).clamp(min=0)


def maps_before(phi: Representation, target: Target) -> tuple[str, ...]:
    """The layers with more than one place that the target can depend on, shallow to deep.

    Where a class token is read from the last block, the patches of that block have no part in it and it is left out.

    Raises:
        UsageError: there is none.
    """
    blank = torch.zeros(1, phi.backbone.channels, phi.size, phi.size, device=phi.device)
    with torch.no_grad(), eval_mode(phi.backbone), capture_activations(phi.backbone, *phi.layers) as captured:
        phi.features(blank)
    found = [name for name in phi.layers if name in captured and tensor_of(captured[name]).ndim in (3, 4)]
    found = [name for name in found if phi.as_grid(tensor_of(captured[name]), blank.shape[-2:], name)[0, 0].numel() > 1]
    if target.layer in found:
        found = found[: found.index(target.layer) + 1]
    elif target.layer is None and getattr(phi.backbone, "prefix", 0) and getattr(phi.backbone, "pool", "cls") == "cls":
        found = found[:-1]
    if not found:
        raise UsageError(
            f"{phi.name} has no layer with a map that {target.name} depends on.", "Name one (at=…), or explain the pixels: gradient."
        )
    return tuple(found)


def saliency(
    phi: Representation,
    images: Num[Tensor, "batch channel height width"],
    target: Target,
    *,
    at: str | None = "",
    rule: Rule = "gradient",
    combine: Combine = largest,
) -> Maps:
    """What comes back to a layer from the target, as one number a place; maps of layers are enlarged bilinearly.

    Args:
        phi: the representation.
        images: images in [0, 1] or 0 to 255.
        target: what is explained.
        at: the layer; ``""``: the normalised images; None: the deepest that has a map.
        rule: what rectifiers do on the way back.
        combine: from channels to one number.
    """
    layer = maps_before(phi, target)[-1] if at is None else at
    maps = []
    for rows, part in parts(images, phi.device):
        found = reverse(phi, part, target, at=(layer,), rule=rule, rows=rows)
        output, derivative = found.outputs[layer], found.derivatives[layer]
        if layer:
            output, derivative = (phi.as_grid(each, part.shape[-2:], layer) for each in (output, derivative))
        maps.append(enlarged(combine(output, derivative), part.shape[-2:]))
    return torch.cat(maps)


gradient = saliency
deconvnet = partial(saliency, rule="deconvnet")
guided = partial(saliency, rule="guided")
gradient_times_input = partial(saliency, combine=product)
linear_approximation = partial(saliency, at=None, combine=product)
grad_cam = partial(saliency, at=None, combine=positive_sum)


def at_once(size: Sequence[int], device: torch.device) -> int:
    """How many images of a size (height, width) are given to a network on that device at once."""
    fewest, places = (FEWEST, PLACES[device.type]) if device.type in PLACES else (1, MANY)
    return min(CHUNK, max(fewest, places // (size[0] * size[1])))


def parts(images: Tensor, device: torch.device, chunk: int = 0) -> Iterator[tuple[Int[Tensor, " part"], Tensor]]:
    """Images some at a time, with their numbers: as many as suit a network on the device, or ``chunk``."""
    chunk = chunk or at_once(images.shape[-2:], device)
    for start in range(0, len(images), chunk):
        part = images[start : start + chunk]
        yield torch.arange(start, start + len(part)), part


def enlarged(maps: Float[Tensor, "batch 1 rows columns"], size: tuple[int, ...]) -> Maps:
    """Maps of a layer in the size of the images."""
    return maps if tuple(maps.shape[-2:]) == tuple(size) else interpolate(maps, tuple(size), mode="bilinear")


def part_kept(
    score: Float[Tensor, "batch *more"], whole: Float[Tensor, " batch"], nothing: Float[Tensor, " batch"]
) -> Float[Tensor, "batch *more"]:
    """A score from nothing (0) to that of the whole image (1); NaN where the image has no more of it than nothing."""
    whole, nothing = (each.view(-1, *(1,) * (score.ndim - 1)) for each in (whole, nothing))
    return (score - nothing) / torch.where(whole > nothing, whole - nothing, torch.nan)


@torch.no_grad()
def scores(
    phi: Representation,
    given: Float[Tensor, "batch channel height width"],
    target: Target,
    rows: Int[Tensor, " batch"] | None = None,
) -> Float[Tensor, " batch"]:
    """The target's number for many normalised images, some at a time."""
    rows = torch.arange(len(given)) if rows is None else rows
    with eval_mode(phi.backbone):
        return torch.cat([target.score(phi, part, rows[places]) for places, part in parts(given, phi.device)])


def integrated_gradients(
    phi: Representation,
    images: Num[Tensor, "batch channel height width"],
    target: Target,
    *,
    error: float = 0.01,
    steps: int = 32,
    most: int = 1024,
) -> Maps:
    """Integrated gradients from the mean colour (Sundararajan et al. 2017, arXiv:1703.01365), summed over channels.

    ``(x - x') ∫ ∂f/∂x(x' + α (x - x')) dα``; its sum is f(x) - f(x'). Steps are doubled until it is, but for a share ``error`` of
    the difference, or there are ``most``.

    Args:
        phi, images, target: as for ``saliency``.
        error: the share of the difference that may be missing.
        steps, most: nodes of the first Gauss-Legendre rule, and of the last.
    """
    given = phi.normalise(images)
    whole = scores(phi, given, target) - scores(phi, torch.zeros_like(given), target)
    maps = torch.empty_like(given[:, :1])
    left = torch.arange(len(given))
    while len(left):
        found = path_integral(phi, given[left], target, steps=steps, rows=left)
        maps[left] = found.sum(1, keepdim=True).to(maps.dtype)
        missing = (found.double().sum((1, 2, 3)) - whole[left].double()).abs()
        left = left[(missing > error * whole[left].double().abs()).cpu()] if steps < most else left[:0]
        steps *= 2
    return maps


def path_integral(
    phi: Representation,
    given: Float[Tensor, "batch channel height width"],
    target: Target,
    *,
    steps: int = 50,
    rows: Int[Tensor, " batch"] | None = None,
) -> Float[Tensor, "batch channel height width"]:
    """``x ∫ ∂f/∂x(αx) dα`` of normalised images by a Gauss-Legendre rule, summed in double precision."""
    nodes, weights = (torch.from_numpy(values) / 2 for values in np.polynomial.legendre.leggauss(steps))
    rows = torch.arange(len(given)) if rows is None else rows
    total = torch.zeros_like(given, dtype=torch.float64)
    places, each = torch.meshgrid(torch.arange(len(given)), torch.arange(steps), indexing="ij")
    for _, pair in parts(torch.stack([places.flatten(), each.flatten()], 1), phi.device, at_once(given.shape[-2:], phi.device)):
        image, node = pair.unbind(1)
        alpha = (nodes[node] + 0.5).to(given)[:, None, None, None]
        found = reverse(phi, alpha * given[image], target, rows=rows[image], normalised=True).derivatives[""]
        total.index_add_(0, image.to(total.device), found.double() * weights[node].to(total)[:, None, None, None])
    return (total * given).to(given.dtype)


def smooth_grad(
    phi: Representation,
    images: Num[Tensor, "batch channel height width"],
    target: Target,
    *,
    samples: int = 25,
    noise: float = 0.15,
    seed: int = 0,
    spread: bool = False,
) -> Maps:
    """The mean of gradients in noise (Smilkov et al. 2017, arXiv:1706.03825), largest absolute value over channels.

    Args:
        phi, images, target: as for ``saliency``.
        samples: how many.
        noise: its standard deviation, in parts of an image's range after normalisation.
        seed: of the noise.
        spread: the variance in place of the mean, summed over channels (VarGrad, Adebayo et al. 2018, arXiv:1810.03307).
    """
    given = phi.normalise(images)
    sigma = noise * (given.amax((1, 2, 3), keepdim=True) - given.amin((1, 2, 3), keepdim=True))
    first, second = (torch.zeros_like(given, dtype=torch.float64) for _ in range(2))
    for sample in range(samples):
        dice = torch.Generator().manual_seed(key(seed, 0x56, sample))
        shown = given + sigma * torch.randn(given.shape, generator=dice).to(given)
        found = torch.cat(
            [reverse(phi, part, target, rows=rows, normalised=True).derivatives[""] for rows, part in parts(shown, phi.device)]
        ).double()
        first, second = first + found / samples, second + found.square() / samples
    if spread:
        return (second - first.square()).sum(1, keepdim=True).to(given.dtype)
    return first.abs().amax(1, keepdim=True).to(given.dtype)


var_grad = partial(smooth_grad, spread=True)


def attention_rollout(phi: Representation, images: Num[Tensor, "batch channel height width"], target: Target) -> Maps:  # noqa: ARG001
    """How much of each patch is in the pooled vector if attention were all (Abnar & Zuidema 2020, arXiv:2005.00928); the target is not asked.

    ``R = Π (A + 1)/2`` over blocks, A the mean over heads; the class token's row, or the mean of the patches' rows.

    Raises:
        UsageError: the network has no attention.
    """
    maps = []
    prefix = getattr(phi.backbone, "prefix", 0)
    blocks = sum(hasattr(module, "qkv") for module in phi.backbone.modules())
    for _, part in parts(images, phi.device):
        with eval_mode(phi.backbone):
            rolled = phi.attention(part, 0).mean(1)
            one = torch.eye(rolled.shape[-1]).to(rolled)
            rolled = (rolled + one) / 2
            for block in range(1, blocks):
                rolled = (phi.attention(part, block).mean(1) + one) / 2 @ rolled
        read = rolled[:, :1] if prefix and getattr(phi.backbone, "pool", "cls") == "cls" else rolled[:, prefix:].mean(1, keepdim=True)
        maps.append(enlarged(phi.as_grid(read.transpose(1, 2), part.shape[-2:]), part.shape[-2:]))
    return torch.cat(maps)


def occlusion(
    phi: Representation,
    images: Num[Tensor, "batch channel height width"],
    target: Target,
    *,
    window: int | float = 0.2,
    stride: int | float = 0.1,
) -> Maps:
    """The fall of the score when a window is painted in the mean colour, the mean over the windows that cover a place.

    (Zeiler & Fergus 2013, arXiv:1311.2901.) The last windows are cut off at the border.

    Args:
        phi, images, target: as for ``saliency``.
        window, stride: in pixels, or below one in parts of the shorter side.
    """
    given = phi.normalise(images)
    height, width = given.shape[-2:]
    side, step = (max(1, round(value * min(height, width))) if value < 1 else int(value) for value in (window, stride))
    if step > side:
        raise UsageError(f"A stride of {step} leaves places between windows of {side} that none covers.", "Give a smaller stride.")
    tops, lefts = (torch.arange(-(-max(length - side, 0) // step) + 1) * step for length in (height, width))
    windows = torch.cartesian_prod(tops, lefts)
    down, across = torch.arange(height), torch.arange(width)
    covered = ((down >= windows[:, :1]) & (down < windows[:, :1] + side))[:, :, None] & (
        (across >= windows[:, 1:]) & (across < windows[:, 1:] + side)
    )[:, None, :]
    covered = covered.to(given.device)
    falls = perturbed_scores(phi, given, target, lambda image, mask: given[image] * ~covered[mask][:, None], len(windows))
    falls = scores(phi, given, target)[:, None] - falls
    maps = falls.double() @ covered.flatten(1).double() / covered.sum(0).flatten()
    return maps.to(given.dtype).view(-1, 1, height, width)


def perturbed_scores(
    phi: Representation,
    given: Float[Tensor, "batch channel height width"],
    target: Target,
    make: Callable[[Tensor, Tensor], Tensor],
    masks: int,
) -> Float[Tensor, "batch mask"]:
    """The target's number for every image under every mask, many of both at once."""
    pairs, chunk = torch.cartesian_prod(torch.arange(len(given)), torch.arange(masks)), at_once(given.shape[-2:], phi.device)
    with torch.no_grad(), eval_mode(phi.backbone):
        found = [target.score(phi, make(*pair.to(given.device).unbind(1)), pair[:, 0]) for _, pair in parts(pairs, phi.device, chunk)]
    return torch.cat(found).view(len(given), masks)


def rise(
    phi: Representation,
    images: Num[Tensor, "batch channel height width"],
    target: Target,
    *,
    masks: int = 2000,
    grid: int = 7,
    keep: float = 0.5,
    seed: int = 0,
) -> Maps:
    """The mean score of the random masks that keep a place (RISE, Petsiuk et al. 2018, arXiv:1806.07421).

    ``Σ_i (f(x ⊙ M_i) - f̄) M_i / (N keep) + f̄``, M a random binary grid enlarged bilinearly and shifted, f̄ the mean of f over the
    masks; what is not kept has the mean colour. In expectation this is the published ``Σ_i f M_i / (N keep)``; without f̄ a score that is
    high whatever is hidden, such as a cosine, draws how often each place happened to be kept.

    Args:
        phi, images, target: as for ``saliency``.
        masks: how many; the same for all images.
        grid: cells a side.
        keep: the probability that a cell is kept.
        seed: of the masks.
    """
    given = phi.normalise(images)
    shown = random_masks(masks, tuple(given.shape[-2:]), grid, keep, seed).to(given)
    said = perturbed_scores(phi, given, target, lambda image, mask: given[image] * shown[mask][:, None], masks)
    level = said.to(given).mean(1, keepdim=True)
    return ((said.to(given) - level) @ shown.flatten(1) / (masks * keep) + level).view(-1, 1, *given.shape[-2:])


def random_masks(count: int, size: tuple[int, ...], grid: int, keep: float, seed: int) -> Float[Tensor, "mask height width"]:
    """RISE's masks: a cell of the grid is kept with a probability; enlarged to one cell more than the image, and cut at random."""
    dice = torch.Generator().manual_seed(key(seed, 0x215E))
    cells = [-(-length // grid) for length in size]
    coarse = (torch.rand(count, 1, grid, grid, generator=dice) < keep).float()
    large = interpolate(coarse, [(grid + 1) * cell for cell in cells], mode="bilinear")[:, 0]
    shifts = [torch.randint(cell, (count,), generator=dice) for cell in cells]
    down, across = (shift[:, None] + torch.arange(length) for shift, length in zip(shifts, size, strict=True))
    return large[torch.arange(count)[:, None, None], down[:, :, None], across[:, None, :]]
