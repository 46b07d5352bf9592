"""A full disk: what was written stays, the status is true, and the message names needed and free bytes."""

import errno
import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from selfsight.bank.store import BankWriter
from selfsight.cli import main
from selfsight.core.cache import write_atomically
from selfsight.core.errors import EnvironmentFault
from selfsight.core.files import is_disk_full
from selfsight.engine.checkpoint import write_weights

from disks import COMMANDS, namespaces, outcomes

pytestmark = pytest.mark.slow  # seconds each, in processes of their own

DATA = "world:shapes?count=16&size=16"
WORDS = ["learn", DATA, "--size", "16", "--backbone", "resnet_tiny?width=8", "--batch", "8", "--steps", "4"]
WORDS += ["--save-every", "2", "--device", "cpu", "--no-report", "--out"]
LIMITED = """
import resource, signal, sys
from selfsight.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
sys.exit(main(sys.argv[2:]))
"""
BYTES = r"needs [\d,]+ bytes, and [\d,]+ are free"


def limited(size: int, *words: str) -> tuple[int, str]:
    """Exit code and messages of a command in a process whose files cannot grow above a size."""
    found = subprocess.run([sys.executable, "-c", LIMITED, str(size), *words], capture_output=True, text=True, check=False)
    return found.returncode, found.stderr


