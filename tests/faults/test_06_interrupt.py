"""Ctrl-C and SIGTERM save a checkpoint and name the command that continues."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

import selfsight.cli.learn
from selfsight.cli import main

from small import SMALL
from training import STEPS, Breaks, command, kept, status


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_signal_saves_a_checkpoint_and_is_reported(tmp_path, monkeypatch, capsys, whole, number, code):
    out = tmp_path / "run"
    before = signal.getsignal(number)
    act = [Breaks(5, lambda: os.kill(os.getpid(), number))]
    monkeypatch.setattr(selfsight.cli.learn, "_observers", lambda read: lambda source, settings: act)
    words = command(out, "simclr", *(word for name, value in SMALL["simclr"].items() for word in (f"--{name}", str(value))))
    words[1], words[words.index("--steps") + 1] = "world:shapes?count=40&size=16", str(STEPS)
    assert main([*words, "--save-every", "4"]) == code
    assert signal.getsignal(number) == before
    assert status(out) == "preempted"
    assert "Stopped after step 6 of 13" in capsys.readouterr().err
    assert (out / "checkpoints" / "step_00000006" / "manifest.json").is_file()
    monkeypatch.undo()
    assert main([*words, "--save-every", "4", "--resume"]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "finished"
    assert kept(out) == kept(whole("simclr"))


@pytest.mark.slow
def test_ctrl_c_in_a_terminal(tmp_path):
    """A real process: the same checkpoint, exit code 130 and a command that can be pasted."""
    out = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "selfsight", *command(out, "simclr", "--steps", "2000")], stderr=subprocess.PIPE, text=True
    )
    try:
        ends = time.monotonic() + 120
        while not (out / "checkpoints" / "last.json").is_file() and process.poll() is None and time.monotonic() < ends:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        error = process.communicate(timeout=30)[1]
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Traceback" not in error
    assert f"selfsight learn --resume {out}" in error or "--resume" in error
    assert status(out) == "preempted"
    assert not (out / ".lock").exists()
