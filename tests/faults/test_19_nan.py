"""Losses and gradients that are not finite: the step is skipped and counted; three in a row end the run and name the samples.

A skipped step changes nothing, so that there is no state to go back to.
"""

import json

import pytest
import torch

from selfsight.core.errors import Diverged
from selfsight.data.loader import Loader
from selfsight.data.opening import open_source
from selfsight.methods.table import method_class
from selfsight.workflows.train.run import RunPolicy, run_training

from training import newest, quiet, request_for, status


@pytest.fixture
def faulty(monkeypatch):
    """A function that makes the loss or gradient of some steps not finite."""

    def make(steps: tuple[int, ...], kind: str) -> None:
        cls = method_class("simclr")
        forward = cls.forward

        def broken(self, views, clock):
            outcome = forward(self, views, clock)
            if clock.step in steps:
                name, loss = next(iter(outcome.losses.items()))
                if kind == "nan":
                    outcome.losses[name] = loss * float("nan")
                else:
                    loss.register_hook(lambda gradient: torch.full_like(gradient, float("inf")))
            return outcome

        monkeypatch.setattr(cls, "forward", broken)

    return make


@pytest.mark.parametrize("kind", ["nan", "infinite gradient"])
def test_steps_are_skipped_and_counted(tmp_path, faulty, kind):
    faulty((4, 5, 10), kind)
    run_training(request_for("simclr", steps=13), tmp_path / "run", RunPolicy(progress=quiet))
    assert status(tmp_path / "run") == "finished"
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [record["skipped"] for record in records] == [0, 1, 0]
    weights = torch.load(newest(tmp_path / "run") / "optimiser.pt")
    assert all(torch.isfinite(value).all() for state in weights["state"].values() for value in state.values() if torch.is_tensor(value))


def test_three_in_a_row_end_the_run(tmp_path, faulty):
    faulty((9, 10, 11), "nan")
    out = tmp_path / "run"
    request = request_for("simclr", steps=13)
    with pytest.raises(Diverged) as end:
        run_training(request, out, RunPolicy(progress=quiet))
    assert end.value.exit_code == 4
    assert status(out) == "diverged"
    loader = Loader(open_source(request.data, size=16), batch=8, seed=0)
    assert str(loader.rows(11).tolist()) in end.value.cause
    assert newest(out).name == "step_00000008"  # the last good state