@pytest.mark.parametrize("size", [600_000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_a_checkpoint_that_does_not_fit(tmp_path, size):
    """The weights fit and the optimiser's state does not; neither does."""
    out = tmp_path / "run"
    code, error = limited(size, *WORDS, str(out))
    assert code == 5, error
    assert re.search(BYTES, error)
    assert "Traceback" not in error
    status = json.loads((out / "STATUS.json").read_text())
    assert status["status"] == "failed"
    assert re.search(BYTES, status["reason"])
    assert not list((out / "checkpoints").iterdir())
    assert not (out / ".lock").exists()
    assert main([*WORDS, str(out), "--resume"]) == 0


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_the_status_is_true_without_a_free_byte(tmp_path, monkeypatch, capsys):
    """No file can be made, but the block of the earlier status can be written again."""
    out = tmp_path / "run"
    written = {"count": 0}

    def fill(path, *rest, **more):
        written["count"] += 1
        full()

    monkeypatch.setattr(
        "selfsight.engine.checkpoint.torch.save", lambda *_: (monkeypatch.setattr("selfsight.core.cache._replace", fill), full())
    )
    assert main([*WORDS, str(out)]) == 5
    assert written["count"]
    assert json.loads((out / "STATUS.json").read_text())["status"] == "failed"
    assert re.search(BYTES, capsys.readouterr().err)


def test_a_status_that_cannot_be_written_does_not_hide_the_cause(tmp_path, monkeypatch, capsys):
    out = tmp_path / "run"

    def fail(*_):
        (out / "STATUS.json").unlink()
        monkeypatch.setattr("selfsight.core.cache._replace", full)
        full()

    monkeypatch.setattr("selfsight.engine.checkpoint.torch.save", fail)
    assert main([*WORDS, str(out)]) == 5
    error = capsys.readouterr().err
    assert "The checkpoint of step 2 could not be written" in error
    assert "warning: STATUS.json could not be written" in error


@pytest.mark.parametrize("step", ["config", "export"])
def test_other_files_of_a_run(tmp_path, monkeypatch, capsys, step):
    out = tmp_path / "run"
    if step == "config":
        monkeypatch.setattr("selfsight.core.cache.os.fsync", full)
    else:
        before = save_file
        monkeypatch.setattr(
            "selfsight.engine.checkpoint.save_file",
            lambda tensors, path, **more: full() if "export" in str(path) else before(tensors, path, **more),
        )
    assert main([*WORDS, str(out)]) == 5
    error = capsys.readouterr().err
    assert re.search(BYTES, error)
    assert not list(out.rglob("*.partial"))
    if step == "export":
        assert json.loads((out / "STATUS.json").read_text())["status"] == "failed"
        monkeypatch.undo()
        assert main([*WORDS, str(out), "--resume"]) == 0


def test_weights_replace_a_file_when_they_are_complete(tmp_path, monkeypatch):
    file = tmp_path / "model.safetensors"
    write_weights({"a": torch.ones(4)}, file)
    before = file.read_bytes()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    import signal

    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
    try:
        with pytest.raises(EnvironmentFault, match="needs 4,000,000 bytes") as fault:  # safetensors raises its own error
            write_weights({"a": torch.ones(1_000_000)}, file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert fault.value.exit_code == 5
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_all_libraries_errors_are_recognised(tmp_path):
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    import signal

    handler, found = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), {}
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
    writers = {
        "torch": lambda: torch.save(torch.ones(100_000), tmp_path / "a.pt"),
        "safetensors": lambda: save_file({"a": torch.ones(100_000)}, tmp_path / "a.safetensors"),
        "numpy": lambda: np.save(tmp_path / "a.npy", np.ones(100_000)),
        "write": lambda: (tmp_path / "a.txt").write_text("x" * 100_000),
    }
    try:
        for name, write in writers.items():
            try:
                write()
            except Exception as error:  # noqa: BLE001 - which it is differs
                found[name] = error
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert set(found) == set(writers)
    assert all(map(is_disk_full, found.values())), found
    assert not is_disk_full(RuntimeError("shape mismatch"))
    assert not is_disk_full(OSError(errno.EACCES, "Permission denied"))


def test_a_bank_reserves_its_space(tmp_path, monkeypatch):
    """A write to a mapping on a full disk would end the process with a signal."""
    monkeypatch.setattr(os, "posix_fallocate", full)
    with BankWriter(tmp_path / "bank", 1000) as writer, pytest.raises(EnvironmentFault, match=BYTES):
        writer.add({"output": np.ones((10, 64), np.float32)})
    assert not list(tmp_path.iterdir())


def test_an_atomic_write_names_its_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr("selfsight.core.cache.os.fsync", full)
    with pytest.raises(EnvironmentFault, match="needs 12,345 bytes"):
        write_atomically(tmp_path / "a", b"x" * 12_345)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["file", "below a file", "read-only"])
def test_the_folder_is_tried_first(tmp_path, monkeypatch, capsys, kind):
    """Before a trial, and before data are read."""
    monkeypatch.setattr("selfsight.workflows.train.run.open_source", lambda *_, **__: pytest.fail("the data were read"))
    monkeypatch.setattr("selfsight.workflows.train.run.resolve_config", lambda *_, **__: pytest.fail("a trial was made"))
    (tmp_path / "file").write_text("mine")
    out = {"file": tmp_path / "file", "below a file": tmp_path / "file" / "run", "read-only": Path("/proc/self/task/run")}[kind]
    assert main([*WORDS, str(out)]) == 5
    error = capsys.readouterr().err
    assert f"{out} cannot be written" in error
    assert "Choose another --out" in error
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(not namespaces(), reason="needs file systems of its own")
def test_disks_of_all_sizes(tmp_path):
    """Real file systems with room for a part of what is written: exit 5 with the free bytes, a true status, and nothing partial is left."""
    run = tmp_path / "run"
    assert main([*WORDS, str(run)]) == 0
    cases = [{"words": [*WORDS, "DISK/run"], "size": size << 10} for size in (4, 16, 64, 300, 700, 1000, 1600)]
    cases += [
        {"words": [*words, "--device", "cpu"], "run": str(run), "size": 16 << 20, "free": free}
        for words in COMMANDS.values()
        for free in (0, 4096, 30_000)
    ]
    results = outcomes(cases)
    for case, found in zip(cases, results, strict=True):
        assert found["code"] in (0, 5), (case, found["said"])
        assert "Traceback" not in found["said"], case
        assert not found["left"], case
        if found["code"] == 5:
            assert re.search(r"[\d,]+ (bytes )?are free below \S*/disk", found["said"]), (case, found["said"])
        if "run" in case:
            assert json.loads(found["status"])["status"] == "finished"
        elif found["status"]:
            assert json.loads(found["status"])["status"] == ("failed" if found["code"] else "finished")
    assert {found["code"] for found in results} == {0, 5}
