"""Attention maps of the last block."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate

from selfsight.core.representation import Representation
from selfsight.data.source import Source
from selfsight.explorer.worker.drawing import as_bytes, central_squares, save_sheet
from selfsight.explorer.worker.request import JobContext
from selfsight.render.overlay import overlay_heat
from selfsight.render.sheet import Tile, sheet

__all__ = ["attention", "run"]


@torch.no_grad()
def attention(phi: Representation, source: Source, row: int, out: Path) -> dict[str, Any]:
    """Attention of each head of the last block from the class token (without one, averaged over tokens), and their mean.

    Args:
        phi: the representation.
        source: the data set.
        row: row of the image.
        out: folder of the sheet.

    Raises:
        UsageError: the network has no attention.
    """
    pixels = central_squares(source, np.array([row]), phi.size)
    weights = phi.attention(pixels)[0].float().cpu()
    prefix = phi.token_layout.prefix
    rows = weights[:, 0, prefix:] if prefix else weights.mean(1)
    side = round(rows.shape[1] ** 0.5)
    maps = interpolate(rows.unflatten(1, (side, side))[None], pixels.shape[2:], mode="bilinear", align_corners=False)[0]
    image = as_bytes(pixels[0])
    heads = [Tile(overlay_heat(image, (one / one.max()).numpy()), f"head {number}") for number, one in enumerate(maps)]
    mean = maps.mean(0)
    tiles = [Tile(image, "image"), Tile(overlay_heat(image, (mean / mean.max()).numpy()), "mean of heads"), *heads]
    lines = {f"{'attention' if not start else ''}{' ' * start}": tiles[start : start + 6] for start in range(0, len(tiles), 6)}
    return save_sheet(
        sheet(lines),
        out,
        "attention of the last block's heads from the class token" if prefix else "mean attention of the last block's heads",
    )


def run(job: JobContext) -> dict[str, Any]:
    """Attention of each head of the last block for one image."""
    return attention(job.phi, job.source, job.request.item, job.out)
