"""Images that several jobs draw."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image

from selfsight.data.evaluation_view import evaluation_view
from selfsight.data.source import Source
from selfsight.render.overlay import overlay_heat

__all__ = ["Pixels", "as_bytes", "central_squares", "save_heatmaps", "save_sheet"]

Pixels = UInt8[np.ndarray, "height width 3"]
HALF = 0.5
"""Fraction of a unit's maximum above which it is active."""
LEAST = 0.3
"""Minimum side of a crop as a fraction of the image's side."""


def central_squares(source: Source, rows: np.ndarray, size: int) -> Float[torch.Tensor, "row channel size size2"]:
    """Images in the evaluation view of the network.

    Args:
        source: the data set.
        rows: rows to read.
        size: side in pixels.
    """
    return evaluation_view(source, size)(rows)


def as_bytes(pixels: Float[torch.Tensor, "channel height width"]) -> Pixels:
    """Pixels in [0, 1] as bytes ``(H, W, 3)``."""
    levels = (pixels.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    return levels if levels.shape[2] == 3 else levels[..., :1].repeat(3, 2)


def save_heatmaps(
    rows: Sequence[int] | np.ndarray,
    pixels: Float[torch.Tensor, "row channel height width"],
    heats: Float[torch.Tensor, "row height width"],
    numbers: Sequence[float],
    out: Path,
    words: str,
) -> dict[str, Any]:
    """Write two files per image: a heat map over it, and a crop around the maximum.

    Args:
        rows: rows of the images.
        pixels: images ``(N, C, H, W)`` in [0, 1].
        heats: heat maps ``(N, H, W)`` in [0, 1].
        numbers: a value per image.
        out: folder of the files.
        words: description of the result.

    Returns:
        The answer of the job.
    """
    out.mkdir(parents=True, exist_ok=True)
    places: list[dict[str, Any]] = []
    for row, image, heat, number in zip(rows, pixels, heats, numbers, strict=True):
        pixels_shown = as_bytes(image)
        for name, drawn in (("where", overlay_heat(pixels_shown, heat.numpy())), ("what", _crop(pixels_shown, heat.numpy()))):
            Image.fromarray(drawn).save(out / f"{name}-{int(row)}.png")
        places.append({"row": int(row), "number": number})
    files = [f"{name}-{place['row']}.png" for place in places for name in ("where", "what")]
    return {"files": files, "places": places, "words": words}


def _crop(image: Pixels, heat: Float[np.ndarray, "height width"]) -> UInt8[np.ndarray, "side side 3"]:
    """Square crop around the maximum that contains its connected region of at least half the maximum."""
    from scipy import ndimage

    top, left = divmod(int(heat.argmax()), heat.shape[1])
    labelled: Any = ndimage.label(heat >= HALF * heat.max())
    labels = labelled[0]
    down, across = np.nonzero(labels == labels[top, left])
    size = min(image.shape[:2])
    side = int(np.clip(max(np.ptp(down), np.ptp(across)) + 1, LEAST * size, size))
    first = [
        int(np.clip((axis.min() + axis.max() + 1 - side) // 2, 0, length - side))
        for axis, length in zip((down, across), image.shape, strict=False)
    ]
    return image[first[0] : first[0] + side, first[1] : first[1] + side]


def save_sheet(png: bytes, out: Path, words: str) -> dict[str, Any]:
    """Write a PNG as ``sheet.png``; returns the answer of the job.

    Args:
        png: the encoded image.
        out: folder of the file.
        words: description of the result.
    """
    out.mkdir(parents=True, exist_ok=True)
    (out / "sheet.png").write_bytes(png)
    return {"files": ["sheet.png"], "words": words}
