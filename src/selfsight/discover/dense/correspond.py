"""Correspondences between images: dense descriptors, best-buddy pairs, and transfer of points."""

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
    """Overlapping patches for a vision transformer inside a ``with`` block (Amir et al. 2021, arXiv:2112.05814).

    Images are extended at their borders, so that token i is centred at ``stride (i + ½)``, as without overlap. The network's own stride
    changes nothing. The sides of images must be multiples of the patch size.

    Args:
        phi: the representation, a vision transformer.
        stride: pixels between neighbouring tokens, a divisor of the patch size.

    Raises:
        UsageError: the network has no patches, or their size is not a multiple of ``stride``.
    """
    backbone: Any = phi.backbone
    conv = next((module for name, module in backbone.named_modules() if "patch_embed" in name and isinstance(module, nn.Conv2d)), None)
    if conv is None or not phi.has_attention:
        raise UsageError(f"{phi.name} has no patches that could overlap.", "Use a vision transformer, or a larger --side.")
    patch, original = conv.kernel_size[0], (conv.stride, backbone.stride)
    if stride < 1 or patch % stride:
        raise UsageError(f"Patches of {patch} px cannot begin every {stride} px.", f"Choose a divisor of {patch}.")
    low = (patch - stride) // 2
    padding = (low, patch - stride - low) * 2
    hook = conv.register_forward_pre_hook(lambda _, args: (pad(args[0], padding, mode="replicate"),))
    try:
        conv.stride, backbone.stride = (stride, stride), stride
        yield
    finally:
        hook.remove()
        conv.stride, backbone.stride = original


def log_binned(features: Float[Tensor, "batch dim rows columns"], rings: int = 2) -> Float[Tensor, "batch bins rows columns"]:
    """Log-binned descriptors: each location with its surroundings, coarser with distance (Amir et al. 2021, arXiv:2112.05814).

    Ring k is the mean over ``3^k`` x ``3^k`` locations at the eight neighbours at a distance of ``3^k``; the border is replicated.

    Args:
        features: dense features ``(B, D, rows, columns)``.
        rings: number of rings.

    Returns:
        ``(B, (1 + 8 rings) D, rows, columns)``.
    """
    rows, columns = features.shape[2:]
    descriptors = [features]
    for ring in range(rings):
        step = 3**ring
        pooled = avg_pool2d(features, step, 1, step // 2, count_include_pad=False) if ring else features
        for down in (-step, 0, step):
            for across in (-step, 0, step):
                if down or across:
                    y = (torch.arange(rows) + down).clamp(0, rows - 1)
                    x = (torch.arange(columns) + across).clamp(0, columns - 1)
                    descriptors.append(pooled[:, :, y[:, None], x])
    return torch.cat(descriptors, 1)


def points_of(places: Int[np.ndarray, " point"], shape: tuple[int, int], size: tuple[int, int]) -> Float[np.ndarray, "point 2"]:
    """Centres of locations in pixels.

    Args:
        places: flat indices of the locations, row by row.
        shape: rows and columns of locations.
        size: height and width of the image in pixels.

    Returns:
        ``(point, 2)`` x and y.
    """
    down, across = np.divmod(np.asarray(places), shape[1])
    return np.stack([(across + 0.5) * size[1] / shape[1], (down + 0.5) * size[0] / shape[0]], 1)


def best_buddies(
    left: Float[Tensor, "dim place"],
    right: Float[Tensor, "dim place2"],
    *,
    seen: tuple[Bool[Tensor, " place"], Bool[Tensor, " place2"]] | None = None,
    most: int | None = None,
) -> Int[np.ndarray, "pair 2"]:
    """Mutual nearest neighbours of two images by cosine similarity, the most similar pair first (Amir et al. 2021).

    Args:
        left: features ``(D, place)`` of the first image.
        right: features ``(D, place2)`` of the second image.
        seen: masks of the locations that are considered, such as those of an object; None: all.
        most: maximum number of pairs, spread out: k-means over the joined features, and the most similar pair of each cluster; None: all.

    Returns:
        ``(pair, 2)`` location indices in both images.
    """
    similarity = normalize(left, dim=0).T @ normalize(right, dim=0)
    if seen is not None:
        similarity = similarity.masked_fill(~(seen[0][:, None] & seen[1]), -torch.inf)
    nearest, back = similarity.argmax(1), similarity.argmax(0)
    indices = torch.arange(len(nearest), device=nearest.device)
    mutual = (back[nearest] == indices) & similarity[indices, nearest].isfinite()
    pairs, pair_similarity = torch.stack([indices, nearest], 1)[mutual], similarity[indices, nearest][mutual]
    if most is not None and len(pairs) > most:
        from selfsight.objectives.assign import kmeans

        joined = torch.cat([normalize(left[:, pairs[:, 0]], dim=0), normalize(right[:, pairs[:, 1]], dim=0)]).T
        group = kmeans(joined.float(), most).labels
        best = [
            int(torch.where(group == number, pair_similarity, -torch.inf).argmax())
            for number in range(most)
            if bool((group == number).any())
        ]
        pairs, pair_similarity = pairs[best], pair_similarity[best]
    return pairs[pair_similarity.argsort(descending=True, stable=True)].cpu().numpy()


def transfer(
    points: Float[np.ndarray, "point 2"],
    left: Float[Tensor, "dim rows columns"],
    right: Float[Tensor, "dim rows2 columns2"],
    sizes: tuple[tuple[int, int], tuple[int, int]],
) -> Float[np.ndarray, "point 2"]:
    """Transfer points to another image: the pixel with the most similar feature by cosine.

    The feature of a point is interpolated between location centres. Cosines with the locations of the other image are upsampled to its
    pixels; the result is the centre of the best pixel.

    Args:
        points: ``(point, 2)`` x and y in pixels of the first image.
        left: features ``(D, rows, columns)`` of the first image.
        right: features ``(D, rows2, columns2)`` of the second image.
        sizes: (height, width) of both in pixels.

    Returns:
        ``(point, 2)`` x and y in pixels of the second image.
    """
    (height, width), (height2, width2) = sizes
    grid = torch.from_numpy(np.asarray(points, dtype=np.float64) / (width, height) * 2 - 1).to(left)
    queries = grid_sample(left[None], grid[None, None], mode="bilinear", padding_mode="border", align_corners=False)[0, :, 0]
    similarity = torch.einsum("dp,drc->prc", normalize(queries, dim=0), normalize(right, dim=0))
    upsampled = interpolate(similarity[None], (height2, width2), mode="bilinear")[0]
    best = upsampled.flatten(1).argmax(1).cpu().numpy()
    return np.stack([best % width2 + 0.5, best // width2 + 0.5], 1)
