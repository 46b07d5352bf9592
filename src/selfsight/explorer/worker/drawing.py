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

__all__ = ["Picture", "as_bytes", "central_squares", "heated", "save_heatmaps", "save_sheet"]

Picture = UInt8[np.ndarray, "height width 3"]
HALF = 0.5
"""Of a unit's peak: where it is as high, it is taken to be on."""
LEAST = 0.3
"""Of a picture's side that a crop has at least."""


def central_squares(source: Source, rows: np.ndarray, size: int) -> Float[torch.Tensor, "row channel size size2"]:
    """What a network sees of pictures: their middles."""
    return evaluation_view(source, size)(rows)


def as_bytes(pixels: Float[torch.Tensor, "channel height width"]) -> Picture:
    """Pixels in [0, 1] as bytes with three channels, height x width x 3."""
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
    """For each picture two files: heat over it, and a crop around the peak."""
    out.mkdir(parents=True, exist_ok=True)
    told: list[dict[str, Any]] = []
    for row, one, heat, number in zip(rows, pixels, heats, numbers, strict=True):
        picture = as_bytes(one)
        for name, shown in (("where", heated(picture, heat.numpy())), ("what", _crop(picture, heat.numpy()))):
            Image.fromarray(shown).save(out / f"{name}-{int(row)}.png")
        told.append({"row": int(row), "number": number})
    files = [f"{name}-{one['row']}.png" for one in told for name in ("where", "what")]
    return {"files": files, "places": told, "words": words}


def heated(picture: Picture, heat: Float[np.ndarray, "height width"]) -> Picture:
    """A picture in grey where there is no heat, in its own colours and warmed where there is."""
    part = heat.clip(0, 1)[..., None]
    grey = 0.5 * picture.mean(2, keepdims=True) + 40
    warm = 0.75 * picture + 0.25 * np.array([255, 120, 0])
    return ((1 - part) * grey + part * warm).round().clip(0, 255).astype(np.uint8)


def _crop(picture: Picture, heat: Float[np.ndarray, "height width"]) -> UInt8[np.ndarray, "side side 3"]:
    """The square around the peak that holds its piece of at least half its height."""
    from scipy import ndimage

    top, left = divmod(int(heat.argmax()), heat.shape[1])
    found: Any = ndimage.label(heat >= HALF * heat.max())
    labels = found[0]
    down, across = np.nonzero(labels == labels[top, left])
    size = min(picture.shape[:2])
    side = int(np.clip(max(np.ptp(down), np.ptp(across)) + 1, LEAST * size, size))
    first = [
        int(np.clip((one.min() + one.max() + 1 - side) // 2, 0, whole - side))
        for one, whole in zip((down, across), picture.shape, strict=False)
    ]
    return picture[first[0] : first[0] + side, first[1] : first[1] + side]


def save_sheet(png: bytes, out: Path, words: str) -> dict[str, Any]:
    """Write a PNG as ``sheet.png`` into a folder; what the job answers."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "sheet.png").write_bytes(png)
    return {"files": ["sheet.png"], "words": words}
