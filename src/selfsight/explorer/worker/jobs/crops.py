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
    """Where a unit is high in some pictures, as heat over them, and what lies there.

    Heat is the unit's own map, bilinearly enlarged, from 0 to its highest value in all of these pictures. A crop holds the part around
    the peak that is at least half as high as it.

    Raises:
        UsageError: the layer has no places.
    """
    pixels = central_squares(source, rows, phi.size)
    grids = phi.grid(pixels, layer)
    if unit >= grids.shape[1]:
        raise UsageError(f"Unit {unit} of the output has no places.", "Look at a unit of an inner layer.")
    large = interpolate(grids[:, unit : unit + 1].float(), pixels.shape[2:], mode="bilinear", align_corners=False)[:, 0].cpu().clamp(min=0)
    peak = large.max().clamp(min=1e-12)
    heights = [round(float(one.max()), 4) for one in large]
    return save_heatmaps(rows, pixels, large / peak, heights, out, "where the unit is high, and what lies there")


def run(job: JobContext) -> dict[str, Any]:
    """The most activating images of a unit, with a heat map and a crop around the peak."""
    job.progress("locations of the unit's highest activations")
    unit = job.request.unit or 0
    rows = np.argsort(-np.asarray(job.vectors()[:, unit], dtype=np.float64), kind="stable")[:TOP]
    return crops(job.phi, job.source, job.request.inner_layer, unit, rows, job.out)
