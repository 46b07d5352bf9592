"""The explorer with a million images: start time, and latency of thumbnails during jobs.

    python benchmarks/explore.py --rows 1000000 --folder /tmp/million

A synthetic data set: random vectors of 128 numbers, one repeated thumbnail. Requests are sent at a fixed rate (open loop): a slow response
does not delay the next request. At the same time the explorer's worker computes attributions (four methods, a ResNet-18 at 64 px), one
after the other. With Chromium and playwright, frames of the map are counted while it is dragged and zoomed (software rendering).
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np

from selfsight.core.origin import origin

RESULTS = Path(__file__).parent / "results" / "explore.json"
SERVE = """
import sys, time
from pathlib import Path
from selfsight.explorer.server.opening import serve
opened = serve(Path(sys.argv[1]), port=0)
print(opened.address, 'torch' in sys.modules, flush=True)
opened.wait()
"""


def make(folder: Path, rows: int, dim: int = 128) -> Path:
    """A prepared data set."""
    import io

    from PIL import Image

    import selfsight
    from selfsight.bank.store import write_bank
    from selfsight.explorer.server.pack import PackWriter

    path = folder / f"pack{rows}"
    if (path / "pack.json").is_file():
        return path
    if not (folder / "run" / "config.json").is_file():
        selfsight.learn("world:shapes?count=64&size=64", out=folder / "run", backbone="resnet18", size=64, batch=32, epochs=0)
    rng, names = np.random.default_rng(0), [f"folder/{row:07d}.jpg" for row in range(rows)]
    write_bank(folder / f"bank{rows}", {"output": rng.normal(size=(rows, dim)).astype(np.float16)}, names, {"data": "synthetic"})
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (16, 16, 3)).astype(np.uint8)).resize((128, 128)).save(buffer, "JPEG", quality=85)
    with PackWriter(path) as writer:
        writer.thumbs(buffer.getvalue() for _ in range(rows))
        kinds = np.array([f"class {kind}" for kind in range(10)], dtype=object)
        columns = {"label": kinds[rng.integers(0, 10, rows)], "brightness": rng.random(rows), "sharpness": rng.normal(size=rows)}
        known = {"data": f"world:shapes?count={rows}&size=64", "limit": None, "seed": 0, "size": 64}
        network = {"name": "net", "bank": f"../bank{rows}", "run": "../run"}
        writer.finish(names, columns, {"pca": rng.normal(size=(rows, 2)).clip(-3, 3) / 3}, {}, {**known, "networks": [network]})
    return path


def forget(file: Path) -> None:
    """Remove a file from the page cache, as after a reboot."""
    with file.open("rb") as one:
        os.posix_fadvise(one.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def timed(work: Callable[[], Any]) -> float:
    """Milliseconds of one call."""
    before = time.perf_counter()
    work()
    return round(1000 * (time.perf_counter() - before), 1)


def flood(host: str, cookie: str, rows: int, rate: float, seconds: float, clients: int = 16, seed: int = 1) -> dict[str, float]:
    """Request thumbnails at a fixed rate on several connections; the latency of each from its scheduled time."""
    rng, waits, lock = np.random.default_rng(seed), list[float](), threading.Lock()
    asked = rng.integers(0, rows, round(rate * seconds))
    begin = time.perf_counter() + 0.2

    def client(number: int) -> None:
        line = HTTPConnection(host, timeout=30)
        for place in range(number, len(asked), clients):
            due = begin + place / rate
            time.sleep(max(due - time.perf_counter(), 0))
            line.request("GET", f"/api/thumb/{asked[place]}", headers={"cookie": cookie})
            answer = line.getresponse()
            answer.read()
            assert answer.status == 200
            with lock:
                waits.append(1000 * (time.perf_counter() - due))
        line.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {
        "asked": len(waits),
        "rate": rate,
        "median_ms": round(float(np.median(waits)), 2),
        "p95_ms": round(float(np.quantile(waits, 0.95)), 2),
    }


def beside_work(flooded: Callable[[], dict[str, float]], ask: Callable[..., Any], cookie: str) -> dict[str, Any]:
    """Latencies while the worker computes attributions of one image after the other, and the number of attributions."""
    over, made = threading.Event(), list[int]()

    def work() -> None:
        row = time.time_ns() % 900_000  # other rows than in the last run, because results are cached
        while not over.is_set():
            job = json.loads(ask("POST", "/api/jobs/attribute", {"row": row}, cookie)[1])
            while not over.is_set() and job["state"] in ("waiting", "running"):
                time.sleep(0.05)
                job = json.loads(ask("GET", f"/api/jobs/{job['job']}", cookie=cookie)[1])
            assert job["state"] != "failed", job
            made.extend([row] if job["state"] == "done" else [])
            row += 1

    worker = threading.Thread(target=work)
    worker.start()
    while not made:  # until the network is loaded
        time.sleep(0.1)
    before = len(made)
    found = flooded()
    attributions = len(made) - before
    over.set()
    worker.join()
    return {**found, "attributions": attributions}


def frames(host: str, cookie: str, seconds: float = 6) -> dict[str, float] | None:
    """Frames per second of the map with software rendering, while it is dragged and while it is zoomed; ``None`` without a browser."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        return None
    flags = ["--headless", "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    with sync_playwright() as driver, driver.chromium.launch(executable_path=browser, args=flags) as opened:
        page = opened.new_page(viewport={"width": 1200, "height": 800}, extra_http_headers={"cookie": cookie})
        page.goto(f"http://{host}/map")
        page.wait_for_selector(".legend i", timeout=120_000)
        page.wait_for_timeout(1500)
        page.evaluate("window.drawn = 0; (function next() { window.drawn++; requestAnimationFrame(next) })()")
        box = page.locator("canvas.move").bounding_box()
        assert box is not None
        across, down = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

        def rate(move: Callable[[int], None]) -> float:
            begin, first, step = time.perf_counter(), page.evaluate("drawn"), 0
            while time.perf_counter() - begin < seconds:
                move(step)
                step += 1
            return round((page.evaluate("drawn") - first) / (time.perf_counter() - begin), 1)

        page.mouse.move(across, down)
        page.mouse.down()
        moving = rate(lambda step: page.mouse.move(across + 2.5 * (step % 40), down + 2.6 * (step % 23)))
        page.mouse.up()
        return {"moving": moving, "zooming": rate(lambda _: page.mouse.wheel(0, -20))}


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--rate", type=float, default=250)
    read = parser.parse_args()
    path = make(read.folder, read.rows)
    before = time.perf_counter()
    server = subprocess.Popen([sys.executable, "-c", SERVE, str(path)], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    address, torch_loaded = server.stdout.readline().split()
    result: dict[str, Any] = {"rows": read.rows, "ready_s": round(time.perf_counter() - before, 2), "torch_loaded": torch_loaded}
    host, _, rest = address.removeprefix("http://").partition("/")

    def ask(method: str, where: str, body: Any = None, cookie: str = "") -> Any:
        line = HTTPConnection(host, timeout=60)
        line.request(method, where, None if body is None else json.dumps(body), {"cookie": cookie} if cookie else {})
        answer = line.getresponse()
        content = answer.read()
        return answer.getheader("set-cookie"), content

    cookie = ask("GET", f"/{rest}")[0].split(";")[0]
    for name, work in {
        "about_ms": lambda: ask("GET", "/api/about", cookie=cookie),
        "first_grid_ms": lambda: ask("POST", "/api/select", {"count": 500}, cookie),
        "sorted_and_filtered_ms": lambda: ask(
            "POST", "/api/select", {"conditions": [{"column": "label", "sign": "=", "value": "class 3"}], "sort": "sharpness"}, cookie
        ),
        "map_ms": lambda: ask("GET", "/api/map", cookie=cookie),
        "column_ms": lambda: ask("GET", "/api/column/label", cookie=cookie),
        "neighbours_first_ms": lambda: ask("GET", "/api/neighbours/5", cookie=cookie),
        "neighbours_ms": lambda: ask("GET", "/api/neighbours/6", cookie=cookie),
    }.items():
        result[name] = timed(work)
        print(name, result[name], flush=True)
    forget(path / "thumbs.bin")
    result["thumbs_from_disk"] = flood(host, cookie, read.rows, read.rate, 10, seed=2)
    result["thumbs"] = flood(host, cookie, read.rows, read.rate, 10, seed=2)
    result["thumbs_beside_attributions"] = beside_work(lambda: flood(host, cookie, read.rows, read.rate, 30), ask, cookie)
    result["map_frames_per_s"] = frames(host, cookie)
    server.kill()
    result["origin"] = origin({"device": "cpu", "precision": "fp32", "compile": False, "threads": 1})
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
