"""Edits and results of jobs on a full or read-only disk: a clear answer, the server goes on, and nothing that was stored is lost."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from selfsight.core.errors import DataError, EnvironmentFault
from selfsight.explorer.server import opening
from selfsight.explorer.server.edits import Edits
from selfsight.explorer.server.opening import RunningServer, serve

from explorer_store import COUNT, Client, make_shelf

SERVER = """
import resource, signal, sys, time
from pathlib import Path
from selfsight.explorer.server import opening
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
opening.WORKER = (str(Path(sys.argv[1]).parent / "worker.py"),)
server = opening.serve(Path(sys.argv[1]), port=0)
if int(sys.argv[2]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
print(server.address, flush=True)
time.sleep(600)
"""
WORKER = """
import json, os, sys
for line in sys.stdin:
    asked = json.loads(line)
    if asked["given"]["row"] == 1:
        open(os.path.join(asked["out"], "sheet.png"), "wb").write(b"png")
    print(json.dumps({"found": {"files": [], "words": "x" * 100_000}}), flush=True)
"""
READ_ONLY = ["setpriv", "--bounding-set", "-dac_override"] if os.geteuid() == 0 else []
"""The superuser ignores the permissions of files unless this capability is taken away."""


@contextmanager
def running(folder: Path, most: int = 0, *, prefix: tuple[str, ...] = ()):
    """A server in a process whose files cannot grow above a size."""
    words = [*prefix, sys.executable, "-c", SERVER, str(folder / "pack"), str(most)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        yield Client(RunningServer(process.stdout.readline().strip, process.kill, process.kill))
        assert process.poll() is None
    finally:
        process.kill()
        said = process.communicate()[1]
    assert "Traceback" not in said, said


@pytest.fixture
def folder(tmp_path):
    make_shelf(tmp_path).edits.set("tag", [1, 2], "before")
    (tmp_path / "worker.py").write_text(WORKER)
    return tmp_path


def refused(client: Client, value: str) -> dict[str, str]:
    status, _, body = client.ask("POST", "/api/edits/tag", {"subjects": list(range(COUNT)), "value": value})
    assert status == 507
    told = json.loads(body)
    assert set(told) == {"cause", "remedy"}
    assert told["remedy"]
    assert "\n" not in told["cause"]
    assert client.json("GET", "/api/item/1")["tag"] == "before"
    assert client.json("GET", "/api/item/3")["tag"] == ""
    return told


@pytest.mark.slow
def test_a_full_disk(folder):
    size = (folder / "pack.edits.sqlite").stat().st_size
    with running(folder, size) as client:
        assert "bytes are free" in refused(client, "x" * 2000)["cause"]
        job = client.ended(client.json("POST", "/api/jobs/segments", {"row": 3})["job"])
        assert job["state"] == "failed"
        assert "bytes" in job["words"]
        assert client.ended(client.json("POST", "/api/jobs/segments", {"row": 4})["job"])["state"] == "failed"  # the queue goes on
        assert [file for file in (folder / "pack.jobs").rglob("*") if file.is_file()] == []
        assert client.ask("POST", "/api/edits/tag", {"subjects": [5], "value": "fits"})[0] in (200, 507)
        assert client.json("GET", "/api/about")["count"] == COUNT
    with running(folder) as client:
        assert client.json("GET", "/api/item/1")["tag"] == "before"
        assert client.ended(client.json("POST", "/api/jobs/segments", {"row": 3})["job"])["state"] == "done"
        client.json("POST", "/api/edits/tag", {"subjects": [3], "value": "after"})
        assert client.json("GET", "/api/item/3")["tag"] == "after"


@pytest.mark.slow
@pytest.mark.skipif(bool(READ_ONLY) and shutil.which("setpriv") is None, reason="the superuser can write everywhere")
def test_a_read_only_folder(folder):
    (folder / "pack.edits.sqlite").chmod(0o444)
    folder.chmod(0o555)
    try:
        with running(folder, prefix=tuple(READ_ONLY)) as client:
            assert "readonly" in refused(client, "x")["cause"]
            job = client.ended(client.json("POST", "/api/jobs/segments", {"row": 1})["job"])
            assert job["state"] == "failed"
            assert "Permission denied" in job["words"]
            assert client.json("GET", "/api/edits")[0]["value"] == "before"
            assert client.ask("POST", "/api/undo", {})[0] == 507
            assert client.ask("POST", "/api/export/csv", {})[0] == 200
            assert client.json("GET", "/api/about")["count"] == COUNT
    finally:
        folder.chmod(0o755)


def test_an_edit_that_fails_changes_nothing(tmp_path):
    """The database refuses to grow: the transaction is undone, and the next edit that fits is stored."""
    edits = Edits(tmp_path / "edits.sqlite")
    edits.set("tag", [1], "before")
    with edits._opened() as base:
        pages = base.execute("pragma page_count").fetchone()[0]
        base.execute(f"pragma max_page_count = {pages}")
    with pytest.raises(EnvironmentFault, match=r"cannot be stored in .*full; [\d,]+ bytes are free"):
        edits.set("tag", list(range(500)), "x" * 2000)
    assert edits.values("tag") == {1: "before"}
    assert [one["value"] for one in edits.history()] == ["before"]
    edits.set("tag", [2], "after")
    assert edits.values("tag") == {1: "before", 2: "after"}
    assert edits.undo() == "tag"
    edits.close()


@pytest.mark.parametrize("content", [b"no database", b"SQLite format 3\x00" + b"\xff" * 5000, "half"])
def test_a_damaged_file_is_named_and_kept(tmp_path, content):
    file = tmp_path / "edits.sqlite"
    if content == "half":
        whole = Edits(file)
        whole.set("tag", list(range(2000)), "x" * 100)
        whole.close()
        content = file.read_bytes()[: file.stat().st_size // 2]
    file.write_bytes(content)
    edits = Edits(file)
    for use in (lambda: edits.values("tag"), edits.history, edits.undo, lambda: edits.set("tag", [1], "x")):
        with pytest.raises(DataError, match=r"edits.sqlite cannot be read") as refused:
            use()
        assert refused.value.remedy
    assert file.read_bytes() == content


def test_edits_that_another_process_stores(tmp_path, monkeypatch):
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *given, **more: connect(*given, timeout=0.1, **more))
    edits = Edits(tmp_path / "edits.sqlite")
    edits.set("tag", [1], "before")
    other = sqlite3.connect(tmp_path / "edits.sqlite")
    other.execute("begin exclusive")
    with pytest.raises(EnvironmentFault, match="in use by another process"):
        edits.set("tag", [1], "x")
    other.rollback()
    other.close()
    assert edits.values("tag") == {1: "before"}
    edits.close()


@pytest.mark.parametrize("name", ["thumbs.bin", "items.parquet", "map-0.npy", "clusters.json"])
def test_files_that_disappear_or_are_damaged_while_they_are_served(tmp_path, monkeypatch, name):
    make_shelf(tmp_path)
    (tmp_path / "worker.py").write_text(WORKER)
    monkeypatch.setattr(opening, "WORKER", (str(tmp_path / "worker.py"),))
    opened = serve(tmp_path / "pack", port=0)
    path = {"thumbs.bin": "/api/thumb/3", "items.parquet": "/api/item/3", "map-0.npy": "/api/map", "clusters.json": "/api/clusters"}[name]
    try:
        client = Client(opened)
        file = tmp_path / "pack" / name
        kept = file.read_bytes()
        file.unlink()
        status, _, body = client.ask("GET", path)
        assert status == 507
        assert set(json.loads(body)) == {"cause", "remedy"}
        if name != "thumbs.bin":
            file.write_bytes(b"\xff damaged")
            status, _, body = client.ask("GET", path)
            assert status == 404
            assert "damaged" in json.loads(body)["cause"]
        file.write_bytes(kept)
        assert client.ask("GET", path)[0] == 200
    finally:
        opened.close()
