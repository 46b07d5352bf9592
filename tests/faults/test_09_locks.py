"""Two processes never write to one run, and a lock that outlived its process can be replaced."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from selfsight.cli import main
from selfsight.core.errors import UsageError
from selfsight.engine.lock import Lock, _here
from selfsight.workflows.train.run import RunPolicy, run_training

from training import broken, quiet, request_for, status

HOST = socket.gethostname()
LEARN = ["learn", "world:shapes?count=8&size=16", "--size", "16", "--backbone", "resnet_tiny?width=4", "--batch", "8", "--steps", "1"]
LEARN += ["--device", "cpu", "--no-report", "--out"]


@pytest.fixture
def program():
    """Another process that is alive."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def write(folder: Path, **holder: object) -> Path:
    file = folder / ".lock"
    file.write_text(json.dumps(holder))
    return file


def test_a_lock_names_its_process_and_is_removed(tmp_path):
    lock = Lock(tmp_path)
    lock.take()
    assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()
    with pytest.raises(UsageError, match=f"being written by process {os.getpid()} on {HOST}"):
        Lock(tmp_path).take(take_over=True)  # not even then, because the process is known to be alive
    lock.release()
    assert not list(tmp_path.iterdir())
    Lock(tmp_path).release()  # nothing


def test_a_lock_is_created_exclusively(tmp_path, monkeypatch):
    """Of two processes that find no lock, the second finds that of the first when it creates its own."""
    opened = os.open

    def slow(file, flags, *mode):
        if Path(file).name == ".lock" and not Path(file).exists():
            write(tmp_path, pid=1, host="other")
        return opened(file, flags, *mode)

    monkeypatch.setattr(os, "open", slow)
    with pytest.raises(UsageError, match="locked by process 1 on other"):
        Lock(tmp_path).take()
    assert json.loads((tmp_path / ".lock").read_text())["host"] == "other"


def test_a_lock_of_another_host_is_taken_over_on_request(tmp_path, capsys):
    write(tmp_path, pid=4242, host="node7")
    assert main([*LEARN, str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "locked by process 4242 on node7, which cannot be checked" in error
    assert "--take-over" in error
    assert main([*LEARN, str(tmp_path), "--take-over"]) == 0
    assert json.loads((tmp_path / "STATUS.json").read_text())["status"] == "finished"
    assert not (tmp_path / ".lock").exists()


def test_a_reused_number_is_recognised(tmp_path, program):
    lock = write(tmp_path, pid=program.pid, host=HOST, start="an earlier start")
    with pytest.raises(UsageError, match=f"process {program.pid} on {HOST}, and this number now belongs to another program") as refusal:
        Lock(tmp_path).take()
    assert "--take-over" in refusal.value.remedy
    Lock(tmp_path).take(take_over=True)
    assert json.loads(lock.read_text())["pid"] == os.getpid()


def test_a_dead_process_on_this_host_loses_its_lock(tmp_path, program):
    holder = _here() | {"pid": program.pid}
    program.kill()
    write(tmp_path, **holder)
    while (state := Path(f"/proc/{program.pid}/stat").read_text().rpartition(")")[2].split()[0]) not in "ZX":
        assert state
    Lock(tmp_path).take()  # a zombie has ended, too
    program.wait()
    write(tmp_path, **holder)
    Lock(tmp_path).take()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": "x", "host": "y"}', '{"pid": -1, "host": "y"}', "\x00\xff"])
def test_a_damaged_lock_is_named(tmp_path, content, monkeypatch):
    monkeypatch.setattr("selfsight.engine.lock.WAIT", 0.1)
    (tmp_path / ".lock").write_bytes(content.encode("latin-1"))
    with pytest.raises(UsageError, match="names no process") as refusal:
        Lock(tmp_path).take()
    assert "--take-over" in refusal.value.remedy
    Lock(tmp_path).take(take_over=True)


def test_a_refused_run_leaves_no_lock(tmp_path):
    assert main([*LEARN, str(tmp_path / "run")]) == 0
    assert main([*LEARN, str(tmp_path / "run"), "--resume", "--seed", "3"]) == 2
    assert not (tmp_path / "run" / ".lock").exists()
    assert main([*LEARN[:1], str(tmp_path / "nothing"), *LEARN[2:], str(tmp_path / "new" / "run")]) == 3
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("policy", [RunPolicy(resume=True, progress=quiet), RunPolicy(overwrite=True, progress=quiet)])
def test_a_locked_run_is_not_changed(tmp_path, policy):
    out = tmp_path / "run"
    broken(request_for("simclr"), out, after=6)
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    lock = out / ".lock"
    lock.write_text(json.dumps({"pid": sleeper.pid, "host": os.uname().nodename}))
    try:
        with pytest.raises(UsageError, match=f"being written by process {sleeper.pid}"):
            run_training(request_for("simclr"), out, policy)
        assert (out / "checkpoints" / "step_00000004").is_dir()
    finally:
        sleeper.kill()
        sleeper.wait()
    run_training(request_for("simclr"), out, policy)  # a dead process's lock is taken over
    assert status(out) == "finished"
    assert not lock.exists()
