"""Sheets: pictures in rows, with words under each, as one image; and results as files."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

__all__ = ["Tile", "finite_or_none", "save_result", "sheet", "unique_names"]

SIDE = 1.7
"""Inches that a picture is wide."""


@dataclass(frozen=True)
class Tile:
    """A picture of levels (0 to 255) or of parts (0 to 1), its words, the numbers behind them, and what stands above it."""

    picture: UInt8[np.ndarray, "height width 3"] | Float[np.ndarray, "height width 3"]
    words: str = ""
    facts: Mapping[str, float] = field(default_factory=dict)
    title: str = ""


def sheet(rows: Mapping[str, Sequence[Tile]], titles: Sequence[str] = ()) -> bytes:
    """A PNG: rows by name from top to bottom, pictures from left to right.

    Args:
        rows: pictures; rows may be of several lengths.
        titles: what stands above each column.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    wide, high = max(len(row) for row in rows.values()), len(rows)
    heights = [
        SIDE * max(one.picture.shape[0] / one.picture.shape[1] for one in row) + (0.55 if any(one.title for one in row) else 0.3)
        for row in rows.values()
    ]
    figure = Figure(figsize=(SIDE * wide + 0.4, sum(heights) + (0.35 if titles else 0.15)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(high, wide, squeeze=False, height_ratios=heights)
    for line, (name, row) in zip(grid, rows.items(), strict=True):
        line[0].set_ylabel(_short(name), fontsize=7, parse_math=False)
        for axes, one in zip(line, row, strict=False):
            axes.imshow(one.picture)
            axes.set_xlabel(one.words, fontsize=7, parse_math=False)
            axes.set_title(one.title, fontsize=8, parse_math=False)
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
    """A number for JSON, which knows no NaN."""
    return float(value) if bool(value.isfinite()) else None


def unique_names(names: Sequence[str]) -> tuple[str, ...]:
    """The names, with a number at those that came before."""
    return tuple(f"{name} ({names[:place].count(name) + 1})" if name in names[:place] else name for place, name in enumerate(names))


def _short(name: str, most: int = 24) -> str:
    return name if len(name) <= most else f"…{name[1 - most :]}"


def save_result(folder: Path, png: bytes, arrays: tuple[str, Mapping[str, np.ndarray]], plain: tuple[str, Mapping[str, Any]]) -> list[Path]:
    """Write ``sheet.png``, named arrays as NPZ and plain facts as JSON, the last two under the names given; return the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "sheet.png", folder / f"{arrays[0]}.npz", folder / f"{plain[0]}.json"]
    paths[0].write_bytes(png)
    np.savez_compressed(paths[1], **arrays[1])  # pyright: ignore[reportArgumentType]
    paths[2].write_text(json.dumps(plain[1], indent=1) + "\n")
    return paths
