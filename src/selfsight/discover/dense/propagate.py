"""Masks carried from the first frame of a video to the others, by likeness of places."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate, normalize, one_hot

from selfsight.core.errors import UsageError
from selfsight.core.representation import Representation
from selfsight.data.views.image.geometry import resize_whole
from selfsight.discover.dense.features import FeatureBatch, FeatureSpec

__all__ = ["carried", "propagate", "window"]


def window(rows: int, columns: int, radius: int) -> Bool[Tensor, "place place"]:
    """Which places lie at most ``radius`` rows and columns apart."""
    places = torch.cartesian_prod(torch.arange(rows), torch.arange(columns))
    return (places[:, None] - places[None]).abs().amax(2) <= radius


def carried(
    query: Float[Tensor, "dim asked"],
    keys: Sequence[Float[Tensor, "dim place"]],
    labels: Sequence[Float[Tensor, "object place"]],
    near: Bool[Tensor, "asked place"],
    *,
    most: int = 5,
    temperature: float = 0.1,
) -> Float[Tensor, "object asked"]:
    """The labels of a frame's places from those of frames before: ``y_q = Σ w_qk y_k``, ``w ∝ exp(cos / τ)`` over the ``most`` alike.

    Args:
        query, keys: unit-length features of this frame, and of those before.
        labels: soft labels of those.
        near: which places a place may feature_spec at, in every frame.
        most: how many of all frames' places together count.
        temperature: τ.
    """
    alike = torch.cat([query.T @ key for key in keys], 1)
    alike = alike.masked_fill(~near.repeat(1, len(keys)), -torch.inf)
    best = alike.topk(min(most, alike.shape[1]), 1)
    weights = (best.values / temperature).softmax(1)
    known = torch.cat(list(labels), 1)
    return (known[:, best.indices] * weights).sum(2)


@torch.no_grad()
def propagate(
    phi: Representation,
    frames: Iterable[Float[Tensor, "3 height width"]],
    first: Int[np.ndarray, "tall wide"],
    *,
    feature_spec: FeatureSpec | None = None,
    context: int = 7,
    radius: int = 12,
    most: int = 5,
    temperature: float = 0.1,
) -> Iterator[Int[np.ndarray, "tall wide"]]:
    """The mask of every frame from that of the first (Jabri et al. 2020, arXiv:2006.14613, as DINO measures it, arXiv:2104.14294).

    Each frame asks the first and the ``context`` before it. Soft labels are upsampled, stretched to [0, 1], and the largest wins.

    Args:
        phi, feature_spec: the representation; at which scale, and which features.
        frames: pictures with values from 0 to 255, all of one size.
        first: of the first frame: 0 is ground, then objects.
        context, radius: frames before; rows and columns that a place may have moved.
        most, temperature: see ``carried``.

    Raises:
        UsageError: the mask is not of the frames' size, or it is empty.
    """
    if not first.any():
        raise UsageError("The first mask is empty: there is nothing to carry on.", "Give a mask with an object.")
    feature_spec, size = feature_spec or FeatureSpec(), first.shape
    start = one_hot(torch.from_numpy(first.astype(np.int64)), int(first.max()) + 1).permute(2, 0, 1).float()
    keys, labels, near = list[Tensor](), list[Tensor](), torch.ones(0, 0, dtype=torch.bool)
    for frame in frames:
        rows, shape = _described(phi, frame, feature_spec, size)
        if not keys:
            near = window(*shape, radius).to(rows.device)
            keys, labels = [rows], [adaptive_avg_pool2d(start, shape).flatten(1).to(rows)]
            yield first
            continue
        now = carried(rows, keys, labels, near, most=most, temperature=temperature)
        keys, labels = _recent(keys, rows, context), _recent(labels, now, context)
        yield _hard(now.unflatten(1, shape), size)


def _described(phi: Representation, frame: Tensor, feature_spec: FeatureSpec, size: tuple[int, ...]) -> tuple[Tensor, tuple[int, int]]:
    """Unit-length features of a frame's places, and how many there are down and across."""
    if frame.shape[1:] != size:
        raise UsageError(f"A frame of {tuple(frame.shape[1:])} px does not fit the mask's {size}.", "Give frames and mask of one size.")
    picture = resize_whole(frame, feature_spec.size or phi.size, phi.backbone.stride)[None].to(phi.device)
    grid = FeatureBatch(phi, picture, feature_spec).features[0]
    return normalize(grid.flatten(1), dim=0), (grid.shape[1], grid.shape[2])


def _recent(before: list[Tensor], now: Tensor, context: int) -> list[Tensor]:
    """The first, and the last few with this one."""
    return [before[0], *[*before[1:], now][-context:]] if context else before[:1]


def _hard(soft: Float[Tensor, "object rows columns"], size: tuple[int, int]) -> Int[np.ndarray, "height width"]:
    full = interpolate(soft[None], size, mode="bilinear")[0]
    low, high = full.amin((1, 2), keepdim=True), full.amax((1, 2), keepdim=True)
    stretched = torch.where(high > low, (full - low) / (high - low).clamp(min=1e-8), full)
    return stretched.argmax(0).cpu().numpy()
