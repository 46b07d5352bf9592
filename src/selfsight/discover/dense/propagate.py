"""Video object segmentation: masks propagated from the first frame by feature similarity."""

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

__all__ = ["propagate", "propagate_labels", "window"]


def window(rows: int, columns: int, radius: int) -> Bool[Tensor, "place place"]:
    """Pairs of locations that are at most ``radius`` rows and columns apart.

    Args:
        rows: rows of locations.
        columns: columns of locations.
        radius: in locations.

    Returns:
        ``(place, place)`` mask.
    """
    positions = torch.cartesian_prod(torch.arange(rows), torch.arange(columns))
    return (positions[:, None] - positions[None]).abs().amax(2) <= radius


def propagate_labels(
    query: Float[Tensor, "dim query"],
    keys: Sequence[Float[Tensor, "dim place"]],
    labels: Sequence[Float[Tensor, "object place"]],
    near: Bool[Tensor, "query place"],
    *,
    most: int = 5,
    temperature: float = 0.1,
) -> Float[Tensor, "object query"]:
    """Soft labels of a frame from earlier frames: ``y_q = Σ w_qk y_k``, ``w ∝ exp(cos / τ)`` over the ``most`` nearest neighbours.

    Args:
        query: unit-length features ``(D, query)`` of this frame.
        keys: unit-length features of earlier frames.
        labels: soft labels ``(object, place)`` of earlier frames.
        near: ``(query, place)`` which locations may correspond, the same for every earlier frame.
        most: number of neighbours over all earlier frames.
        temperature: τ.
    """
    similarity = torch.cat([query.T @ key for key in keys], 1)
    similarity = similarity.masked_fill(~near.repeat(1, len(keys)), -torch.inf)
    nearest = similarity.topk(min(most, similarity.shape[1]), 1)
    weights = (nearest.values / temperature).softmax(1)
    values = torch.cat(list(labels), 1)
    return (values[:, nearest.indices] * weights).sum(2)


@torch.no_grad()
def propagate(
    phi: Representation, frames: Iterable[Float[Tensor, "3 height width"]], first: Int[np.ndarray, "tall wide"], *,
    feature_spec: FeatureSpec | None = None, context: int = 7, radius: int = 12, most: int = 5, temperature: float = 0.1,
) -> Iterator[Int[np.ndarray, "tall wide"]]:  # fmt: skip
    """Propagate a mask through a video (Jabri et al. 2020, arXiv:2006.14613, as DINO evaluates it, arXiv:2104.14294).

    Neighbours come from the first frame and the ``context`` previous ones. Soft labels are upsampled and rescaled to [0, 1]; the largest
    one is selected.

    Args:
        phi: the representation.
        frames: frames ``(3, H, W)``, 0 to 255, of one size.
        first: mask of the first frame: 0 is background, then objects.
        feature_spec: scale and features; None: the defaults.
        context: number of previous frames.
        radius: maximum motion in locations.
        most: number of neighbours.
        temperature: τ of ``propagate_labels``.

    Yields:
        The mask of each frame.

    Raises:
        UsageError: the mask is empty or does not have the size of the frames.
    """
    if not first.any():
        raise UsageError("The first mask is empty: there is nothing to propagate.", "Use a mask with an object.")
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
        soft = propagate_labels(rows, keys, labels, near, most=most, temperature=temperature)
        keys, labels = _recent(keys, rows, context), _recent(labels, soft, context)
        yield _hard(soft.unflatten(1, shape), size)


def _described(phi: Representation, frame: Tensor, feature_spec: FeatureSpec, size: tuple[int, ...]) -> tuple[Tensor, tuple[int, int]]:
    """Unit-length features of a frame's locations, and the numbers of rows and columns."""
    if frame.shape[1:] != size:
        raise UsageError(
            f"A frame of {tuple(frame.shape[1:])} px does not fit the mask of {size} px.", "Use frames and a mask of one size."
        )
    image = resize_whole(frame, feature_spec.size or phi.size, phi.backbone.stride)[None].to(phi.device)
    grid = FeatureBatch(phi, image, feature_spec).features[0]
    return normalize(grid.flatten(1), dim=0), (grid.shape[1], grid.shape[2])


def _recent(entries: list[Tensor], new: Tensor, context: int) -> list[Tensor]:
    """The first entry, and the last ``context`` including the new one."""
    return [entries[0], *[*entries[1:], new][-context:]] if context else entries[:1]


def _hard(soft: Float[Tensor, "object rows columns"], size: tuple[int, int]) -> Int[np.ndarray, "height width"]:
    full = interpolate(soft[None], size, mode="bilinear")[0]
    low, high = full.amin((1, 2), keepdim=True), full.amax((1, 2), keepdim=True)
    stretched = torch.where(high > low, (full - low) / (high - low).clamp(min=1e-8), full)
    return stretched.argmax(0).cpu().numpy()
