"""Small files that decode to huge images are rejected by their header, and memory does not grow."""

import json
import subprocess
import sys

import pytest

from pictures import bomb, encoded, photograph

READ = """
import json, resource, sys
from pathlib import Path
import numpy as np
from selfsight.data.opening import open_source
folder, good, cache = map(Path, sys.argv[1:])
open_source(good, size=32, cache=cache)  # loads the decoders
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak()
source = open_source(folder, size=32, cache=cache)
print(json.dumps({"bad": dict(source.bad), "names": list(source.names), "grown": peak() - before}))
"""


@pytest.mark.slow
def test_bombs_in_a_folder(tmp_path):
    """PNG files of 400 megapixels, and one of 63 megapixels, which is allowed and read in strips."""
    folder, good = tmp_path / "pictures", tmp_path / "good"
    folder.mkdir()
    good.mkdir()
    (good / "good.png").write_bytes(encoded(photograph(0)))
    for number in range(20):
        (folder / f"{number:02}.png").write_bytes(encoded(photograph(number)))
    for number in range(2):
        (folder / f"bomb{number}.png").write_bytes(bomb())
    (folder / "large.png").write_bytes(bomb(7_900))
    assert max(file.stat().st_size for file in folder.iterdir()) < 500_000
    done = subprocess.run(
        [sys.executable, "-c", READ, str(folder), str(good), str(tmp_path / "cache")], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert found["bad"].keys() == {"bomb0.png", "bomb1.png"}
    assert all("too many pixels" in reason for reason in found["bad"].values())
    assert "large.png" in found["names"]
    assert found["grown"] < 300, "MiB; the pixels of the large one are 62 MB of grey values"
