"""Checkpoints, records and collapse detection."""

import errno
import json
import math
import os
import signal
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from selfsight.core.clock import Clock
from selfsight.core.errors import Collapsed, EnvironmentFault, SelfsightError
from selfsight.core.method import Method, Outcome
from selfsight.core.views import Images
from selfsight.engine import checkpoint
from selfsight.engine.checkpoint import load_checkpoint, newest_checkpoint, save_checkpoint
from selfsight.engine.health import RULES, Health
from selfsight.engine.observe import Progress, Recorder, StepEvent, describe
from selfsight.engine.plan import StepResult
from selfsight.engine.run import RunFolder, Saver, Signals
from selfsight.workflows.train.config import build

from small import settings


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def saved(folder: Path, step: int, method: Method, **more: Any) -> Path:
    optimiser = torch.optim.SGD(method.parameters(), lr=0.1, momentum=0.9)
    torch.stack([parameter.sum() for parameter in method.parameters()]).sum().backward()
    optimiser.step()
    return save_checkpoint(folder, method, optimiser, Clock(step=step, steps=9), **more)


@pytest.fixture
def method() -> Method:
    return build(settings("simclr"))


def test_checkpoint_contains_everything(tmp_path, method):
    path = saved(tmp_path, 3, method)
    assert path.name == "step_00000004"
    assert json.loads((tmp_path / "last.json").read_text()) == {"checkpoint": path.name}
    before = {name: value.clone() for name, value in method.state_dict().items()}
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.zero_()
    done, state = load_checkpoint(path, method)
    assert done == 4
    assert all(torch.equal(method.state_dict()[name], value) for name, value in before.items())
    assert all("momentum_buffer" in one for one in state["state"].values())


def test_checkpoint_is_on_the_disk_before_it_counts(tmp_path, method, monkeypatch):
    flushed: list[str] = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (flushed.append(Path(f"/proc/self/fd/{handle}").readlink().name), fsync(handle)))
    path = saved(tmp_path, 3, method)
    assert {file.name for file in path.iterdir()} <= set(flushed)
    assert flushed.index("method.safetensors") < next(index for index, name in enumerate(flushed) if "last.json" in name)


@pytest.mark.parametrize(("step", "stops"), [(3, True), (8, False)])
def test_signal_stops_a_run_unless_it_is_complete(tmp_path, method, step, stops):
    batch = Images(torch.zeros(1, 3, 2, 2, dtype=torch.uint8), torch.arange(1))
    event = StepEvent(Clock(step=step, steps=9), (), batch, method, torch.optim.SGD(method.parameters(), lr=0.1))
    signals = Signals()
    signals.caught = signal.SIGINT
    saver = Saver(RunFolder(tmp_path), signals, every=100)
    with pytest.raises(SelfsightError, match="Stopped after step 4 of 9") if stops else nullcontext():
        saver.on_step(event)
    assert newest_checkpoint(RunFolder(tmp_path).checkpoints, pytest.fail) is not None


def test_only_the_newest_are_kept(tmp_path, method):
    for step in range(4):
        saved(tmp_path, step, method, keep=2)
    assert sorted(path.name for path in tmp_path.glob("step_*")) == ["step_00000003", "step_00000004"]
    assert newest_checkpoint(tmp_path, pytest.fail) == tmp_path / "step_00000004"


@pytest.mark.parametrize("broken", ["torch.save", "write_weights", "write_atomically"])
def test_full_disk_leaves_the_old_checkpoint(tmp_path, method, monkeypatch, broken):
    old = saved(tmp_path, 1, method)
    target, name = (torch, "save") if broken == "torch.save" else (checkpoint, broken)
    monkeypatch.setattr(target, name, full)
    with pytest.raises(EnvironmentFault, match=r"step 3 could not be written.*No space left") as fault:
        saved(tmp_path, 2, method)
    assert fault.value.exit_code == 5
    assert "--resume" in fault.value.remedy
    assert not list(tmp_path.glob(".partial-*"))
    assert old.is_dir()
    found = newest_checkpoint(tmp_path, pytest.fail)
    assert found is not None
    assert found == old or load_checkpoint(found, method)[0] == 3  # whole, whichever it is


def event(step: int, method: Method, steps: int = 30, **diagnostics: torch.Tensor) -> StepEvent:
    outcome = Outcome({"one": torch.tensor(1.5), "two": torch.tensor(0.25)}, diagnostics)
    batch = Images(torch.zeros(4, 3, 2, 2, dtype=torch.uint8), torch.arange(4))
    optimiser = torch.optim.SGD(method.parameters(), lr=0.1)
    return StepEvent(Clock(step=step, steps=steps, steps_per_epoch=4), (StepResult(outcome, True, 2.0, 0.1),), batch, method, optimiser)


