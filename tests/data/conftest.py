"""Small image files with the kinds of damage that occur in folders of photographs."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pictures import bomb, encoded, photograph


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A hundred images in two class folders, five of them damaged, and other files."""
    root = tmp_path / "pictures"
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
