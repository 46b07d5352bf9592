"""Many clients during jobs: the queue is bounded, cancelled work stops, thumbnails stay fast, and the server's memory does not grow.

A full queue is answered with 429 and ``Retry-After``. ``benchmarks/explorer_load.py`` is the same with more requests; its figures are in
``benchmarks/results/explorer_load.json``.
"""

import importlib.util
import json
import os
import socket
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from selfsight.explorer.server import opening
from selfsight.explorer.server.jobs import WAITING
from selfsight.explorer.server.opening import serve

from explorer_store import COUNT, Client, make_shelf

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "explorer_load.py"
SLOW = """
import json, os, sys, time
for line in sys.stdin:
    open(os.path.join(os.path.dirname(__file__), "pid"), "w").write(str(os.getpid()))
    time.sleep(60)
"""


@pytest.fixture
def served(tmp_path, monkeypatch):
    make_shelf(tmp_path)
    (tmp_path / "slow.py").write_text(SLOW)
    monkeypatch.setattr(opening, "WORKER", (str(tmp_path / "slow.py"),))
    opened = serve(tmp_path / "pack", port=0)
    yield Client(opened), tmp_path
    opened.close()


def waited(met, seconds: float = 15) -> bool:
    end = time.monotonic() + seconds
    while not met() and time.monotonic() < end:
        time.sleep(0.02)
    return met()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
def test_fifty_clients_during_jobs_and_broken_connections(served):
    client, _ = served
    told = [client.ask("POST", "/api/jobs/segments", {"row": row}) for row in range(20)]
    assert [status for status, _, _ in told].count(202) >= WAITING
    assert told[-1][0] == 429
    assert told[-1][1]["retry-after"] == "5"
    waits: list[float] = []

    def visit(number: int) -> None:
        for row in range(10):
            before = time.perf_counter()
            assert client.ask("GET", f"/api/thumb/{(number + row) % COUNT}")[0] == 200
            waits.append(time.perf_counter() - before)
            host, port = client.host.split(":")
            with socket.create_connection((host, int(port)), timeout=20) as line:  # asks, and does not wait for the answer
                line.sendall(f"GET /api/clusters HTTP/1.1\r\nhost: {client.host}\r\ncookie: {client.cookie}\r\n\r\n".encode())

    threads = [threading.Thread(target=visit, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(waits) == 500
    assert float(np.quantile(waits, 0.95)) < 5
    first = json.loads(told[0][2])["job"]
    assert client.json("DELETE", f"/api/jobs/{first}")["state"] == "cancelled"
    assert client.json("GET", "/api/about")["count"] == COUNT


def test_cancelled_work_stops(served):
    """The process of a cancelled job ends, its files are deleted, and the next job begins."""
    client, folder = served
    first, second = (client.json("POST", "/api/jobs/segments", {"row": row})["job"] for row in (1, 2))
    assert waited((folder / "pid").is_file)
    assert waited(lambda: (folder / "pid").read_text().isdecimal())
    pid = int((folder / "pid").read_text())
    assert client.json("GET", f"/api/jobs/{first}")["state"] == "running"
    assert client.json("DELETE", f"/api/jobs/{first}")["state"] == "cancelled"
    assert waited(lambda: not alive(pid))
    assert waited(lambda: client.json("GET", f"/api/jobs/{second}")["state"] == "running")
    assert waited(lambda: len(list((folder / "pack.jobs").iterdir())) == 1)  # that of the second
    client.json("DELETE", f"/api/jobs/{second}")
    assert waited(lambda: not list((folder / "pack.jobs").iterdir()))


def test_a_waiting_job_that_is_cancelled_leaves_room(served):
    client, _ = served
    told = [client.ask("POST", "/api/jobs/segments", {"row": row}) for row in range(WAITING + 2)]
    assert told[-1][0] == 429
    waiting = json.loads(told[-2][2])["job"]
    client.json("DELETE", f"/api/jobs/{waiting}")
    assert client.ask("POST", "/api/jobs/segments", {"row": COUNT - 1})[0] == 202


def test_jobs_of_a_closed_server_end(tmp_path, monkeypatch):
    make_shelf(tmp_path)
    (tmp_path / "slow.py").write_text(SLOW)
    monkeypatch.setattr(opening, "WORKER", (str(tmp_path / "slow.py"),))
    opened = serve(tmp_path / "pack", port=0)
    Client(opened).json("POST", "/api/jobs/segments", {"row": 1})
    assert waited(lambda: (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text().isdecimal())
    pid = int((tmp_path / "pid").read_text())
    opened.close()
    assert waited(lambda: not alive(pid))
    assert not list((tmp_path / "pack.jobs").iterdir())


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="memory is read from /proc")
def test_a_server_process_with_attributions(tmp_path):
    """The benchmark on a small run: no request fails, and the memory of the server stays as it is."""
    described = importlib.util.spec_from_file_location("explorer_load", BENCHMARK)
    assert described is not None
    assert described.loader is not None
    benchmark = importlib.util.module_from_spec(described)
    sys.modules[described.name] = benchmark  # for dataclasses
    described.loader.exec_module(benchmark)
    found = benchmark.load(benchmark.make(tmp_path, 64), images=64, count=400, clients=50, each=8)
    for name in ("sequence", "at_once", "sequence_again", "at_once_again"):
        assert found[name]["errors"] == {}
    assert found["at_once"]["requests"] == 400
    assert found["at_once"]["thumbs_p95_ms"] < 5000
    sizes = [size["server_mib"] for size in found["memory"].values()]
    assert sizes[-1] - sizes[0] < 40
    assert sizes[-1] - sizes[-2] < 5
    assert set(found["attributions"]) <= {"done", "running", "waiting"}
