"""A resumed run is bitwise identical to an uninterrupted one."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import selfsight.cli.learn
from selfsight.cli import main
from selfsight.core.errors import ResumeMismatch, UsageError
from selfsight.engine.observe import StepEvent
from selfsight.methods.table import METHODS
from selfsight.workflows.train.request import TrainRequest
from selfsight.workflows.train.run import RunPolicy, run_training

from small import SIDES, SMALL, small_backbone

STEPS = 13


def request_for(method: str, **more: Any) -> TrainRequest:
    side = SIDES.get(method, 16)
    given = {
        "data": f"world:shapes?count=40&size={side}",
        "size": side,
        "batch": 8,
        "steps": STEPS,
        "save_every": 4,
        "device": "cpu",
        "precision": "fp32",
    }
    return TrainRequest(**given | {"method": method, "backbone": small_backbone(method, side), "options": SMALL.get(method)} | more)


def quiet(words: str) -> None:
    """Ignore a message."""


def kept(run: Path) -> tuple[bytes, bytes]:
    """Bytes of weights and records."""
    return (run / "export" / "model.safetensors").read_bytes(), (run / "metrics.jsonl").read_bytes()


def status(run: Path) -> str:
    return json.loads((run / "STATUS.json").read_text())["status"]


class Breaks:
    """An observer that calls a function after a step."""

    def __init__(self, after: int, act: Callable[[], object]) -> None:
        self.after, self.act = after, act

    def on_step(self, event: StepEvent) -> None:
        if event.clock.step == self.after:
            self.act()


class Outage(Exception):
    """A simulated crash."""


def outage() -> None:
    raise Outage


def broken(asked: TrainRequest, out: Path, after: int) -> None:
    policy = RunPolicy(progress=quiet, observers=lambda source, settings: [Breaks(after, outage)])
    with pytest.raises(Outage):
        run_training(asked, out, policy)
    assert status(out) == "failed"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Uninterrupted runs, trained once."""
    made: dict[str, Path] = {}

    def get(method: str) -> Path:
        if method not in made:
            made[method] = tmp_path_factory.mktemp("whole") / method
            run_training(request_for(method), made[method], RunPolicy(progress=quiet))
        return made[method]

    return get


QUICK = ("simclr", "moco", "deepcluster")


@pytest.mark.parametrize("method", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in METHODS])
def test_resumed_equals_uninterrupted(tmp_path, whole, method):
    out = tmp_path / "run"
    broken(request_for(method), out, after=9)
    summary = run_training(request_for(method), out, RunPolicy(resume=True, progress=quiet))
    assert summary["images"] == (STEPS - 8) * 8  # from the checkpoint of eight steps on
    assert kept(out) == kept(whole(method))
    assert status(out) == status(whole(method))


def test_resume_before_the_first_checkpoint(tmp_path, whole):
    out = tmp_path / "run"
    broken(request_for("simclr"), out, after=2)
    assert run_training(request_for("simclr"), out, RunPolicy(resume=True, progress=quiet))["images"] == STEPS * 8
    assert kept(out) == kept(whole("simclr"))


def test_resume_without_a_run_starts_one(tmp_path, whole):
    run_training(request_for("simclr"), tmp_path / "run", RunPolicy(resume=True, progress=quiet))
    assert kept(tmp_path / "run") == kept(whole("simclr"))


def test_resume_of_a_finished_run_does_nothing(tmp_path, whole):
    out = tmp_path / "run"
    run_training(request_for("simclr"), out, RunPolicy(progress=quiet))
    summary = run_training(request_for("simclr"), out, RunPolicy(resume=True, progress=quiet))
    assert (summary["images"], summary["status"]) == (0, "finished")
    assert kept(out) == kept(whole("simclr"))


@pytest.mark.parametrize("damage", ["truncated", "flipped", "manifest", "missing"])
def test_damaged_checkpoint_falls_back_to_the_previous_one(tmp_path, whole, damage):
    out = tmp_path / "run"
    broken(request_for("moco"), out, after=9)
    newest = out / "checkpoints" / "step_00000008"
    weights = newest / "method.safetensors"
    content = weights.read_bytes()
    if damage == "truncated":
        weights.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        weights.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    elif damage == "manifest":
        (newest / "manifest.json").write_text('{"clock.json": "')
    else:
        (newest / "optimiser.pt").unlink()
    (out / "checkpoints" / ".partial-abc").mkdir()
    said: list[str] = []
    summary = run_training(request_for("moco"), out, RunPolicy(resume=True, progress=said.append))
    assert summary["images"] == (STEPS - 4) * 8
    assert any("step_00000008 is damaged" in words and "4 steps are repeated" in words for words in said)
    assert not list((out / "checkpoints").glob(".partial-*"))
    assert kept(out) == kept(whole("moco"))


def test_changed_options_are_rejected_with_the_differences(tmp_path, capsys):
    out = tmp_path / "run"
    run_training(request_for("simclr"), out, RunPolicy(progress=quiet))
    before = kept(out)
    with pytest.raises(ResumeMismatch) as refusal:
        run_training(request_for("simclr", options={"temperature": 0.5}, seed=3), out, RunPolicy(resume=True, progress=quiet))
    assert "options.temperature: 0.2 -> 0.5" in refusal.value.cause
    assert "seed: 0 -> 3" in refusal.value.cause
    assert refusal.value.exit_code == 2
    with pytest.raises(UsageError, match="already contains a run \\(finished\\)"):
        run_training(request_for("simclr"), out, RunPolicy(progress=quiet))
    assert kept(out) == before


def command(out: Path, method: str = "simclr", *more: str) -> list[str]:
    words = ["learn", "world:shapes?count=64&size=16", "--method", method, "--backbone", small_backbone(method, 16), "--size", "16"]
    words += ["--batch", "8", "--steps", "60", "--save-every", "5", "--device", "cpu", "--precision", "fp32", "--no-report", "--json"]
    return [*words, "--out", str(out), *more]


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


def test_overwrite_replaces(tmp_path, whole):
    out = tmp_path / "run"
    run_training(request_for("simclr", seed=5), out, RunPolicy(progress=quiet))
    assert kept(out) != kept(whole("simclr"))
    run_training(request_for("simclr"), out, RunPolicy(overwrite=True, progress=quiet))
    assert kept(out) == kept(whole("simclr"))


def test_overwrite_deletes_only_runs(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="not empty and not a run"):
        run_training(request_for("simclr"), tmp_path, RunPolicy(overwrite=True, progress=quiet))
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


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
