"""Randomness is keyed by sample: a run may be continued with another number of worker processes."""

import pytest

from selfsight.workflows.train.run import RunPolicy, run_training

from training import broken, kept, quiet, request_for


@pytest.mark.parametrize(
    ("first", "then"), [(0, 2), pytest.param(2, 0, marks=pytest.mark.slow), pytest.param(1, 2, marks=pytest.mark.slow)]
)
def test_resumed_with_other_workers(tmp_path, whole, first, then):
    out = tmp_path / "run"
    broken(request_for("moco", workers=first), out, after=9)
    run_training(request_for("moco", workers=then), out, RunPolicy(resume=True, progress=quiet))
    assert kept(out) == kept(whole("moco"))
