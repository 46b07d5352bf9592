"""Where a unit is active in its most activating images."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate

from selfsight.core.errors import UsageError
from selfsight.core.representation import Representation
from selfsight.data.source import Source
from selfsight.explorer.worker.drawing import central_squares, save_heatmaps
from selfsight.explorer.worker.request import TOP, JobContext

__all__ = ["crops", "run"]


@torch.no_grad()
def crops(phi: Representation, source: Source, layer: str | None, unit: int, rows: np.ndarray, out: Path) -> dict[str, Any]:
    """Where a unit is active in some images, as heat maps, and crops of these regions.

    The heat map is the unit's feature map, upsampled bilinearly, from 0 to its maximum over all of these images. A crop contains the region
    around the maximum that is at least half as high.

    Args:
        phi: the representation.
        source: the data set.
        layer: dotted name; None: the output.
        unit: index of the unit.
        rows: rows of the images.
        out: folder of the files.

    Raises:
        UsageError: the layer has no feature map.
    """
    pixels = central_squares(source, rows, phi.size)
    grids = phi.grid(pixels, layer)
    if unit >= grids.shape[1]:
        raise UsageError(f"Unit {unit} of the output has no feature map.", "Use a unit of an inner layer.")
    upsampled = (
        interpolate(grids[:, unit : unit + 1].float(), pixels.shape[2:], mode="bilinear", align_corners=False)[:, 0].cpu().clamp(min=0)
    )
    peak = upsampled.max().clamp(min=1e-12)
    maxima = [round(float(heat.max()), 4) for heat in upsampled]
    return save_heatmaps(rows, pixels, upsampled / peak, maxima, out, "activation map of the unit, and crops around its maximum")


def run(job: JobContext) -> dict[str, Any]:
    """The most activating images of a unit, with a heat map and a crop around the peak."""
    job.progress("locations of the unit's highest activations")
    unit = job.request.unit or 0
    rows = np.argsort(-np.asarray(job.vectors()[:, unit], dtype=np.float64), kind="stable")[:TOP]
    return crops(job.phi, job.source, job.request.inner_layer, unit, rows, job.out)
