"""The same point in two pictures: dense descriptors, best buddies, and points carried from one to the other."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, grid_sample, interpolate, normalize, pad

from selfsight.core.errors import UsageError
from selfsight.core.representation import Representation

__all__ = ["best_buddies", "log_binned", "points_of", "token_stride", "transfer"]


@contextmanager
def token_stride(phi: Representation, stride: int) -> Iterator[None]:
    """While it lasts a vision transformer has a token every ``stride`` pixels, from patches that overlap (Amir et al. 2021, arXiv:2112.05814).

    Pictures are continued at their borders, so that token i has its middle at ``stride (i + ½)``, as without overlap. At the
    network's own stride nothing changes. Sides have to be multiples of the patch.

    Raises:
        UsageError: the network has no patches, or their side is no multiple of ``stride``.
    """
    backbone: Any = phi.backbone
    conv = next((module for name, module in backbone.named_modules() if "patch_embed" in name and isinstance(module, nn.Conv2d)), None)
    if conv is None or not phi.has_attention:
        raise UsageError(f"{phi.name} has no patches that could overlap.", "Ask a vision transformer, or look at a larger --side.")
    patch, before = conv.kernel_size[0], (conv.stride, backbone.stride)
    if stride < 1 or patch % stride:
        raise UsageError(f"Patches of {patch} px cannot begin every {stride} px.", f"Choose a divisor of {patch}.")
    low = (patch - stride) // 2
    around = (low, patch - stride - low) * 2
    hook = conv.register_forward_pre_hook(lambda _, given: (pad(given[0], around, mode="replicate"),))
    try:
        conv.stride, backbone.stride = (stride, stride), stride
        yield
    finally:
        hook.remove()
        conv.stride, backbone.stride = before


def log_binned(features: Float[Tensor, "batch dim rows columns"], rings: int = 2) -> Float[Tensor, "batch bins rows columns"]:
    """A place and what lies around it, ever coarser with distance (Amir et al. 2021, arXiv:2112.05814): ``(1 + 8 rings) dim`` numbers.

    Ring k is the mean over ``3^k`` x ``3^k`` places, at the eight neighbours that are ``3^k`` places off; beyond the border the
    nearest place stands in.
    """
    rows, columns = features.shape[2:]
    found = [features]
    for ring in range(rings):
        step = 3**ring
        middle = avg_pool2d(features, step, 1, step // 2, count_include_pad=False) if ring else features
        for down in (-step, 0, step):
            for across in (-step, 0, step):
                if down or across:
                    y = (torch.arange(rows) + down).clamp(0, rows - 1)
                    x = (torch.arange(columns) + across).clamp(0, columns - 1)
                    found.append(middle[:, :, y[:, None], x])
    return torch.cat(found, 1)


def points_of(places: Int[np.ndarray, " point"], shape: tuple[int, int], size: tuple[int, int]) -> Float[np.ndarray, "point 2"]:
    """The middle (x, y) in pixels of places, counted along rows, of a grid over a picture of some size (height, width)."""
    down, across = np.divmod(np.asarray(places), shape[1])
    return np.stack([(across + 0.5) * size[1] / shape[1], (down + 0.5) * size[0] / shape[0]], 1)


def best_buddies(
    left: Float[Tensor, "dim place"],
    right: Float[Tensor, "dim place2"],
    *,
    seen: tuple[Bool[Tensor, " place"], Bool[Tensor, " place2"]] | None = None,
    most: int | None = None,
) -> Int[np.ndarray, "pair 2"]:
    """Places of two pictures each of which is the other's nearest by cosine, the most alike first (Amir et al. 2021).

    Args:
        left, right: features of places.
        seen: which places count, such as those of an object; all by default.
        most: so many pairs at most, spread out: k-means over the joined features makes so many groups, and the most alike of each
            is taken.
    """
    alike = normalize(left, dim=0).T @ normalize(right, dim=0)
    if seen is not None:
        alike = alike.masked_fill(~(seen[0][:, None] & seen[1]), -torch.inf)
    there, back = alike.argmax(1), alike.argmax(0)
    own = torch.arange(len(there), device=there.device)
    mutual = (back[there] == own) & alike[own, there].isfinite()
    pairs, value = torch.stack([own, there], 1)[mutual], alike[own, there][mutual]
    if most is not None and len(pairs) > most:
        from selfsight.objectives.assign import kmeans

        joined = torch.cat([normalize(left[:, pairs[:, 0]], dim=0), normalize(right[:, pairs[:, 1]], dim=0)]).T
        group = kmeans(joined.float(), most).labels
        best = [int(torch.where(group == one, value, -torch.inf).argmax()) for one in range(most) if bool((group == one).any())]
        pairs, value = pairs[best], value[best]
    return pairs[value.argsort(descending=True, stable=True)].cpu().numpy()


def transfer(
    points: Float[np.ndarray, "point 2"],
    left: Float[Tensor, "dim rows columns"],
    right: Float[Tensor, "dim rows2 columns2"],
    sizes: tuple[tuple[int, int], tuple[int, int]],
) -> Float[np.ndarray, "point 2"]:
    """Where points of one picture lie in another: the pixel whose feature is most alike by cosine.

    The feature of a point is interpolated from the middles of the places around it. Cosines with the other picture's places are
    upsampled to its pixels; the middle of the pixel with the largest is given.

    Args:
        points: x and y in pixels of the first picture.
        left, right: features of both.
        sizes: (height, width) of both in pixels.
    """
    (height, width), (height2, width2) = sizes
    at = torch.from_numpy(np.asarray(points, dtype=np.float64) / (width, height) * 2 - 1).to(left)
    asked = grid_sample(left[None], at[None, None], mode="bilinear", padding_mode="border", align_corners=False)[0, :, 0]
    alike = torch.einsum("dp,drc->prc", normalize(asked, dim=0), normalize(right, dim=0))
    fine = interpolate(alike[None], (height2, width2), mode="bilinear")[0]
    best = fine.flatten(1).argmax(1).cpu().numpy()
    return np.stack([best % width2 + 0.5, best // width2 + 0.5], 1)
