"""Screenshots of the explorer's views for the documentation: each light and dark, 1440 and 390 pixels wide, on one sheet.

    python docs/screens.py RUN [RUN…] --data DATA --out docs/do/explore

Needs Chromium and playwright (``pip install 'selfsight[dev]'``).
"""

import argparse
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from selfsight.bank.store import Bank

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
VIEWS = {
    "map": "/map?pictures=1", "grid": "/grid?zoom=88&sort=nearness&down=1", "clusters": "/clusters?by=compact", "cluster": "/clusters/1",
    "image": "/image/57", "units": "/units", "unit": "/units/{layer}/7", "runs": "/runs", "health": "/health", "compare": "/compare",
    "quiz": "/quiz",
}  # fmt: skip
WIDE, NARROW, SCALE = (1440, 900), (390, 844), 2 / 3
PATIENCE = 240
"""Timeout of jobs in seconds."""


def settled(page: Page, view: str) -> None:
    """Start the jobs of a view, and wait for them."""
    page.wait_for_timeout(1500)
    if view == "image":
        for words in ("attributions", "objects", "eigen-segments"):
            for button in page.get_by_role("button", name=words).all():
                button.click()
    for _ in range(2 * PATIENCE):
        page.wait_for_timeout(500)
        if page.locator("progress").count() == 0:
            break
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_timeout(500)


def shot(browser: Browser, address: str, path: str, view: str, size: tuple[int, int], shade: str) -> Image.Image:
    """One view in one size and theme."""
    page = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=shade).new_page()  # pyright: ignore[reportArgumentType]
    problems: list[str] = []
    page.on("pageerror", lambda problem: problems.append(str(problem)))
    page.goto(f"{address}&next={path.replace('&', '%26')}")
    settled(page, view)
    if problems or page.evaluate("document.documentElement.scrollWidth > innerWidth"):
        sys.exit(f"{view} at {size[0]} pixels: {problems or 'wider than the window'}")
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    page.context.close()
    return picture


def sheet(pictures: list[Image.Image], gap: int = 12) -> Image.Image:
    """Wide screenshots in a column, narrow ones next to them."""
    small = [one.resize((round(one.width * part), round(one.height * part)), Image.Resampling.LANCZOS) for one, part in _scaled(pictures)]
    left, right = small[0].width + gap, small[2].width
    found = Image.new("RGB", (left + right, 2 * small[0].height + gap), (150, 150, 150))
    for place, one in enumerate(small):
        found.paste(one, (0 if place < 2 else left, (place % 2) * (small[0].height + gap)))
    return found


def _scaled(pictures: list[Image.Image]) -> list[tuple[Image.Image, float]]:
    high = pictures[0].height * SCALE
    return [(one, high / one.height) for one in pictures]


def main() -> None:
    """Serve the explorer and write the screenshots."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--views", nargs="+", default=list(VIEWS), choices=list(VIEWS))
    read = parser.parse_args()
    read.out.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "selfsight", "explore", *read.runs, "--data", read.data, "--port", "0", "--no-browser", "--json"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        told: dict[str, Any] = json.loads(server.stdout.readline())
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
            network = json.loads((Path(told["folder"]) / "pack.json").read_text())["networks"][0]
            inner = [name for name in Bank(Path(told["folder"]) / network["bank"]).layers if name != "output"][-1]
            for view in read.views:
                path = VIEWS[view].format(layer=inner)
                kinds = [(size, shade) for size in (WIDE, NARROW) for shade in ("light", "dark")]
                sheet([shot(browser, told["address"], path, view, *kind) for kind in kinds]).save(read.out / f"{view}.jpg", quality=80)
                print(read.out / f"{view}.jpg")
            browser.close()
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
