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
    """Patches that distinguish a cluster in its most central images, from the most to the least distinctive image.

    With ``c_k`` the mean of the unit-length vectors of cluster k, locations are scored by ``<x, c_k> - max_j≠k <x, c_j>``, x the unit-length
    vector of a location.

    Args:
        phi: the representation.
        source: the data set.
        rows: rows of the images.
        labels: cluster of each image of the data set.
        vectors: features of each image of the data set.
        cluster: the cluster.
        out: folder of the files.

    Raises:
        UsageError: location and image features have different dimensions.
    """
    pixels = central_squares(source, rows, phi.size)
    scores = _distinctiveness(phi.grid(pixels).float().cpu(), labels, vectors, cluster)
    upsampled = interpolate(scores[:, None], pixels.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    highest = upsampled.flatten(1).max(1).values
    best = highest.argsort(descending=True)
    low = upsampled.flatten(1).min(1).values
    heats = (upsampled - low[:, None, None]) / (highest - low).clamp(min=1e-9)[:, None, None]
    numbers = [round(float(value), 4) for value in highest[best]]
    description = "locations that distinguish the cluster from the others"
    return save_heatmaps(rows[best.numpy()], pixels[best], heats[best], numbers, out, description)


def _distinctiveness(
    grids: Float[torch.Tensor, "row dim rows columns"], labels: np.ndarray, vectors: np.ndarray, cluster: int
) -> Float[torch.Tensor, "row rows columns"]:
    """Similarity of each location to the cluster's centre minus the largest similarity to any other."""
    if grids.shape[1] != vectors.shape[1]:
        raise UsageError("Location and image features have different dimensions.", "Use a network whose output is a mean over locations.")
    unit = normalize(torch.from_numpy(np.array(vectors, dtype=np.float32)) - torch.from_numpy(vectors.mean(0, dtype=np.float32)))
    clusters = np.unique(labels)
    centres = normalize(torch.stack([unit[torch.from_numpy(labels == number)].mean(0) for number in clusters]))
    index = int(np.flatnonzero(clusters == cluster)[0])
    locations = normalize(grids.flatten(2) - torch.from_numpy(vectors.mean(0, dtype=np.float32))[:, None], dim=1)
    similarity = torch.einsum("kd,bdp->bkp", centres, locations)
    others = similarity.clone()
    others[:, index] = -torch.inf
    return (similarity[:, index] - others.max(1).values).unflatten(1, grids.shape[2:])


def run(job: JobContext) -> dict[str, Any]:
    """Patches of a cluster's most central images that distinguish it from all other clusters."""
    job.progress("patches that distinguish the cluster")
    request, pack = job.request, job.pack
    cluster = request.cluster or 0
    labels, near = pack.column(request.of).astype(np.int64), pack.column(nearness_column(request.of))
    labels = np.where(np.isin(labels, request.parts), cluster, labels)
    members = np.flatnonzero(labels == cluster)
    rows = members[np.argsort(-near[members], kind="stable")][:TOP]
    return prototypes(job.phi, job.source, rows, labels, np.asarray(job.vectors(output=True)), cluster, job.out)
