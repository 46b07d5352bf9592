"""Images in unusual forms give three correct channels, upright."""

import numpy as np
import pytest
from PIL import Image

from selfsight.data.opening import open_source

from pictures import encoded, photograph

SIDE = 32
SMOOTH = photograph(3, SIDE, SIDE)


def grey(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).convert("L"))


def forms(root) -> dict[str, tuple[np.ndarray, int]]:
    """Files with the pixels that they shall have, and the largest deviation of a value."""
    picture = Image.fromarray(SMOOTH)
    expected: dict[str, tuple[np.ndarray, int]] = {}

    def save(name: str, image: Image.Image, right: np.ndarray, within: int = 0, **more: object) -> None:
        image.save(root / name, **more)
        expected[name] = right, within

    save("cmyk.jpg", picture.convert("CMYK"), SMOOTH, 12, quality=100)
    deep = (np.asarray(picture.convert("L")).astype(np.uint16) * 257).astype(np.uint16)
    save("sixteen.png", Image.fromarray(deep), np.stack([grey(SMOOTH)] * 3, axis=-1), 1)
    save("grey.png", picture.convert("L"), np.stack([grey(SMOOTH)] * 3, axis=-1))
    palette = picture.quantize(64)
    save("palette.png", palette, np.asarray(palette.convert("RGB")))
    half = np.dstack([SMOOTH, np.full((SIDE, SIDE), 128, np.uint8)])
    on_white = np.round(SMOOTH * (128 / 255) + 255 * (127 / 255)).astype(np.uint8)
    save("alpha.png", Image.fromarray(half), on_white, 1)
    transparent = picture.quantize(64)
    shown = np.asarray(transparent.convert("RGB")).copy()
    shown[np.asarray(transparent) == 5] = 255
    save("palette with transparency.png", transparent, shown, 1, transparency=5)
    other = Image.fromarray(255 - SMOOTH)
    save("animated.webp", picture, SMOOTH, 0, save_all=True, append_images=[other], lossless=True)
    turned = Image.Exif()
    turned[0x0112] = 6
    save("turned.png", picture.transpose(Image.Transpose.ROTATE_90), SMOOTH, 0, exif=turned)
    save("turned.jpg", picture.transpose(Image.Transpose.ROTATE_90), SMOOTH, 30, exif=turned, quality=100, subsampling=0)
    save("turned.tif", picture.transpose(Image.Transpose.ROTATE_90), SMOOTH, 0, exif=turned)
    return expected


def test_every_form_has_the_right_pixels(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    expected = forms(folder)
    source = open_source(folder, size=SIDE, cache=tmp_path / "cache")
    assert not source.bad
    assert set(source.names) == expected.keys()
    for row, name in enumerate(source.names):
        found = source.read(np.array([row])).images[0].transpose(1, 2, 0)
        right, within = expected[name]
        assert found.shape == right.shape, name
        assert np.abs(found.astype(int) - right).max() <= within, name


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 20_000), (20_000, 1)])
def test_extreme_shapes(tmp_path, height, width):
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "strange.png").write_bytes(encoded(np.full((height, width, 3), 77, np.uint8)))
    (folder / "usual.png").write_bytes(encoded(SMOOTH))
    source = open_source(folder, size=SIDE, cache=tmp_path / "cache")
    assert not source.bad
    shown = source.read(np.array([list(source.names).index("strange.png")]))
    assert shown.images.shape[1] == 3
    assert shown.images[0].max() == 77
