"""A resumed run is bitwise identical to an uninterrupted one: weights, momentum copies, queues, optimiser and records."""

import pytest

from selfsight.methods.table import METHODS
from selfsight.workflows.train.run import RunPolicy, run_training

from training import STEPS, broken, kept, quiet, request_for, status

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


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a machine with fewer cores
@pytest.mark.parametrize("workers", [0, 2, 4])
@pytest.mark.parametrize("method", ["simclr", "moco", "dino", "deepcluster"])
def test_with_any_number_of_workers(tmp_path, whole, method, workers):
    out = tmp_path / "run"
    broken(request_for(method, workers=workers), out, after=9)
    run_training(request_for(method, workers=workers), out, RunPolicy(resume=True, progress=quiet))
    assert kept(out) == kept(whole(method))
