"""Options that differ from those of the run are refused with their names and values."""

import pytest

from selfsight.core.errors import ResumeMismatch, UsageError
from selfsight.workflows.train.run import RunPolicy, run_training

from training import kept, quiet, request_for


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
