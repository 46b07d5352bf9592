"""Sheets: rows of images with captions as one PNG; and results as files."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from selfsight.core.json_text import json_text

__all__ = ["Tile", "finite_or_none", "save_result", "sheet", "unique_names"]

SIDE = 1.7
"""Width of an image in inches."""


@dataclass(frozen=True)
class Tile:
    """An image of a sheet.

    Attributes:
        image: pixels, 0 to 255 or in [0, 1].
        words: caption.
        facts: the numbers in the caption.
        title: title above the image.
    """

    image: UInt8[np.ndarray, "height width 3"] | Float[np.ndarray, "height width 3"]
    words: str = ""
    facts: Mapping[str, float] = field(default_factory=dict)
    title: str = ""


def sheet(rows: Mapping[str, Sequence[Tile]], titles: Sequence[str] = ()) -> bytes:
    """Rows of images by name as PNG.

    Args:
        rows: tiles by row name; rows can have different lengths.
        titles: title of each column.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns, row_count = max(len(row) for row in rows.values()), len(rows)
    heights = [
        SIDE * max(tile.image.shape[0] / tile.image.shape[1] for tile in row) + (0.55 if any(tile.title for tile in row) else 0.3)
        for row in rows.values()
    ]
    figure = Figure(figsize=(SIDE * columns + 0.4, sum(heights) + (0.35 if titles else 0.15)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(row_count, columns, squeeze=False, height_ratios=heights)
    for line, (name, row) in zip(grid, rows.items(), strict=True):
        line[0].set_ylabel(_short(name), fontsize=7, parse_math=False)
        for axes, tile in zip(line, row, strict=False):
            axes.imshow(tile.image)
            axes.set_xlabel(tile.words, fontsize=7, parse_math=False)
            axes.set_title(tile.title, fontsize=8, parse_math=False)
    for axes, title in zip(grid[0], titles, strict=False):
        axes.set_title(title, fontsize=8, parse_math=False)
    for axes in grid.flat:
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=120, format="png")
    return buffer.getvalue()


def finite_or_none(value: Tensor) -> float | None:
    """A number for JSON; ``None`` for NaN and infinity."""
    return float(value) if bool(value.isfinite()) else None


def unique_names(names: Sequence[str]) -> tuple[str, ...]:
    """The names, with a number appended to repeated ones."""
    return tuple(f"{name} ({names[:index].count(name) + 1})" if name in names[:index] else name for index, name in enumerate(names))


def _short(name: str, most: int = 24) -> str:
    return name if len(name) <= most else f"…{name[1 - most :]}"


def save_result(folder: Path, png: bytes, arrays: tuple[str, Mapping[str, np.ndarray]], plain: tuple[str, Mapping[str, Any]]) -> list[Path]:
    """Write ``sheet.png``, arrays as NPZ and facts as JSON; returns the paths.

    Args:
        folder: where the files are written.
        png: the sheet.
        arrays: base name of the NPZ file, and arrays by name.
        plain: base name of the JSON file, and its content.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "sheet.png", folder / f"{arrays[0]}.npz", folder / f"{plain[0]}.json"]
    paths[0].write_bytes(png)
    np.savez_compressed(paths[1], **arrays[1])  # pyright: ignore[reportArgumentType]
    paths[2].write_text(json_text(plain[1], indent=1) + "\n")
    return paths
