"""Small test images."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def photograph(seed: int, height: int = 24, width: int = 32) -> np.ndarray:
    """A smooth random image (height x width x 3), different for each seed."""
    chance = np.random.default_rng(seed).integers(0, 256, (3, 4, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(chance).resize((width, height), Image.Resampling.BICUBIC))


def encoded(pixels: np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def bomb(side: int = 20_000) -> bytes:
    """A black PNG of 20,000 x 20,000 pixels of one bit in a few hundred bytes; complete up to 8,000 px."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(side * (side // 8 + 2) if side <= 8_000 else 100_000)))
        + chunk(b"IEND", b"")
    )


def damaged_folder(root: Path) -> Path:
    """A hundred images in two class folders, five of them damaged, and other files."""
    for name in ("cat", "dog"):
        (root / name / "deep").mkdir(parents=True)
    for number in range(93):
        place = root / ("cat" if number % 2 else "dog") / ("deep" if number % 3 else "")
        (place / f"{number:03}.png").write_bytes(encoded(photograph(number)))
    whole = encoded(photograph(500), "JPEG")
    cat = root / "cat"
    (cat / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (cat / "empty.jpg").write_bytes(b"")
    (cat / "text.jpg").write_text("this is no picture")
    (cat / "bomb.png").write_bytes(bomb())
    (cat / "a 'quoted' \"name\"\nof two lines.png").write_bytes(b"\x89PNG broken")
    (cat / "really a png.jpg").write_bytes(encoded(photograph(501)))
    Image.fromarray(photograph(502)).convert("CMYK").save(cat / "cmyk.jpg")
    Image.fromarray(np.linspace(0, 65535, 24 * 32).reshape(24, 32).astype(np.uint16)).save(cat / "sixteen.png")
    (cat / "notes.txt").write_text("left alone")
    (root / "loop").symlink_to(root)
    return root
