"""Integrated gradients, with a bounded number of gradients, and how complete they are."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from selfsight.backbones.profile import multiply_adds
from selfsight.core.pixels import Normalised, as_normalised
from selfsight.core.representation import Representation
from selfsight.explain.attribution.backprop import reverse
from selfsight.explain.attribution.saliency import Images, Maps, at_once, parts, scores
from selfsight.explain.targets import Target

__all__ = ["completeness_error", "integrated_gradients", "path_integral"]

Inputs = Float[Normalised, "batch channel height width"]  # normalised
NODES = (8, 1024)
"""Least and greatest default of the maximum number of nodes."""
WORK = {"cpu": 64 * 1_820_000_000}
"""Multiply-adds of all forward passes of the last rule, by default: 64 nodes of a ResNet-18 at 224 px on a CPU; other devices 1024 nodes."""


def integrated_gradients(
    phi: Representation, images: Images, target: Target, *, error: float = 0.01, steps: int = 32, most: int | None = None
) -> Maps:
    """Integrated gradients from the mean colour (Sundararajan et al. 2017, arXiv:1703.01365), summed over channels.

    ``(x - x') ∫ ∂f/∂x(x' + α (x - x')) dα``; its sum is f(x) - f(x'). The number of nodes is doubled until the sum is within a fraction
    ``error`` of that difference, or ``most`` is reached, after fewer than ``2 most`` gradients of an image; ``completeness_error`` is the
    fraction that is still missing.

    Args:
        phi: the representation.
        images: images ``(B, C, H, W)``, uint8 or in [0, 1].
        target: the score that is explained.
        error: tolerated fraction of f(x) - f(x') that is missing.
        steps: nodes of the first Gauss-Legendre rule.
        most: maximum number of nodes; None: 1024, on a CPU by the cost of the network: at 224 px 64 for a ResNet-18, 28 for a ResNet-50; at
            least 8.
    """
    inputs = phi.normalise(images)
    most = _nodes(phi, max(inputs.shape[2:])) if most is None else most
    steps = min(steps, most)
    difference = _difference(phi, inputs, target)
    maps = torch.empty_like(inputs[:, :1])
    pending = torch.arange(len(inputs))
    while len(pending):
        integral = path_integral(phi, as_normalised(inputs[pending]), target, steps=steps, rows=pending)
        maps[pending] = integral.sum(1, keepdim=True).to(maps.dtype)
        missing = (integral.double().sum((1, 2, 3)) - difference[pending]).abs()
        steps *= 2
        pending = pending[(missing > error * difference[pending].abs()).cpu()] if steps <= most else pending[:0]
    return maps


def _nodes(phi: Representation, side: int) -> int:
    """Default of the maximum number of nodes, for square images of this side."""
    if phi.device.type not in WORK:
        return NODES[1]
    return min(NODES[1], max(NODES[0], WORK[phi.device.type] // max(multiply_adds(phi.backbone, side), 1)))


def _difference(phi: Representation, inputs: Inputs, target: Target) -> Float[Tensor, " batch"]:
    """f(x) - f(x'), x' the mean colour, in double precision."""
    return scores(phi, inputs, target).double() - scores(phi, as_normalised(torch.zeros_like(inputs)), target).double()


def completeness_error(phi: Representation, images: Images, target: Target, maps: Maps) -> Float[Tensor, " batch"]:
    """``|Σ m - (f(x) - f(x'))| / |f(x) - f(x')|`` of integrated gradients m from the mean colour x'.

    Args:
        phi: the representation.
        images: images ``(B, C, H, W)``, uint8 or in [0, 1].
        target: the score that is explained.
        maps: ``(B, 1, H, W)`` maps of ``integrated_gradients``.

    Returns:
        ``(B,)``; infinite or NaN where the score of the image is that of the mean colour.
    """
    difference = _difference(phi, phi.normalise(images), target)
    return (maps.to(difference.device).double().sum((1, 2, 3)) - difference).abs() / difference.abs()


def path_integral(
    phi: Representation, inputs: Inputs, target: Target, *, steps: int = 50, rows: Int[Tensor, " batch"] | None = None
) -> Images:
    """``x ∫ ∂f/∂x(αx) dα`` of normalised images by a Gauss-Legendre rule, summed in double precision.

    Args:
        phi: the representation.
        inputs: normalised images ``(B, C, H, W)``.
        target: the score.
        steps: nodes of the rule.
        rows: ``(B,)`` index of the image that each row shows; None: in order.
    """
    nodes, weights = (torch.from_numpy(values) / 2 for values in np.polynomial.legendre.leggauss(steps))
    rows = torch.arange(len(inputs)) if rows is None else rows
    total = torch.zeros_like(inputs, dtype=torch.float64)
    image_grid, node_grid = torch.meshgrid(torch.arange(len(inputs)), torch.arange(steps), indexing="ij")
    for _, pair in parts(torch.stack([image_grid.flatten(), node_grid.flatten()], 1), phi.device, at_once(inputs.shape[-2:], phi.device)):
        image, node = pair.unbind(1)
        alpha = (nodes[node] + 0.5).to(inputs)[:, None, None, None]
        gradients = reverse(phi, as_normalised(alpha * inputs[image]), target, rows=rows[image]).derivatives[""]
        total.index_add_(0, image.to(total.device), gradients.double() * weights[node].to(total)[:, None, None, None])
    return (total * inputs).to(inputs.dtype)
