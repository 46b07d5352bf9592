"""How discoveries are shown and filed: sheets of tiles, colours, a file for each picture."""

from collections import Counter
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from selfsight.data.readers.folder import IMAGE_SUFFIXES

__all__ = ["COLOURS", "SHOWN", "SIDE", "fitted", "many_colours", "mask_files", "page", "painted", "stretched"]

SHOWN = 48
"""Pictures on a sheet at most."""
SIDE = 160
"""Of a tile, in pixels."""
COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (204, 121, 167), (213, 94, 0))
"""Okabe and Ito's, which most eyes can tell apart."""


def mask_files(names: Sequence[str], folder: Path) -> Iterator[Path]:
    """A PNG for each picture below a folder, whatever names hold: of the picture's name, with its ending where two would share one."""
    plain = [PurePosixPath(*(part for part in PurePosixPath(name).parts if part not in ("/", ".."))) for name in names]
    short = [path.with_suffix("") if path.suffix.lower() in IMAGE_SUFFIXES else path for path in plain]
    shared = Counter(short)
    for path, bare in zip(plain, short, strict=True):
        stem = bare if shared[bare] == 1 else path
        yield folder / stem.parent / f"{stem.name}.png"


def stretched(grid: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """What a grid of places says at each pixel (row, column) of a picture of some size: that of the place in which it lies."""
    down, across = (np.arange(side) * places // side for side, places in zip(size, grid.shape, strict=True))
    return grid[down[:, None], across]


def fitted(picture: UInt8[np.ndarray, "height width 3"], side: int = SIDE) -> Image.Image:
    """A picture with a longest side of so many pixels."""
    image = Image.fromarray(picture)
    scale = side / max(image.size)
    width, height = (max(round(length * scale), 1) for length in image.size)
    return image.resize((width, height), Image.Resampling.BILINEAR)


def page(tiles: Sequence[Image.Image], across: int = 8, side: int = SIDE, gap: int = 8) -> bytes:
    """Tiles in rows, each in the middle of a square, as PNG."""
    across = min(across, max(len(tiles), 1))
    down = -(-len(tiles) // across) or 1
    sheet = Image.new("RGB", (across * (side + gap) + gap, down * (side + gap) + gap), "white")
    for place, tile in enumerate(tiles):
        left, top = (gap + part * (side + gap) for part in (place % across, place // across))
        sheet.paste(tile, (left + (side - tile.width) // 2, top + (side - tile.height) // 2))
    out = BytesIO()
    sheet.save(out, "PNG")
    return out.getvalue()


def many_colours(count: int) -> UInt8[np.ndarray, "count 3"]:
    """As many colours as there are kinds: the first six for all eyes, then steps of the golden angle around the wheel."""
    import colorsys

    wheel = [colorsys.hsv_to_rgb(place * 0.618034 % 1, 0.55 + 0.35 * (place % 2), 0.95 - 0.25 * (place % 3 == 2)) for place in range(count)]
    return np.array([*COLOURS, *((np.array(one) * 255).astype(int).tolist() for one in wheel[len(COLOURS) :])][:count], dtype=np.uint8)


def painted(
    picture: UInt8[np.ndarray, "height width 3"], numbers: Int[np.ndarray, "rows columns"], colours: UInt8[np.ndarray, "count 3"]
) -> Image.Image:
    """A tile: the picture, and over it the colour of each place's number from 1; what has 0 stays pale grey."""
    tile = fitted(picture)
    at = stretched(numbers, (tile.height, tile.width))
    pixels = np.asarray(tile).astype(float)
    grey = pixels.mean(2, keepdims=True)
    shown = np.where((at > 0)[..., None], 0.45 * grey + 0.55 * colours[(at - 1).clip(min=0)], 0.35 * grey + 150)
    return Image.fromarray(shown.clip(0, 255).astype(np.uint8))
