"""From the bytes of a picture to upright 8-bit red, green and blue. Pillow does it all: no torch is loaded here.

Pillow, and not torchvision's decoder: shrinking inside the JPEG transform (``draft``) makes photographs several times faster
to pack, CMYK and 16-bit files come out right, and one decoder means one answer.
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
"""Larger pictures are refused by their header, before anything is decoded: they may be decompression bombs."""

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
    """A picture that cannot be read, and why, in a few words."""


def header(payload: Payload) -> tuple[Image.Image, tuple[int, int]]:
    """Open a picture without decoding it.

    Returns:
        The opened picture and its upright (height, width) in pixels.

    Raises:
        Unreadable: empty, not a picture, or more than 64 million pixels.
    """
    try:
        picture = _opened(payload)
        width, height = picture.size
        if width * height > MAX_PIXELS:
            raise Unreadable(f"too many pixels: {width} x {height}")
        turned = _orientation(picture) >= 5
    except Image.UnidentifiedImageError:
        raise Unreadable("not a picture") from None
    except _BOMBS:
        raise Unreadable(f"too many pixels: more than {MAX_PIXELS // 10**6} million") from None
    except _BROKEN as problem:
        raise Unreadable(_words(problem)) from None
    return picture, ((width, height) if turned else (height, width))


@lru_cache(maxsize=1)
def _formats() -> tuple[str, ...]:
    """Those of the formats that this build of Pillow knows; none of them runs another program."""
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
    """Decode a picture: upright, three channels, 8 bits; the first frame of an animation.

    Sixteen bits are scaled, not cut off; what is transparent is laid on white; CMYK and palettes are converted.

    Args:
        payload: the encoded bytes, a path, or an opened Pillow picture.
        side: pictures with a longer side are shrunk, antialiased, to this many pixels; ``None`` and smaller pictures: left.

    Returns:
        The pixels, and the picture's own upright (height, width) before shrinking.

    Raises:
        Unreadable: with the reason.
    """
    picture, (height, width) = header(payload)
    scale = 1.0 if side is None else min(1.0, side / max(height, width))
    try:
        with picture if not isinstance(payload, Image.Image) else _kept(picture):
            if scale < 0.5 and picture.format in ("JPEG", "MPO"):
                picture.draft(None, (2 * round(picture.width * scale), 2 * round(picture.height * scale)))
            plain = _rgb(picture)
            if (turn := _UPRIGHT.get(_orientation(picture))) is not None:
                plain = plain.transpose(turn)
            if scale < 1.0:
                target = (max(1, round(width * scale)), max(1, round(height * scale)))
                plain = plain.resize(target, Image.Resampling.BILINEAR, reducing_gap=3.0)
            pixels = np.asarray(plain, dtype=np.uint8)
    except _BOMBS:
        raise Unreadable("too many pixels") from None
    except _BROKEN as problem:
        raise Unreadable(_words(problem)) from None
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)), (height, width)


class _kept:  # noqa: N801 - a context that leaves the caller's picture open
    def __init__(self, picture: Image.Image) -> None:
        self.picture = picture

    def __enter__(self) -> Image.Image:
        return self.picture

    def __exit__(self, *_: object) -> None: ...


def _orientation(picture: Image.Image) -> int:
    try:
        return int(picture.getexif().get(0x0112, 1))
    except _BROKEN:  # a damaged tag is no reason to lose the picture
        return 1


def _rgb(picture: Image.Image) -> Image.Image:
    """Three 8-bit channels."""
    if picture.mode.startswith(("I", "F")):
        picture = Image.fromarray(_eight_bits(np.asarray(picture)))
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        above = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", above.size, "white"), above)
    plain = picture if picture.mode == "RGB" else picture.convert("RGB")
    plain.load()
    return plain


def _eight_bits(values: np.ndarray) -> np.ndarray:
    """Integers span 16 bits, floats [0, 1] or [0, 255]; values that lie outside are scaled by their own range."""
    whole = values.dtype.kind in "iu"
    values = np.nan_to_num(values.astype(np.float64))
    lowest, highest = float(values.min()), float(values.max())
    spans = (65535.0,) if whole else (1.0, 255.0)
    if lowest >= 0 and highest <= spans[-1]:
        lowest, highest = 0.0, next(span for span in spans if highest <= span)
    return np.round((values - lowest) * (255 / max(highest - lowest, 1e-12))).astype(np.uint8)


def _words(problem: BaseException) -> str:
    text = " ".join(str(problem).split())[:120]
    return f"damaged: {text or type(problem).__name__}"
