import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from selfsight.data.decode import Unreadable, decode, decode_values, header

from pictures import bomb, encoded, photograph


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def test_png_is_exact():
    pixels = photograph(0)
    found, own = decode(encoded(pixels))
    np.testing.assert_array_equal(found, pixels.transpose(2, 0, 1))
    assert own == (24, 32)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
def test_every_orientation_is_made_upright(orientation: int, kind: str):
    upright = Image.fromarray(np.asarray(Image.fromarray(photograph(1, 3, 4)).resize((64, 48))))
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transposition that undoes the tag
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = upright.transpose(Image.Transpose(back[orientation])) if orientation > 1 else upright
    content = saved(stored, kind, exif=exif)
    found, own = decode(content)
    assert own == (48, 64)
    assert np.abs(found.transpose(1, 2, 0).astype(int) - np.asarray(upright)).mean() < 4
    small, own = decode(content, 32)
    assert (own, small.shape) == ((48, 64), (3, 24, 32))
    assert np.abs(small.transpose(1, 2, 0).astype(int) - np.asarray(upright.resize((32, 24), Image.Resampling.BILINEAR))).mean() < 4


def test_sixteen_bits_are_scaled():
    ramp = np.linspace(0, 65535, 256).reshape(16, 16).astype(np.uint16)
    found, _ = decode(saved(Image.fromarray(ramp), "PNG"))
    np.testing.assert_array_equal(found[0], np.round(ramp / 257).astype(np.uint8))
    dark = (ramp // 256).astype(np.uint16)
    assert decode(saved(Image.fromarray(dark), "PNG"))[0].max() == 1  # values below 256 stay dark


def test_floats_span_zero_to_one():
    ramp = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    found, _ = decode(saved(Image.fromarray(ramp), "TIFF"))
    assert (found.min(), found.max()) == (0, 255)


def test_cmyk_grey_and_one_bit():
    red = Image.new("RGB", (8, 8), (255, 0, 0))
    found, _ = decode(saved(red.convert("CMYK"), "JPEG", quality=95))
    assert np.abs(found[:, 4, 4].astype(int) - [255, 0, 0]).max() < 6
    assert (decode(saved(Image.new("L", (3, 5), 77), "PNG"))[0] == 77).all()
    assert (decode(saved(Image.new("1", (3, 5), 1), "PNG"))[0] == 255).all()


def test_transparency_is_composited_on_white():
    clear = Image.new("RGBA", (4, 4), (10, 20, 30, 0))
    assert (decode(saved(clear, "PNG"))[0] == 255).all()
    half = Image.new("LA", (4, 4), (0, 128))
    assert abs(int(decode(saved(half, "PNG"))[0][0, 0, 0]) - 127) <= 1
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 200, 0, 0])
    assert (decode(saved(palette, "PNG", transparency=1))[0] == 255).all()
    assert decode(saved(palette, "PNG"))[0][:, 0, 0].tolist() == [200, 0, 0]


def test_first_frame_of_an_animation():
    frames = [Image.new("RGB", (6, 6), colour) for colour in ("red", "lime", "blue")]
    found, _ = decode(saved(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert found[:, 0, 0].tolist() == [255, 0, 0]


def test_shrinking_is_antialiased_and_keeps_shape():
    stripes = np.tile(np.array([0, 255], dtype=np.uint8), (400, 300))[..., None].repeat(3, axis=2)
    for kind in ("PNG", "JPEG"):
        found, own = decode(encoded(stripes, kind), side=60)
        assert found.shape == (3, 40, 60)
        assert own == (400, 600)
        assert np.abs(found.astype(int) - 127).mean() < 12
    assert decode(encoded(stripes), side=600)[0].shape == (3, 400, 600)


def test_extreme_shapes():
    assert decode(encoded(photograph(3, 1, 1)))[0].shape == (3, 1, 1)
    thin = np.zeros((20_000, 1, 3), dtype=np.uint8)
    assert decode(encoded(thin), side=100)[0].shape == (3, 100, 1)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"hello", "not an image"),
        (bomb(), "too many pixels"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
    ],
)
def test_unreadable_images_have_a_reason(content: bytes, reason: str):
    with pytest.raises(Unreadable, match=reason):
        header(content)
    with pytest.raises(Unreadable, match=reason):
        decode(content)


