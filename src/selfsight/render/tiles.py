"""Display and files of discoveries: sheets of tiles, one mask file per image."""

from collections import Counter
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path, PurePosixPath

from PIL import Image

from selfsight.data.readers.folder import IMAGE_SUFFIXES
from selfsight.render.overlay import SIDE

__all__ = ["SHOWN", "mask_files", "page"]

SHOWN = 48
"""Maximum number of images on a sheet."""


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
