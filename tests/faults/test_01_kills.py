"""Processes that are killed at random moments lose nothing: the last complete checkpoint is there, and the run goes on from it."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from selfsight.cli import main
from selfsight.engine.checkpoint import newest_checkpoint

from kills import started
from training import command, kept, status


def kill_and_resume(tmp_path: Path, method: str, seed: int, *more: str) -> None:
    """SIGKILL at a random time of a real process; the result equals that of the uninterrupted run."""
    chance = random.Random(seed)
    whole, out = tmp_path / "whole", tmp_path / "run"
    here = dict(os.environ) | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen([sys.executable, "-m", "selfsight", *command(out, method, *more)], env=here, stderr=subprocess.DEVNULL)
    first = out / "checkpoints" / "step_00000005" / "manifest.json"
    ends = time.monotonic() + 120
    while not first.is_file() and process.poll() is None and time.monotonic() < ends:
        time.sleep(0.002)
    time.sleep(chance.random() * 0.4)
    process.kill()
    assert process.wait() == -signal.SIGKILL, "it ended before it was killed"
    assert not (out / "export" / "model.safetensors").exists()
    assert status(out) == "running"
    assert main(command(whole, method)) == 0
    assert main(command(out, method, "--resume", *more)) == 0
    assert kept(out) == kept(whole)


def test_killed_and_resumed(tmp_path, capsys):
    kill_and_resume(tmp_path, "simclr", 0)


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize("method", ["simclr", "moco", "dino", "deepcluster"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_killed_at_random_times_and_resumed(tmp_path, capsys, method, workers, seed):
    kill_and_resume(tmp_path, method, seed, "--workers", workers)


def steps_done(run: Path) -> int:
    """Steps of the newest complete checkpoint, of which none may be damaged."""
    newest = newest_checkpoint(run / "checkpoints", pytest.fail) if run.is_dir() else None
    return int(newest.name.split("_")[1]) if newest else 0


def killed(words: list[str], chance: random.Random, *, while_saving: bool, longest: float) -> bool:
    """Start a command and kill it within the writing of a checkpoint, or at any moment; whether it was still running."""
    process, told = started(words)
    try:
        for _ in range(2 * chance.randint(0, 2) + 1 if while_saving else 0):
            assert told.poll(120), "no checkpoint within two minutes"
            told.recv_bytes()
        time.sleep(chance.random() * longest)
    except EOFError:
        pass  # it has finished
    process.kill()
    process.join()
    told.close()
    return process.exitcode == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("while_saving", [True, False])
def test_fifty_kills_of_one_run(tmp_path, record_testsuite_property, while_saving):
    """Half a hundred restarts of one run, each killed: progress is never lost, and the result is that of an uninterrupted run."""
    chance, whole, out = random.Random(7), tmp_path / "whole", tmp_path / "run"
    more = ("--save-every", "1", "--steps", "150")
    assert main(command(whole, "moco", *more)) == 0
    first = started(command(tmp_path / "timed", "moco", *more))
    first[1].recv_bytes()
    before = time.perf_counter()
    first[1].recv_bytes()
    saving = time.perf_counter() - before
    first[0].kill()
    first[0].join()
    done, kills, within = 0, 0, 0
    while kills < 50:
        longest = 1.5 * saving if while_saving else 4.0
        assert killed(command(out, "moco", "--resume", *more), chance, while_saving=while_saving, longest=longest), "it ended too early"
        kills += 1
        within += bool(list((out / "checkpoints").glob(".partial-*")))
        assert steps_done(out) >= done, "a completed checkpoint was lost"
        done = steps_done(out)
        if (out / "STATUS.json").exists():
            assert status(out) == "running"
    assert done > 0
    assert not while_saving or within >= 10, f"only {within} kills met a partial checkpoint"
    assert main(command(out, "moco", "--resume", *more)) == 0
    assert kept(out) == kept(whole)
    assert not [path for path in out.rglob("*") if "partial" in path.name or path.name == ".lock"]
    record_testsuite_property("kills", f"{within} of {kills} within a checkpoint, {done} steps saved")
