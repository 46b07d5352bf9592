"""Patches that distinguish a cluster."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch.nn.functional import interpolate, normalize

from selfsight.core.errors import UsageError
from selfsight.core.representation import Representation
from selfsight.data.source import Source
from selfsight.explorer.server.pack import nearness_column
from selfsight.explorer.worker.drawing import central_squares, save_heatmaps
from selfsight.explorer.worker.request import TOP, JobContext

__all__ = ["prototypes", "run"]


@torch.no_grad()
def prototypes(
    phi: Representation, source: Source, rows: np.ndarray, labels: np.ndarray, vectors: np.ndarray, cluster: int, out: Path
) -> dict[str, Any]:
    """The patches by which a cluster's most central pictures belong to it, and those by which they would belong to the next.

    With ``c_k`` the mean of the unit-length vectors of cluster k: places are scored by ``<x, c_k> - max_j≠k <x, c_j>``, x a place's own
    unit-length vector.

    Args:
        phi, source: what looks, and at what.
        rows: pictures whose places are scored.
        labels, vectors: the cluster of each picture, and what the network says of it.
        cluster: which.
        out: where the sheet is written.

    Raises:
        UsageError: places and pictures are not described by the same numbers.
    """
    pixels = central_squares(source, rows, phi.size)
    scores = _set_apart(phi.grid(pixels).float().cpu(), labels, vectors, cluster)
    large = interpolate(scores[:, None], pixels.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    highest = large.flatten(1).max(1).values
    best = highest.argsort(descending=True)
    low = large.flatten(1).min(1).values
    heats = (large - low[:, None, None]) / (highest - low).clamp(min=1e-9)[:, None, None]
    numbers = [round(float(one), 4) for one in highest[best]]
    words = "the places that make them this cluster's and no other's"
    return save_heatmaps(rows[best.numpy()], pixels[best], heats[best], numbers, out, words)


def _set_apart(
    grids: Float[torch.Tensor, "row dim rows columns"], labels: np.ndarray, vectors: np.ndarray, cluster: int
) -> Float[torch.Tensor, "row rows columns"]:
    """How much more each place is like a cluster's middle than like any other's."""
    if grids.shape[1] != vectors.shape[1]:
        raise UsageError("Places and pictures are described by different numbers.", "Ask a network whose output is a mean over places.")
    unit = normalize(torch.from_numpy(np.array(vectors, dtype=np.float32)) - torch.from_numpy(vectors.mean(0, dtype=np.float32)))
    known = np.unique(labels)
    middles = normalize(torch.stack([unit[torch.from_numpy(labels == one)].mean(0) for one in known]))
    place = int(np.flatnonzero(known == cluster)[0])
    own = normalize(grids.flatten(2) - torch.from_numpy(vectors.mean(0, dtype=np.float32))[:, None], dim=1)
    likeness = torch.einsum("kd,bdp->bkp", middles, own)
    others = likeness.clone()
    others[:, place] = -torch.inf
    return (likeness[:, place] - others.max(1).values).unflatten(1, grids.shape[2:])


def run(job: JobContext) -> dict[str, Any]:
    """The patches by which the most central images of a cluster belong to it and to no other."""
    job.progress("patches that distinguish the cluster")
    request, pack = job.request, job.pack
    cluster = request.cluster or 0
    labels, near = pack.column(request.of).astype(np.int64), pack.column(nearness_column(request.of))
    labels = np.where(np.isin(labels, request.parts), cluster, labels)
    members = np.flatnonzero(labels == cluster)
    rows = members[np.argsort(-near[members], kind="stable")][:TOP]
    return prototypes(job.phi, job.source, rows, labels, np.asarray(job.vectors(output=True)), cluster, job.out)
