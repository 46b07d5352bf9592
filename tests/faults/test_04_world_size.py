"""A run is continued on another number of processes: the same samples per step, and the same losses up to rounding."""

import json
from pathlib import Path

import pytest

from selfsight.cli import main

from training import command, newest, processes, waited_for

pytestmark = pytest.mark.slow
MORE = ("--steps", "31", "--save-every", "10", "--training.rate", "1e-3")
"""A small rate: at the preset's, a change of the weights by 1e-7 changes the loss by half a percent within ten steps."""


def losses(run: Path) -> list[float]:
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [0, 10, 20, 30]
    return [record["loss"] for record in records]


@pytest.mark.parametrize(("first", "then"), [(1, 2), (2, 1)])
def test_continued_on_another_number_of_processes(tmp_path, capfd, first, then):
    out, whole = tmp_path / "run", tmp_path / "whole"
    assert main(command(whole, "simclr", *MORE)) == 0
    begun = processes(first, command(out, "simclr", *MORE))
    waited_for(out / "checkpoints" / "step_00000010" / "manifest.json")
    for process in begun:
        process.kill()
        process.wait()
    assert int(newest(out).name[-2:]) < 31
    continued = processes(then, command(out, "simclr", *MORE, "--resume"))
    assert [process.wait(timeout=120) for process in continued] == [0] * then
    assert capfd.readouterr().out.count('"finished"') == 2, "one line for each run, from its first process"
    assert losses(out) == pytest.approx(losses(whole), rel=1e-5)
    origin = json.loads((out / "origin.json").read_text())
    assert origin["processes"] == first
