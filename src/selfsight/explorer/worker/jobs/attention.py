"""Attention maps of the last block."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate

from selfsight.core.representation import Representation
from selfsight.data.source import Source
from selfsight.explorer.worker.drawing import as_bytes, central_squares, heated, save_sheet
from selfsight.explorer.worker.request import JobContext
from selfsight.render.sheet import Tile, sheet

__all__ = ["attention", "run"]


@torch.no_grad()
def attention(phi: Representation, source: Source, row: int, out: Path) -> dict[str, Any]:
    """What each head of the last block looks at from the class token (or, where there is none, on average), and their mean.

    Raises:
        UsageError: the network has no attention.
    """
    pixels = central_squares(source, np.array([row]), phi.size)
    feature_batch = phi.attention(pixels)[0].float().cpu()
    prefix = int(getattr(phi.backbone, "prefix", 0))
    rows = feature_batch[:, 0, prefix:] if prefix else feature_batch.mean(1)
    side = round(rows.shape[1] ** 0.5)
    maps = interpolate(rows.unflatten(1, (side, side))[None], pixels.shape[2:], mode="bilinear", align_corners=False)[0]
    picture = as_bytes(pixels[0])
    heads = [Tile(heated(picture, (one / one.max()).numpy()), f"head {number}") for number, one in enumerate(maps)]
    mean = maps.mean(0)
    shown = [Tile(picture, "picture"), Tile(heated(picture, (mean / mean.max()).numpy()), "mean of heads"), *heads]
    lines = {f"{'attention' if not start else ''}{' ' * start}": shown[start : start + 6] for start in range(0, len(shown), 6)}
    return save_sheet(
        sheet(lines), out, "what the last block's heads look at from the class token" if prefix else "where the heads look, on average"
    )


def run(job: JobContext) -> dict[str, Any]:
    """Attention of each head of the last block for one image."""
    return attention(job.phi, job.source, job.request.item, job.out)
