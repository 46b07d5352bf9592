"""Segments of one image."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8

from selfsight.core.representation import Representation
from selfsight.data.source import Source
from selfsight.discover.dense.features import FeatureSpec, iter_feature_batches
from selfsight.explorer.worker.drawing import save_sheet
from selfsight.explorer.worker.request import JobContext
from selfsight.render.overlay import fitted
from selfsight.render.tiles import page

__all__ = ["run", "segments"]


def segments(phi: Representation, source: Source, row: int, out: Path) -> dict[str, Any]:
    """Principal components of an image's features as colours, and its smoothest eigenvectors.

    Args:
        phi: the representation.
        source: the data set.
        row: row of the image.
        out: folder of the sheet.
    """
    (feature_batch,) = iter_feature_batches(phi, source, FeatureSpec(max(phi.size, 96), vectors=5), rows=np.array([row]))
    vectors = [_signed(vector.unflatten(0, feature_batch.shape)) for vector in feature_batch.spectrum.vectors[0, 1:5]]
    images = [feature_batch.small(1)[0], _components(feature_batch.features[0]), *vectors]
    words = "the image, its locations by three principal components, and its smoothest eigenvectors"
    return save_sheet(page([fitted(vector) for vector in images], across=6), out, words)


def _components(features: Float[torch.Tensor, "dim rows columns"]) -> UInt8[np.ndarray, "rows columns 3"]:
    """The first three principal components as colours."""
    rows = features.flatten(1).T.double()
    rows = rows - rows.mean(0)
    _, _, directions = torch.linalg.svd(rows, full_matrices=False)
    components = rows @ directions[:3].T
    low, high = components.quantile(0.02, 0), components.quantile(0.98, 0)
    scaled = ((components - low) / (high - low).clamp(min=1e-9)).clamp(0, 1)
    return (scaled * 255).round().to(torch.uint8).unflatten(0, features.shape[1:]).cpu().numpy()


def _signed(vector: Float[torch.Tensor, "rows columns"]) -> UInt8[np.ndarray, "rows columns 3"]:
    """An eigenvector as colours: orange above 0, blue below."""
    part = (vector / vector.abs().max().clamp(min=1e-12)).double().cpu().numpy()[..., None]
    orange, blue = np.array([230, 97, 1.0]), np.array([33, 102, 172.0])
    return (255 + np.abs(part) * (np.where(part > 0, orange, blue) - 255)).round().astype(np.uint8)


def run(job: JobContext) -> dict[str, Any]:
    """Principal components and eigenvectors of one image's features."""
    job.progress("eigenvectors of the image's locations")
    return segments(job.phi, job.source, job.request.item, job.out)
