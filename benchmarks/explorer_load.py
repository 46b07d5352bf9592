"""The explorer under load: a server process of ``selfsight explore``, with attributions running in its worker.

    python benchmarks/explorer_load.py --folder /tmp/load --json

One client sends 2,000 requests in sequence, then 100 clients send requests at the same time, and both again, over kept connections, without a
pause: thumbnails (half of the requests), items, selections, neighbours, clusters, units, columns, maps, exports and edits. Reported are failed
requests (a status of 400 or more, or a broken connection), latencies, and the resident memory of the server and of its worker before, between
and after.
"""

import argparse
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results" / "explorer_load.json"
DATA = "world:shapes?count={images}&size=64"


@dataclass
class Client:
    """A client with a kept connection.

    Attributes:
        host: host name and port.
        cookie: the cookie with the token.
    """

    host: str
    cookie: str = ""
    line: HTTPConnection | None = None

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        if self.line is not None:
            self.line.close()

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of a response; status 0 if the connection broke twice, because a server may close an idle one."""
        for attempt in (1, 2):
            self.line = self.line or HTTPConnection(self.host, timeout=60)
            try:
                self.line.request(method, path, None if body is None else json.dumps(body), {"cookie": self.cookie} if self.cookie else {})
                answer = self.line.getresponse()
                return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
            except (OSError, HTTPException):
                self.line.close()
                self.line = None
                if attempt == 2:
                    return 0, {}, b""
        raise AssertionError

    def json(self, method: str, path: str, body: Any = None) -> Any:
        """The content of a successful response."""
        status, _, content = self.ask(method, path, body)
        assert status in (200, 202), (path, status, content[:200])
        return json.loads(content)


def requests(rng: np.random.Generator, count: int, images: int) -> Iterator[tuple[str, str, Any]]:
    """Random requests: method, path, body."""
    for _ in range(count):
        row = int(rng.integers(images))
        others: list[tuple[str, str, Any]] = [
            ("GET", f"/api/item/{row}", None),
            (
                "POST",
                "/api/select",
                {"conditions": [{"column": "brightness", "sign": ">", "value": float(rng.random())}], "sort": "sharpness"},
            ),
            ("GET", f"/api/neighbours/{row}", None),
            ("GET", "/api/clusters", None),
            ("GET", "/api/about", None),
            ("GET", "/api/column/brightness", None),
            ("GET", "/api/map", None),
            ("GET", f"/api/unit/{row % 8}", None),
            ("POST", "/api/export/csv", {"rows": [row]}),
            ("POST", "/api/edits/tag", {"subjects": [row], "value": f"tag {row % 5}"}),
        ]
        yield others[int(rng.integers(len(others)))] if rng.random() < 0.5 else ("GET", f"/api/thumb/{row}", None)


@dataclass
class Measured:
    """Latencies in milliseconds, of thumbnails in particular, and failures by kind."""

    waits: list[float] = field(default_factory=list)
    thumbs: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    def send(self, client: Client, asked: tuple[str, str, Any]) -> None:
        """Send a request and record the response."""
        before = time.perf_counter()
        status = client.ask(*asked)[0]
        wait = 1000 * (time.perf_counter() - before)
        self.waits.append(wait)
        if asked[1].startswith("/api/thumb"):
            self.thumbs.append(wait)
        if not 0 < status < 400:
            self.errors[f"{status} {asked[1].rsplit('/', 1)[0]}"] += 1

    def to_json(self, seconds: float) -> dict[str, Any]:
        """Counts and quantiles."""
        quantiles = {
            f"{name}p{percent}_ms": round(float(np.percentile(values, percent)), 2)
            for name, values in (("", self.waits), ("thumbs_", self.thumbs))
            for percent in (50, 95)
        }
        rate = round(len(self.waits) / seconds, 1)
        return {
            "requests": len(self.waits),
            "errors": dict(self.errors),
            "requests_per_s": rate,
            **quantiles,
            "max_ms": round(max(self.waits), 1),
        }


def in_sequence(host: str, cookie: str, count: int, images: int, middle: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """One client; ``middle`` is called after half of the requests."""
    measured, before = Measured(), time.perf_counter()
    with Client(host, cookie) as client:
        for number, asked in enumerate(requests(np.random.default_rng(0), count, images)):
            if number == count // 2:
                middle()
            measured.send(client, asked)
    return measured.to_json(time.perf_counter() - before)


def at_once(host: str, cookie: str, clients: int, each: int, images: int) -> dict[str, Any]:
    """Several clients at the same time."""
    measured = Measured()
    start = threading.Barrier(clients)

    def visit(number: int) -> None:
        start.wait()
        with Client(host, cookie) as client:
            for asked in requests(np.random.default_rng(number + 1), each, images):
                measured.send(client, asked)

    threads = [threading.Thread(target=visit, args=(number,)) for number in range(clients)]
    before = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"clients": clients, **measured.to_json(time.perf_counter() - before)}


@contextmanager
def attributing(host: str, cookie: str, images: int) -> Iterator[list[str]]:
    """Keep an attribution job running; the list has the state of each that ended."""
    over, states = threading.Event(), list[str]()

    def work() -> None:
        with Client(host, cookie) as client:
            row = time.time_ns() % images  # other rows than in the last run, because results are stored
            while not over.is_set():
                key, state = client.json("POST", "/api/jobs/attribute", {"row": row % images})["job"], "waiting"
                while not over.is_set() and state in ("waiting", "running"):
                    time.sleep(0.1)
                    state = client.json("GET", f"/api/jobs/{key}")["state"]
                states.append(state)
                row += 1

    worker = threading.Thread(target=work)
    worker.start()
    end = time.monotonic() + 120
    while not states and worker.is_alive() and time.monotonic() < end:  # until the network is loaded
        time.sleep(0.1)
    try:
        yield states
    finally:
        over.set()
        worker.join()


def resident(pid: int) -> float:
    """Resident memory of a process in MiB."""
    (line,) = [one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("VmRSS")]
    return round(int(line.split()[1]) / 1024, 1)


def memory(pid: int) -> dict[str, float]:
    """Resident memory of a server and of its worker in MiB."""
    children = Path(f"/proc/{pid}/task").glob("*/children")
    workers = [int(child) for file in children for child in file.read_text().split()]
    return {"server_mib": resident(pid), "worker_mib": round(sum(map(resident, workers)), 1)}


def make(folder: Path, images: int) -> Path:
    """A run."""
    import selfsight

    run = folder / f"run{images}"
    if not (run / "config.json").is_file():
        selfsight.learn(DATA.format(images=images), out=run, backbone="resnet18", size=64, batch=32, epochs=0)
    return run


@contextmanager
def serving(run: Path) -> Iterator[tuple[int, str, str]]:
    """A server process of ``selfsight explore``: its process number, host and cookie."""
    words = ["explore", str(run), "--json", "--device", "cpu"]
    subprocess.run(
        [sys.executable, "-m", "selfsight", *words, "--no-serve"], check=True, capture_output=True
    )  # prepared in another process
    words += ["--port", "0", "--no-browser"]
    process = subprocess.Popen([sys.executable, "-m", "selfsight", *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())["address"]
        host, _, rest = address.removeprefix("http://").partition("/")
        with Client(host) as client:
            cookie = client.ask("GET", f"/{rest}")[1]["set-cookie"].split(";")[0]
        yield process.pid, host, cookie
        assert process.poll() is None, "the server ended"
    finally:
        process.kill()
        process.communicate()


def load(run: Path, *, images: int, count: int, clients: int, each: int) -> dict[str, Any]:
    """The figures of one run of the load.

    Args:
        run: the run's folder.
        images: number of its images.
        count: requests in sequence.
        clients: clients at once.
        each: requests of each client.
    """
    with serving(run) as (pid, host, cookie), attributing(host, cookie, images) as states:
        found: dict[str, Any] = {"images": images, "memory": {}}

        def look(name: str) -> None:
            found["memory"][name] = memory(pid)

        in_sequence(host, cookie, min(count // 10, 200), images)  # caches are filled
        look("begin")
        found["sequence"] = in_sequence(host, cookie, count, images, lambda: look("middle of the sequence"))
        look("end of the sequence")
        found["at_once"] = at_once(host, cookie, clients, each, images)
        look("after all clients")
        found["sequence_again"] = in_sequence(host, cookie, count, images)
        look("end of the second sequence")
        found["at_once_again"] = at_once(host, cookie, clients, each, images)
        look("end")
        found["attributions"] = dict(Counter(states))
    return found


def main() -> None:
    """Measure, write the result and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="folder of the run, which is kept")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--requests", type=int, default=2000, help="in sequence")
    parser.add_argument("--clients", type=int, default=100, help="at once")
    parser.add_argument("--each", type=int, default=20, help="requests of each client")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--out", type=Path, default=RESULTS)
    read = parser.parse_args()
    from selfsight.core.origin import origin

    result = load(make(read.folder, read.images), images=read.images, count=read.requests, clients=read.clients, each=read.each)
    result["origin"] = origin({"device": "cpu", "precision": "fp32", "compile": False, "threads": 1})
    read.out.write_text(json.dumps(result, indent=1) + "\n")
    if read.json:
        print(json.dumps(result))
        return
    for name in ("sequence", "at_once", "sequence_again", "at_once_again"):
        print(f"{name}: {', '.join(f'{key} {value}' for key, value in result[name].items())}")
    for name, sizes in result["memory"].items():
        print(f"memory, {name}: {', '.join(f'{key} {value}' for key, value in sizes.items())}")
    print(f"attributions: {result['attributions']}")


if __name__ == "__main__":
    main()
