"""Fifteen hundred image files with random damage: every one is read or listed once with a reason, in bounded memory and without a word
of the decoders on standard error."""

import io
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from pictures import photograph

SEED, MUTANTS = 20, 1_500
FORMS = {
    "jpg": ("JPEG", {}), "progressive.jpg": ("JPEG", {"progressive": True}), "png": ("PNG", {}), "webp": ("WEBP", {}), "gif": ("GIF", {}),
    "bmp": ("BMP", {}), "tif": ("TIFF", {}), "deflate.tif": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    "jpeg.tif": ("TIFF", {"compression": "jpeg"}), "lzw.tif": ("TIFF", {"compression": "tiff_lzw"}), "ppm": ("PPM", {}),
    "ico": ("ICO", {}), "jp2": ("JPEG2000", {}), "avif": ("AVIF", {}),
}  # fmt: skip
READ = """
import json, resource, sys
from pathlib import Path
import numpy as np
from selfsight.data import pack
from selfsight.data.opening import open_source
pack.LARGEST_SHARE_BROKEN = 1.0
folder, cache, good = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
open_source(good, size=32, cache=cache)  # loads the decoders
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
source = open_source(folder, size=32, cache=cache)
images = source.read(np.arange(len(source))).images
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(json.dumps({"bad": list(source.bad), "names": list(source.names), "shape": list(images.shape), "grown": grown}))
"""


def mutated(content: bytes, chance: np.random.Generator) -> bytes:
    """A copy with flipped, removed, repeated or inserted bytes, a cut end, or large numbers in its first hundred bytes."""
    changed = bytearray(content)
    for _ in range(chance.integers(1, 6)):
        at = int(chance.integers(0, max(len(changed), 1)))
        kind = chance.integers(0, 7)
        if kind == 0:
            changed = changed[:at]
        elif kind == 1:
            del changed[at : at + int(chance.integers(1, 64))]
        elif kind == 2:
            changed[at:at] = chance.integers(0, 256, int(chance.integers(1, 64)), dtype=np.uint8).tobytes()
        elif kind == 3:
            changed[at:at] = changed[at : at + 200]
        elif kind == 4:
            first = int(chance.integers(0, 100))
            changed[first : first + 4] = b"\xff\xff\xff\xff"
        else:
            for place in chance.integers(0, max(len(changed), 1), 8):
                if place < len(changed):
                    changed[place] = int(chance.integers(0, 256))
    return bytes(changed)


@pytest.mark.slow
def test_mutated_files(tmp_path, record_testsuite_property):
    chance = np.random.default_rng(SEED)
    folder, good = tmp_path / "mutants", tmp_path / "good"
    folder.mkdir()
    good.mkdir()
    whole = {}
    for ending, (kind, options) in FORMS.items():
        buffer = io.BytesIO()
        Image.fromarray(photograph(1, 64, 64)).save(buffer, kind, **options)
        whole[ending] = buffer.getvalue()
        (good / f"good.{ending}").write_bytes(buffer.getvalue())
    endings = list(FORMS)
    for number in range(MUTANTS):
        ending = endings[number % len(endings)]
        (folder / f"{number:04}.{ending}").write_bytes(mutated(whole[ending], chance))
    done = subprocess.run(
        [sys.executable, "-c", READ, str(folder), str(tmp_path / "cache"), str(good)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert not done.stderr
    found = json.loads(done.stdout)
    bad = [name for name, _ in found["bad"]]
    assert len(bad) == len(set(bad))
    assert sorted([*bad, *found["names"]]) == sorted(path.name for path in folder.iterdir())
    assert all(reason for _, reason in found["bad"])
    assert 100 < len(bad) < MUTANTS - 100
    assert found["shape"][0] == MUTANTS - len(bad)
    assert found["grown"] < 300_000, "kilobytes"
    record_testsuite_property("fuzz", f"{len(bad)} of {MUTANTS} unreadable, {found['grown'] // 1024} MiB more memory")
