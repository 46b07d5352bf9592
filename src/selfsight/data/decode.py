"""Decoding of image files to upright 8-bit RGB, with Pillow (no torch).

Pillow rather than torchvision's decoder: downscaling during JPEG decoding (``draft``) makes packing of photographs several times faster,
CMYK and 16-bit files are converted correctly, and results do not depend on which decoder is installed.
"""

import io
import struct
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

__all__ = ["MAX_PIXELS", "Payload", "Unreadable", "decode", "header"]

MAX_PIXELS = 64_000_000
"""Larger images are rejected by their header before decoding, as possible decompression bombs."""

MAX_BYTES = 512 * 2**20
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF", "ICO")
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, ArithmeticError, LookupError, TypeError, struct.error, Warning)
_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

Payload = bytes | Path | Image.Image


class Unreadable(Exception):
    """An image that cannot be read, with a short reason."""


def header(payload: Payload) -> tuple[Image.Image, tuple[int, int]]:
    """Open an image without decoding it.

    Returns:
        The opened image and its upright (height, width) in pixels.

    Raises:
        Unreadable: empty, not an image, or more than 64 million pixels.
    """
    try:
        image = _opened(payload)
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise Unreadable(f"too many pixels: {width} x {height}")
        turned = _orientation(image) >= 5
    except Image.UnidentifiedImageError:
        raise Unreadable("not an image") from None
    except _BOMBS:
        raise Unreadable(f"too many pixels: more than {MAX_PIXELS // 10**6} million") from None
    except _BROKEN as problem:
        raise Unreadable(_words(problem)) from None
    return image, ((width, height) if turned else (height, width))


@lru_cache(maxsize=1)
def _formats() -> tuple[str, ...]:
    """Supported formats of this build of Pillow; none of them runs another program."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _opened(payload: Payload) -> Image.Image:
    if isinstance(payload, Image.Image):
        return payload
    size = len(payload) if isinstance(payload, bytes) else payload.stat().st_size
    if size == 0:
        raise Unreadable("empty file")
    if size > MAX_BYTES:
        raise Unreadable(f"file too large: {size / 2**20:.0f} MiB")
    return Image.open(io.BytesIO(payload) if isinstance(payload, bytes) else payload, formats=_formats())


def decode(payload: Payload, side: int | None = None) -> tuple[UInt8[np.ndarray, "3 height width"], tuple[int, int]]:
    """Decode an image: upright, three channels, 8 bits; the first frame of an animation.

    16-bit values are rescaled, transparency is composited on white, CMYK and palettes are converted.

    Args:
        payload: the encoded bytes, a path, or an opened Pillow image.
        side: maximum side in pixels; larger images are downscaled with antialiasing. None: unchanged.

    Returns:
        The pixels, and the image's own upright (height, width) before downscaling.

    Raises:
        Unreadable: with the reason.
    """
    image, (height, width) = header(payload)
    scale = 1.0 if side is None else min(1.0, side / max(height, width))
    try:
        with image if not isinstance(payload, Image.Image) else _kept(image):
            if scale < 0.5 and image.format in ("JPEG", "MPO"):
                image.draft(None, (2 * round(image.width * scale), 2 * round(image.height * scale)))
            rgb = _rgb(image)
            if (transpose := _UPRIGHT.get(_orientation(image))) is not None:
                rgb = rgb.transpose(transpose)
            if scale < 1.0:
                target = (max(1, round(width * scale)), max(1, round(height * scale)))
                rgb = rgb.resize(target, Image.Resampling.BILINEAR, reducing_gap=3.0)
            pixels = np.asarray(rgb, dtype=np.uint8)
    except _BOMBS:
        raise Unreadable("too many pixels") from None
    except _BROKEN as problem:
        raise Unreadable(_words(problem)) from None
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)), (height, width)


class _kept:  # noqa: N801 - a context that leaves the caller's image open
    def __init__(self, image: Image.Image) -> None:
        self.image = image

    def __enter__(self) -> Image.Image:
        return self.image

    def __exit__(self, *_: object) -> None: ...


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(0x0112, 1))
    except _BROKEN:  # ignore a damaged tag
        return 1


def _rgb(image: Image.Image) -> Image.Image:
    """Convert to three 8-bit channels."""
    if image.mode.startswith(("I", "F")):
        image = Image.fromarray(_eight_bits(np.asarray(image)))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        foreground = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", foreground.size, "white"), foreground)
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    rgb.load()
    return rgb


def _eight_bits(values: np.ndarray) -> np.ndarray:
    """Rescale to 8 bits: integers from 16 bits, floats from [0, 1] or [0, 255]; other values by their own range."""
    integers = values.dtype.kind in "iu"
    values = np.nan_to_num(values.astype(np.float64))
    lowest, highest = float(values.min()), float(values.max())
    spans = (65535.0,) if integers else (1.0, 255.0)
    if lowest >= 0 and highest <= spans[-1]:
        lowest, highest = 0.0, next(span for span in spans if highest <= span)
    return np.round((values - lowest) * (255 / max(highest - lowest, 1e-12))).astype(np.uint8)


def _words(problem: BaseException) -> str:
    if isinstance(problem, FileNotFoundError):
        return "it does not exist"
    if isinstance(problem, IsADirectoryError):
        return "it is a folder; its images are FOLDER#0-7"
    text = " ".join(str(problem).split())[:120]
    return f"damaged: {text or type(problem).__name__}"
