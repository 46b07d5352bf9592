"""The built page matches its sources, is small, and loads no external resources."""

import gzip
import hashlib
import json
import re
from pathlib import Path

from selfsight.explorer.server.app import STATIC

VIEWER = Path(__file__).parents[3] / "viewer"


def test_the_built_page_is_current():
    """Build it with: cd viewer && npm ci && npm run build"""
    stamped = json.loads((STATIC / "sources.json").read_text())
    files = [VIEWER / name for name in ("index.html", "package.json", "tsconfig.json", "vite.config.js")] + sorted(
        (VIEWER / "src").iterdir()
    )
    now = {file.relative_to(VIEWER).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    assert stamped == now


def test_the_page_is_small_and_complete():
    assert {"index.html", "app.js", "app.css"} <= {file.name for file in STATIC.iterdir()}
    assert sum(len(gzip.compress(file.read_bytes())) for file in STATIC.iterdir()) < 2**20


def test_no_external_resources_are_loaded():
    for file in STATIC.iterdir():
        found = set(re.findall(r"https?://[^\s\"'`)]+", file.read_text()))
        assert all(one.startswith(("http://www.w3.org/",)) for one in found), found
