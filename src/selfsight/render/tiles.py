"""Display and files of discoveries: sheets of tiles, colours, one mask file per image."""

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
"""Maximum number of images on a sheet."""
SIDE = 160
"""Side of a tile in pixels."""
COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (204, 121, 167), (213, 94, 0))
"""Okabe and Ito's palette, distinguishable with colour blindness."""


def mask_files(names: Sequence[str], folder: Path) -> Iterator[Path]:
    """A PNG path per image below a folder: the image's name, with its suffix if two images would share a path.

    Args:
        names: names of the images.
        folder: folder of the files.
    """
    paths = [PurePosixPath(*(part for part in PurePosixPath(name).parts if part not in ("/", ".."))) for name in names]
    stems = [path.with_suffix("") if path.suffix.lower() in IMAGE_SUFFIXES else path for path in paths]
    counts = Counter(stems)
    for path, bare in zip(paths, stems, strict=True):
        stem = bare if counts[bare] == 1 else path
        yield folder / stem.parent / f"{stem.name}.png"


def stretched(grid: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Nearest-neighbour upsampling of a grid to pixels.

    Args:
        grid: ``(rows, columns)`` values.
        size: height and width in pixels.
    """
    down, across = (np.arange(side) * cells // side for side, cells in zip(size, grid.shape, strict=True))
    return grid[down[:, None], across]


def fitted(picture: UInt8[np.ndarray, "height width 3"], side: int = SIDE) -> Image.Image:
    """Resize an image to a longest side.

    Args:
        picture: the image ``(H, W, 3)``.
        side: longest side in pixels.
    """
    image = Image.fromarray(picture)
    scale = side / max(image.size)
    width, height = (max(round(length * scale), 1) for length in image.size)
    return image.resize((width, height), Image.Resampling.BILINEAR)


def page(tiles: Sequence[Image.Image], across: int = 8, side: int = SIDE, gap: int = 8) -> bytes:
    """A grid of tiles as PNG, each centred in a square.

    Args:
        tiles: the tiles.
        across: columns.
        side: side of a cell in pixels.
        gap: pixels between cells.
    """
    across = min(across, max(len(tiles), 1))
    down = -(-len(tiles) // across) or 1
    sheet = Image.new("RGB", (across * (side + gap) + gap, down * (side + gap) + gap), "white")
    for index, tile in enumerate(tiles):
        left, top = (gap + part * (side + gap) for part in (index % across, index // across))
        sheet.paste(tile, (left + (side - tile.width) // 2, top + (side - tile.height) // 2))
    out = BytesIO()
    sheet.save(out, "PNG")
    return out.getvalue()


def many_colours(count: int) -> UInt8[np.ndarray, "count 3"]:
    """Colours for ``count`` classes: the palette, then golden-angle steps of the hue."""
    import colorsys

    wheel = [colorsys.hsv_to_rgb(index * 0.618034 % 1, 0.55 + 0.35 * (index % 2), 0.95 - 0.25 * (index % 3 == 2)) for index in range(count)]
    return np.array(
        [*COLOURS, *((np.array(colour) * 255).astype(int).tolist() for colour in wheel[len(COLOURS) :])][:count], dtype=np.uint8
    )


def painted(
    picture: UInt8[np.ndarray, "height width 3"], numbers: Int[np.ndarray, "rows columns"], colours: UInt8[np.ndarray, "count 3"]
) -> Image.Image:
    """A tile of an image with class colours; background (0) is pale grey.

    Args:
        picture: the image ``(H, W, 3)``.
        numbers: class at each location, from 1; 0 is background.
        colours: colour per class.
    """
    tile = fitted(picture)
    classes = stretched(numbers, (tile.height, tile.width))
    pixels = np.asarray(tile).astype(float)
    grey = pixels.mean(2, keepdims=True)
    blended = np.where((classes > 0)[..., None], 0.45 * grey + 0.55 * colours[(classes - 1).clip(min=0)], 0.35 * grey + 150)
    return Image.fromarray(blended.clip(0, 255).astype(np.uint8))
