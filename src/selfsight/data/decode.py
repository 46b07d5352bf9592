"""Decoding of image files to upright 8-bit RGB, with Pillow (no torch).

Pillow rather than torchvision's decoder: downscaling during JPEG decoding (``draft``) makes packing of photographs several times faster,
CMYK and 16-bit files are converted correctly, and results do not depend on which decoder is installed.
"""

import ctypes
import io
import logging
import struct
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, _imaging

__all__ = ["MAX_PIXELS", "Payload", "Unreadable", "decode", "decode_values", "header"]

MAX_PIXELS = 64_000_000
"""Larger images are rejected by their header before decoding, as possible decompression bombs."""

MAX_BYTES = 512 * 2**20
_STRIP = 256
"""Rows that are converted at a time."""
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF", "ICO")
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    ArithmeticError,
    LookupError,
    TypeError,
    RuntimeError,
    MemoryError,
    struct.error,
    Warning,
)
"""What decoders raise for damaged files; libavif's errors are RuntimeError."""
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

_SWAPS = tuple(_UPRIGHT[tag] for tag in (5, 6, 7, 8))
"""Transpositions that exchange width and height."""

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
    _silence()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _silence() -> None:
    """Keep libtiff and Pillow from writing to standard error: what they cannot read raises an error, whose reason is recorded."""
    logging.getLogger("PIL").addHandler(logging.NullHandler())  # a program's own handlers still receive the records
    library = ctypes.CDLL(_imaging.__file__)  # Pillow's own, with the libtiff that it is linked to
    for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
        if hasattr(library, name):  # not exported by static builds
            getattr(library, name)(None)


def _opened(payload: Payload) -> Image.Image:
    if isinstance(payload, Image.Image):
        return payload
    size = len(payload) if isinstance(payload, bytes) else payload.stat().st_size
    if size == 0:
        raise Unreadable("empty file")
    if size > MAX_BYTES:
        raise Unreadable(f"file too large: {size / 2**20:.0f} MiB")
    _refuse_large_icon(payload)
    return Image.open(io.BytesIO(payload) if isinstance(payload, bytes) else payload, formats=_formats())


def _refuse_large_icon(payload: bytes | Path) -> None:
    """Icons are decoded when opened; their directory states at most 256 px, whatever the size of the images inside."""
    with io.BytesIO(payload) if isinstance(payload, bytes) else payload.open("rb") as file:
        if file.read(4) != b"\0\0\1\0":
            return
        entries = file.read(2 + 16 * 256)
        for number in range(min(int.from_bytes(entries[:2], "little"), 256)):
            file.seek(int.from_bytes(entries[14 + 16 * number : 18 + 16 * number], "little"))
            start = file.read(24).ljust(24, b"\0")
            width, height = struct.unpack(">II", start[16:]) if start.startswith(b"\x89PNG") else struct.unpack("<ii", start[4:12])
            if abs(width) > 2048 or abs(height) > 4096:  # a bitmap's height counts its mask as well
                raise Unreadable(f"too many pixels: {abs(width)} x {abs(height)}")


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
            turn = _UPRIGHT.get(_orientation(image))
            image = _eight_bit_image(image)
            if scale < 1.0:
                across, down = max(1, round(width * scale)), max(1, round(height * scale))
                stored = (down, across) if turn in _SWAPS else (across, down)
                image = image.resize(stored, Image.Resampling.BILINEAR, reducing_gap=3.0)
            image = image if turn is None else image.transpose(turn)
            pixels = np.asarray(image if image.mode == "RGB" else image.convert("RGB"), dtype=np.uint8)
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


def decode_values(payload: Payload) -> tuple[np.ndarray, str]:
    """The stored values of an image that encodes numbers, such as a mask: upright, without conversion of palette indices or 16 bits.

    Colours (H, W, 3) are black where they are transparent.

    Args:
        payload: the encoded bytes, a path, or an opened Pillow image.

    Returns:
        The values, and Pillow's mode of the file.

    Raises:
        Unreadable: with the reason.
    """
    image, _ = header(payload)
    try:
        with image if not isinstance(payload, Image.Image) else _kept(image):
            mode, turn = image.mode, _UPRIGHT.get(_orientation(image))
            image.load()
            if mode not in ("P", "L", "1") and not mode.startswith("I"):
                image = _composited(image, "black") if image.has_transparency_data else image.convert("RGB")
            return np.asarray(image if turn is None else image.transpose(turn)), mode
    except _BROKEN as problem:
        raise Unreadable(_words(problem)) from None


def _orientation(image: Image.Image) -> int:
    """The orientation that is still to be undone; Pillow turns TIFF itself."""
    if image.format == "TIFF":
        return 1
    try:
        return int(image.getexif().get(0x0112, 1))
    except _BROKEN:  # ignore a damaged tag
        return 1


def _eight_bit_image(image: Image.Image) -> Image.Image:
    """Convert to RGB or 8-bit grey, without transparency."""
    if image.mode.startswith(("I", "F")):
        image = Image.fromarray(_eight_bits(np.asarray(image)))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = _composited(image, "white")
    converted = image if image.mode in ("RGB", "L") else image.convert("RGB")
    converted.load()
    return converted


def _composited(image: Image.Image, background: str) -> Image.Image:
    """An image with transparency over a colour, in strips, so that little more than the result is held in memory."""
    out = Image.new("RGB", image.size)
    for top in range(0, image.height, _STRIP):
        foreground = image.crop((0, top, image.width, min(top + _STRIP, image.height))).convert("RGBA")
        out.paste(Image.alpha_composite(Image.new("RGBA", foreground.size, background), foreground).convert("RGB"), (0, top))
    return out


def _eight_bits(values: np.ndarray) -> UInt8[np.ndarray, "height width"]:
    """Rescale to 8 bits: integers from 16 bits, floats from [0, 1] or [0, 255]; other values by their own range."""
    integers = values.dtype.kind in "iu"
    strips = [slice(top, top + _STRIP) for top in range(0, len(values), _STRIP)]
    lowest, highest = min(float(_finite(values[rows]).min()) for rows in strips), max(float(_finite(values[rows]).max()) for rows in strips)
    spans = (65535.0,) if integers else (1.0, 255.0)
    if lowest >= 0 and highest <= spans[-1]:
        lowest, highest = 0.0, next(span for span in spans if highest <= span)
    out = np.empty(values.shape, dtype=np.uint8)
    for rows in strips:
        out[rows] = np.round((_finite(values[rows]) - lowest) * (255 / max(highest - lowest, 1e-12)))
    return out


def _finite(values: np.ndarray) -> np.ndarray:
    return np.nan_to_num(values.astype(np.float64))


def _words(problem: BaseException) -> str:
    if isinstance(problem, FileNotFoundError):
        return "it does not exist"
    if isinstance(problem, IsADirectoryError):
        return "it is a folder; its images are FOLDER#0-7"
    text = " ".join(str(problem).split())[:120]
    return f"damaged: {text or type(problem).__name__}"