def test_record_contains_losses_and_diagnostics(method):
    even = torch.eye(4).repeat(2, 1)
    record = describe(event(9, method, embedding=torch.eye(4), assignment=even, accuracy=torch.tensor(0.5), chance=torch.tensor(4.0).log()))
    assert record["loss"] == 1.75
    assert (record["one"], record["two"], record["epoch"], record["step"], record["skipped"]) == (1.5, 0.25, 2, 9, 0)
    assert record["largest_share"] == pytest.approx(0.25)
    assert record["clusters_used"] == pytest.approx(4.0)
    assert record["assignment_entropy"] == pytest.approx(0.0)
    assert record["assignment_information"] == pytest.approx(math.log(4))
    assert record["effective_rank"] == pytest.approx(3.0, rel=1e-4)
    assert record["accuracy"] == 0.5
    json.dumps(record)


def test_recorder_writes_every_tenth_and_the_last(tmp_path, method):
    recorder, on_record = Recorder(tmp_path, every=10), []
    recorder.subscribe(lambda record, timing: on_record.append((record["step"], timing["step"])))
    for step in range(25):
        recorder.on_step(event(step, method, steps=25))
    for name in ("metrics.jsonl", "timing.jsonl"):
        assert [json.loads(line)["step"] for line in (tmp_path / name).read_text().splitlines()] == [0, 10, 20, 24]
    assert on_record == [(step, step) for step in (0, 10, 20, 24)]
    assert "seconds" not in json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])


def test_recorder_keeps_its_lines_while_the_disk_is_full(tmp_path, method, monkeypatch, capsys):
    recorder = Recorder(tmp_path, every=1)
    recorder.on_step(event(0, method))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        recorder.on_step(event(1, method))
        recorder.on_step(event(2, method))
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1
    recorder.on_step(event(3, method))
    for name in ("metrics.jsonl", "timing.jsonl"):
        assert [json.loads(line)["step"] for line in (tmp_path / name).read_text().splitlines()] == [0, 1, 2, 3]
    warned = capsys.readouterr().err
    assert warned.count("could not be written") == 1


def test_progress_shows_the_last_step(capsys):
    progress = Progress(20, every_seconds=1000.0)
    for step in (0, 10, 19):
        progress.on_record({"step": step, "loss": 2.0, "spread": 0.5}, {"images_per_second": 1234.0, "data_wait": 0.1})
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("step 20/20 · loss 2.0000")
    assert "1,234 images/s" in lines[-1]
    assert not any(line.startswith("step 11/") for line in lines)


HEALTHY = {"loss": 3.0, "spread": 0.8, "effective_rank": 20.0, "largest_share": 0.05, "assignment_information": 1.0, "chance": 5.0}
COLLAPSED: dict[str, dict[str, float]] = {
    "spread": {"spread": 0.02},
    "rank": {"effective_rank": 1.1},
    "one cluster": {"largest_share": 0.97},
    "chance": {"loss": 4.9, "assignment_information": 0.01},
}


def judged(records: list[dict[str, float]], **more: Any) -> tuple[Health, list[str]]:
    said: list[str] = []
    health = Health(said.append, **more)
    for number, record in enumerate(records):
        health.on_record({"step": 10 * number} | record, {})
    return health, said


@pytest.mark.parametrize("name", COLLAPSED)
def test_collapse_is_reported_once_within_300_steps(name):
    health, said = judged([HEALTHY | COLLAPSED[name]] * 30)
    assert health.verdict.startswith(f"{name}: ")
    assert len(said) == 1
    assert 0 < health.since < 300
    assert str(health.since) in said[0]


def test_every_rule_is_tested():
    assert {rule.name for rule in RULES} == set(COLLAPSED)


@pytest.mark.parametrize(
    "records",
    [
        [HEALTHY] * 60,
        [HEALTHY | COLLAPSED["spread"], *[HEALTHY] * 2] * 20,  # now and then is no collapse
        [HEALTHY | {"loss": 5.0, "assignment_information": 0.0}] * 14 + [HEALTHY] * 40,  # DINO and SwAV begin at ln K
        [HEALTHY | {"loss": 5.0}] * 60,  # the loss is ln K and the targets say something
        [HEALTHY | COLLAPSED["chance"] | {"rate": 1e-4 * step} for step in range(60)],  # still warming up
        [{"loss": 5.0, "assignment_information": 0.01}] * 60,  # DeepCluster's classifier, begun anew
        [{"loss": 0.7}] * 60,  # nothing to judge by
        [{"loss": 1.386, "chance": 0.0}] * 60,
    ],
)
def test_healthy_runs_are_not_reported(records):
    health, said = judged(records)
    assert not health.verdict
    assert not said


def test_collapse_can_end_the_run():
    with pytest.raises(Collapsed, match="nearly the same embedding") as end:
        judged([HEALTHY | COLLAPSED["spread"]] * 30, fail=True)
    assert end.value.exit_code == 4