def test_truncation_is_detected():
    for kind in ("JPEG", "PNG"):
        content = encoded(photograph(4, 100, 100), kind)
        with pytest.raises(Unreadable, match="damaged"):
            decode(content[: len(content) // 2])


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_stored_values_are_upright_and_not_converted(orientation: int, kind: str):
    upright = np.arange(24, dtype=np.uint8).reshape(4, 6)
    stored = np.ascontiguousarray(np.rot90(upright, {1: 0, 3: 2, 6: 1, 8: -1}[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    indexed = Image.fromarray(stored).convert("P")
    indexed = Image.frombytes("P", indexed.size, stored.tobytes())
    indexed.putpalette(list(range(255, -1, -1)) * 3)
    for image in (Image.fromarray(stored), indexed):
        np.testing.assert_array_equal(decode_values(saved(image, kind, exif=exif))[0], upright)
    wide = (stored.astype(np.uint16) + 1000).astype(np.uint16)
    np.testing.assert_array_equal(decode_values(saved(Image.fromarray(wide), kind, exif=exif))[0], upright.astype(int) + 1000)


def test_transparent_colours_of_stored_values_are_black():
    pixels = np.full((2, 2, 4), (200, 10, 10, 255), dtype=np.uint8)
    pixels[0, 0, 3] = 0
    values, mode = decode_values(saved(Image.fromarray(pixels), "PNG"))
    assert mode == "RGBA"
    assert values.tolist() == [[[0, 0, 0], [200, 10, 10]], [[200, 10, 10], [200, 10, 10]]]


@pytest.mark.parametrize("kind", ["AVIF", "WEBP", "JPEG", "PNG", "TIFF", "GIF", "BMP", "JPEG2000", "ICO", "PPM"])
def test_every_truncation_is_decoded_or_unreadable(kind: str):
    content = saved(Image.fromarray(photograph(2)), kind)
    for length in np.linspace(1, len(content) - 1, 60).astype(int):
        for reader in (decode, decode_values):
            try:
                reader(content[:length])
            except Unreadable:
                continue


def test_an_icon_is_as_large_as_the_image_inside_it():
    """Its directory states at most 256 px."""
    large = Image.new("1", (9000, 9000))
    png = saved(large, "PNG")
    icon = b"\0\0\1\0\1\0" + bytes([0, 0, 0, 0]) + b"\1\0\1\0" + len(png).to_bytes(4, "little") + (22).to_bytes(4, "little") + png
    with pytest.raises(Unreadable, match="too many pixels: 9000 x 9000"):
        decode(icon)
    assert decode(saved(Image.fromarray(photograph(3, 16, 16)), "ICO"))[1] == (16, 16)


PEAK = """
import io, resource, sys
import numpy as np
from PIL import Image
from selfsight.data.decode import decode
pixels = {"16 bits": np.zeros((7000, 9000), np.uint16), "transparent": np.zeros((7000, 9000, 4), np.uint8)}[sys.argv[1]]
buffer = io.BytesIO()
Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
stored = pixels.nbytes
del pixels
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
print(decode(buffer.getvalue(), 64)[0].shape[1], file=sys.stderr)
peak = int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))) * 1024
print(peak / stored)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize(("kind", "most"), [("16 bits", 3.5), ("transparent", 3.0)])
def test_peak_memory_is_a_small_multiple_of_the_stored_pixels(kind: str, most: float):
    done = subprocess.run([sys.executable, "-c", PEAK, kind], capture_output=True, text=True, timeout=120, check=True)
    assert float(done.stdout) < most
