"""Uploads and requests of any size, kind and speed: memory and disk space are bounded, and nothing of a request is left.

Too large: 413; not an image of a known format: 415; too slow: 408, or the connection is closed if not even the head of a request arrived; too
many at once: 429.
"""

import io
import json
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from selfsight.core.cache import AtomicFolder, remove_stale, write_atomically
from selfsight.explorer.server import connections, guard, opening
from selfsight.explorer.server.jobs import WAITING
from selfsight.explorer.server.opening import RunningServer, serve

from explorer_store import COUNT, Client, jpeg, make_shelf
from pictures import bomb

WORKER = """
import json, os, sys, time
for line in sys.stdin:
    asked = json.loads(line)
    name = asked["given"].get("upload")
    found = {"files": [], "seen": os.listdir(asked["out"]), "bytes": os.path.getsize(os.path.join(asked["out"], name)) if name else 0}
    if name:
        while os.path.exists(os.path.join(os.path.dirname(__file__), "wait")):
            time.sleep(0.01)
    print(json.dumps({"failed": "no reason"} if asked["given"].get("layer") == "inner" else {"found": found}), flush=True)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    make_shelf(tmp_path)
    (tmp_path / "worker.py").write_text(WORKER)
    monkeypatch.setattr(opening, "WORKER", (str(tmp_path / "worker.py"),))
    return tmp_path


@pytest.fixture
def client(folder):
    opened = serve(folder / "pack", port=0)
    yield Client(opened)
    opened.close()


def picture(number: int = 0, side: tuple[int, int] = (60, 40)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", side, (10, 200, number)).save(buffer, "PNG")
    return buffer.getvalue()


def left(folder: Path) -> set[str]:
    """Files below the folder of results, other than results."""
    files = (file for file in (folder / "pack.jobs").rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix() for file in files if file.name not in ("asked.json", "found.json")}


@pytest.mark.parametrize(
    "content", [b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"PK\x03\x04zip", b"", b"GIF89a", bomb(), jpeg((9, 9, 9))[:60]]
)
def test_what_is_not_an_image_is_rejected(client, folder, content):
    assert client.ask("POST", "/api/search", content)[0] == 415
    assert left(folder) == set()


def test_an_accepted_upload_is_encoded_again_and_deleted(client, folder):
    (folder / "wait").touch()
    status, _, body = client.ask("POST", "/api/search", picture(side=(900, 40)) + b"<script>alert(1)</script>")
    assert status == 202
    end = time.monotonic() + 20
    while not (kept := list((folder / "pack.jobs").glob(".partial-*/*.png"))) and time.monotonic() < end:
        time.sleep(0.02)
    assert b"script" not in kept[0].read_bytes()
    with Image.open(kept[0]) as image:
        assert image.size == (512, 23)
    (folder / "wait").unlink()
    found = client.ended(json.loads(body)["job"])
    assert found["state"] == "done"
    assert found["found"]["bytes"] > 100
    assert found["found"]["seen"] == [kept[0].name]
    assert left(folder) == set()


@pytest.mark.parametrize("kind", ["layer", "full", "failed", "cancelled", "again"])
def test_nothing_is_left_of_a_refused_upload(client, folder, kind):
    if kind == "layer":
        assert client.ask("POST", "/api/search?layer=nothing", picture())[0] == 422
    elif kind == "failed":
        key = json.loads(client.ask("POST", "/api/search?layer=inner", picture())[2])["job"]
        assert client.ended(key)["state"] == "failed"
    elif kind == "again":
        for _ in range(2):
            assert client.ended(json.loads(client.ask("POST", "/api/search", picture())[2])["job"])["state"] == "done"
    else:
        (folder / "wait").touch()
        told = [client.ask("POST", "/api/search", picture(number)) for number in range(WAITING + 2 if kind == "full" else 2)]
        if kind == "full":
            assert told[-1][0] == 429
            assert told[-1][1]["retry-after"]
        for status, _, body in told:
            if status == 202:
                client.json("DELETE", f"/api/jobs/{json.loads(body)['job']}")
    end = time.monotonic() + 10
    while left(folder) and time.monotonic() < end:
        time.sleep(0.02)
    assert left(folder) == set()
    assert client.json("GET", "/api/about")["count"] == COUNT


def head(client: Client, rest: str) -> bytes:
    return f"POST /api/search HTTP/1.1\r\nhost: {client.host}\r\ncookie: {client.cookie}\r\n{rest}\r\n\r\n".encode()


def line(client: Client) -> socket.socket:
    host, port = client.host.split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def test_large_and_slow_bodies_are_rejected(client, monkeypatch):
    chunk = b"100000\r\n" + bytes(2**20) + b"\r\n"
    for length, chunks in ((f"content-length: {2**30}", 0), ("transfer-encoding: chunked", guard.MOST_BYTES // 2**20 + 1)):
        with line(client) as opened:
            opened.sendall(head(client, length))
            for _ in range(chunks):
                opened.sendall(chunk)
            assert opened.recv(64).startswith(b"HTTP/1.1 413")
    for name in ("PATIENCE", "PAUSE"):
        with monkeypatch.context() as shorter, line(client) as opened:
            shorter.setattr(guard, name, 0.3)
            opened.sendall(head(client, "content-length: 10") + b"12")
            assert opened.recv(64).startswith(b"HTTP/1.1 408")
    assert client.json("GET", "/api/about")["count"] == COUNT


def test_many_large_bodies_are_rejected(client, monkeypatch):
    """The sum of all bodies that are being received is bounded; afterwards, requests are answered again."""
    monkeypatch.setattr(guard, "MOST_HELD", 3 * 2**20)
    with line(client) as first, line(client) as second:
        for opened in (first, second):
            opened.sendall(head(client, f"content-length: {2**22}") + bytes(2**21))
        first.settimeout(10)
        second.settimeout(10)
        time.sleep(0.5)
        first.setblocking(False)
        second.setblocking(False)
        answers = list[bytes]()
        for opened in (first, second):
            try:
                answers.append(opened.recv(4096))
            except BlockingIOError:
                answers.append(b"")
        refused = next(one for one in answers if one)
        assert refused.startswith(b"HTTP/1.1 429")
        assert b"retry-after" in refused
    end = time.monotonic() + 5
    while client.ask("POST", "/api/search", bytes(2**21))[0] == 429 and time.monotonic() < end:
        time.sleep(0.1)
    assert client.ask("POST", "/api/search", bytes(2**21))[0] == 415


def refused(opened: socket.socket, sent: bytes) -> bool:
    """Whether a connection on which data are sent is closed within some seconds."""
    end = time.monotonic() + 8
    try:
        while time.monotonic() < end:
            opened.sendall(sent)
            time.sleep(0.05)
    except OSError:
        return True
    return False


@pytest.mark.parametrize("sent", [b"", b"GET /api/about HT", b"GET / HTTP/1.1\r\nhost: x\r\n", b"G"])
def test_half_open_connections_are_closed(client, monkeypatch, sent):
    assert connections.PATIENCE <= 10
    monkeypatch.setattr(connections, "PATIENCE", 0.4)
    with line(client) as opened:
        before = time.monotonic()
        opened.sendall(sent)
        assert opened.recv(64) == b""
        assert 0.3 < time.monotonic() - before < 5


def test_half_open_requests_after_others_are_closed(client, monkeypatch):
    monkeypatch.setattr(connections, "PATIENCE", 0.4)
    whole = f"GET /api/item/1 HTTP/1.1\r\nhost: {client.host}\r\ncookie: {client.cookie}\r\n\r\n".encode()
    with line(client) as opened:
        for _ in range(3):
            opened.sendall(whole)
            time.sleep(0.2)
            assert opened.recv(65536).startswith(b"HTTP/1.1 200")
        opened.sendall(whole[:30])
        assert opened.recv(64) == b""
    with line(client) as opened:  # bytes after a refusal are no request
        opened.sendall(head(client, f"content-length: {2**30}"))
        assert opened.recv(65536).startswith(b"HTTP/1.1 413")
        assert refused(opened, bytes(1000))


@pytest.mark.slow
def test_clients_that_do_not_read_are_disconnected(client, monkeypatch):
    monkeypatch.setattr(connections, "PATIENCE", 0.4)
    page = f"GET /app.js HTTP/1.1\r\nhost: {client.host}\r\ncookie: {client.cookie}\r\n\r\n".encode()
    with socket.socket() as opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        host, port = client.host.split(":")
        opened.connect((host, int(port)))
        opened.settimeout(10)
        assert refused(opened, page)
    assert client.json("GET", "/api/about")["count"] == COUNT


@pytest.mark.parametrize(
    "rest",
    [
        "content-length: -1",
        "content-length: x",
        f"content-length: {'9' * 5000}",
        f"x: {'y' * 100_000}",
        "content-length: 1\r\ncontent-length: 2",
    ],
)
def test_invalid_heads_are_rejected(client, rest):
    with line(client) as opened:
        opened.sendall(head(client, rest))
        status = opened.recv(64)
    assert re.match(rb"HTTP/1.1 4\d\d", status), status
    assert client.json("GET", "/api/about")["count"] == COUNT


def test_texts_of_a_column_fit_a_header(client):
    """Long and many texts are shortened in the header; their codes are complete."""
    for row in range(COUNT):
        client.json("POST", "/api/edits/tag", {"subjects": [row], "value": f"{row:03d}" + "☃" * 1990})
    status, headers, body = client.ask("GET", "/api/column/tag")
    assert status == 200
    assert len(headers["x-values"]) <= 16_384
    shown = json.loads(headers["x-values"])
    assert shown[0] == "000" + "☃" * 76 + "…"
    assert np.frombuffer(body, "<f4").tolist() == list(range(COUNT))


def test_leftovers_of_killed_processes_are_deleted(tmp_path):
    code = "import sys, time; from pathlib import Path; from selfsight.core.cache import AtomicFolder; folder = AtomicFolder(Path(sys.argv[1]));"
    code += "(folder.partial / 'x').write_text('x'); print(folder.partial.name, flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "made")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    name = process.stdout.readline().strip()
    (tmp_path / ".partial-other-1-x").mkdir()
    (tmp_path / ".partial-x").write_text("of an earlier version")
    remove_stale(tmp_path)
    assert (tmp_path / name / "x").is_file()
    process.kill()
    process.wait()
    process.stdout.close()
    with AtomicFolder(tmp_path / "another") as own:
        assert {entry.name for entry in tmp_path.iterdir()} == {".partial-other-1-x", ".partial-x", own.partial.name}
        remove_stale(tmp_path)
        assert own.partial.is_dir()
    remove_stale(tmp_path / "nothing")
    write_atomically(tmp_path / "file", "content")
    assert {entry.name for entry in tmp_path.iterdir()} == {".partial-other-1-x", ".partial-x", "file"}


def test_leftovers_are_deleted_at_the_next_start(folder):
    process = subprocess.Popen([sys.executable, "-c", "import os; print(os.getpid())"], stdout=subprocess.PIPE, text=True)
    dead = int(process.communicate()[0])
    with AtomicFolder(folder / "x") as own:
        name = own.partial.name.split("-")
    name[2] = str(dead)
    for place in (folder, folder / "pack.jobs"):
        place.mkdir(exist_ok=True)
        (place / "-".join(name)).mkdir()
    (folder / "pack.jobs" / "uploads").mkdir()
    (folder / "pack.jobs" / "uploads" / "x.png").write_bytes(b"of version 0.1")
    serve(folder / "pack", port=0).close()
    assert not (folder / "pack.jobs" / "uploads").exists()
    assert not [*folder.glob(".partial-*"), *(folder / "pack.jobs").glob(".partial-*")]


SERVER = """
import sys, time
from pathlib import Path
from selfsight.explorer.server.opening import serve
print(serve(Path(sys.argv[1]), port=0).address, flush=True)
time.sleep(600)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="peak memory is read from /proc")
def test_uploads_need_bounded_memory(folder):
    """An announced gigabyte, bodies of unknown length, an image of 14,000 by 14,000, twelve uploads at once: memory grows by less than 100 MB."""
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(folder / "pack")], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        client = Client(RunningServer(process.stdout.readline().strip, process.kill, process.kill))
        client.json("GET", "/api/about")

        def peak() -> int:
            (found,) = [one for one in Path(f"/proc/{process.pid}/status").read_text().splitlines() if one.startswith("VmHWM")]
            return int(found.split()[1]) * 1024

        before = peak()
        for length in [f"content-length: {2**30}", *["transfer-encoding: chunked"] * 3]:
            with line(client) as opened:
                opened.sendall(head(client, length))
                for _ in range(21 if "chunked" in length else 0):
                    opened.sendall(b"100000\r\n" + bytes(2**20) + b"\r\n")
                assert opened.recv(64).startswith(b"HTTP/1.1 413")
        assert client.ask("POST", "/api/search", bomb())[0] == 415
        noise = io.BytesIO()
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (2000, 2000, 3), dtype=np.uint8)).save(noise, "JPEG", quality=50)
        answers = list[int]()
        threads = [
            threading.Thread(target=lambda: answers.append(client.ask("POST", "/api/search", noise.getvalue())[0])) for _ in range(12)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(answers) <= {202, 429}
        assert 202 in answers
        assert peak() - before < 100e6
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
