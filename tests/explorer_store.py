"""A small explorer store without a network: images of two classes with known features."""

import io
import json
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from selfsight.bank.store import write_bank
from selfsight.explorer.server.opening import RunningServer
from selfsight.explorer.server.pack import Pack, PackWriter
from selfsight.explorer.server.store import ExplorerStore, Network

COUNT = 40
NAMES = ['it\'s a "name".png', "new\nline.png", "<img src=x onerror=alert(1)>.png", "ünïcode ☃.png", "=1+1.png"]


def jpeg(colour: tuple[int, int, int], side: int = 32) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(buffer, "JPEG")
    return buffer.getvalue()


def make_pack(path: Path, count: int = COUNT, bank: str = "../bank") -> Pack:
    """Reds (even rows, cluster 0) and blues; brightness grows with the row."""
    kinds = np.arange(count) % 2
    with PackWriter(path) as writer:
        writer.thumbs(jpeg((250, row % 200, 0) if row % 2 == 0 else (0, row % 200, 250)) for row in range(count))
        names = [NAMES[row] if row < len(NAMES) else f"{row}.png" for row in range(count)]
        columns = {
            "label": np.array(["red", "blue"], dtype=object)[kinds],
            "brightness": np.arange(count) / count,
            "cluster": kinds.astype(float),
            "nearness": np.linspace(1, 0, count),
            "cluster_4": (np.arange(count) % 4).astype(float),
            "duplicates": np.where(np.arange(count) < 2, 0.0, np.nan),
        }
        places = np.stack([np.where(kinds, 0.5, -0.5), np.linspace(-1, 1, count)], 1)
        two = [{"number": number, "units": [{"unit": number, "above": 2.0}]} for number in (0, 1)]
        clusters = {"cluster": two, "cluster_4": [{"number": number, "units": []} for number in range(4)]}
        about = {"data": "none", "limit": None, "seed": 0, "size": 32, "networks": [{"name": "net", "bank": bank, "run": ""}]}
        return writer.finish(names, columns, {"pca": places, "turned": places[:, ::-1]}, clusters, about)


def make_shelf(folder: Path) -> ExplorerStore:
    pack = make_pack(folder / "pack")
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(COUNT, 6)).astype(np.float32) + 4 * np.eye(6, dtype=np.float32)[np.arange(COUNT) % 2]
    write_bank(folder / "bank", {"inner": rows[:, :3], "output": rows}, list(pack.names.to_pylist()), {"data": "none"})
    return ExplorerStore(pack, [Network("net", folder / "bank")])


class Client:
    """A client with the token; responses as (status, headers, body)."""

    def __init__(self, opened: RunningServer) -> None:
        self.host, _, rest = opened.address.removeprefix("http://").partition("/")
        self.enter = f"/{rest}"
        self.cookie = ""
        _, headers, _ = self.ask("GET", self.enter)
        self.cookie = headers["set-cookie"].split(";")[0]

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, dict[str, str], bytes]:
        connection = HTTPConnection(self.host, timeout=20)
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        given = ({"cookie": self.cookie} if self.cookie else {}) | (headers or {})
        connection.request(method, path, content, {name: value for name, value in given.items() if value})
        answer = connection.getresponse()
        read = answer.read()
        connection.close()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, read

    def json(self, method: str, path: str, body: Any = None) -> Any:
        status, _, read = self.ask(method, path, body)
        assert status < 300, read
        return json.loads(read)

    def ended(self, key: str, seconds: float = 20) -> Any:
        """The job when it has ended."""
        end = time.monotonic() + seconds
        while True:
            found = self.json("GET", f"/api/jobs/{key}")
            if found["state"] not in ("waiting", "running"):
                return found
            assert time.monotonic() < end, found
            time.sleep(0.02)
