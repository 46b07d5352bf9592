"""Weights and checkpoints of other programs: a pickle that could run a program is refused and not run; an old form is named."""

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from selfsight.cli import main

from training import FOUR_STEPS, sealed

DATA = "world:shapes?count=8&size=16"


class Harm:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("form", ["torch", "pickle"])
def test_a_foreign_pickle_is_refused_and_not_run(run, capsys, tmp_path, form):
    last = run / "checkpoints" / "step_00000004"
    marker = tmp_path / "marker"
    if form == "torch":
        torch.save({"state": Harm(marker), "param_groups": []}, last / "optimiser.pt")
    else:
        (last / "optimiser.pt").write_bytes(pickle.dumps(Harm(marker)))
    sealed(last)
    assert main([*FOUR_STEPS, str(run), "--resume"]) == 2
    error = capsys.readouterr().err
    assert "other objects than tensors" in error
    assert "weights_only" not in error
    assert not marker.exists()


@pytest.mark.parametrize("name", ["weights.pth", "model.pt", "model.safetensors"])
def test_foreign_weights_are_refused_and_not_run(run, capsys, tmp_path, name):
    """As the weights of a run, and as the weights with which training begins."""
    marker, exported = tmp_path / "marker", run / "export"
    (exported / "model.safetensors").unlink()
    shutil.rmtree(run / "checkpoints")
    torch.save({"weights": Harm(marker)}, exported / name)
    assert main(["bank", str(run), "--data", DATA, "--device", "cpu"]) in (2, 3)
    assert main([*FOUR_STEPS, str(tmp_path / "other"), "--init", str(run)]) in (2, 3)
    assert main(["bank", str(exported / name), "--data", DATA, "--device", "cpu"]) in (2, 3)
    error = capsys.readouterr().err
    assert error.count("error: ") == 3
    assert "Traceback" not in error
    assert "weights_only" not in error
    assert not marker.exists()


def test_another_schema_is_named(run, capsys):
    """A checkpoint of a later version."""
    for checkpoint in (run / "checkpoints").glob("step_*"):
        clock = json.loads((checkpoint / "clock.json").read_text())
        (checkpoint / "clock.json").write_text(json.dumps(clock | {"schema": 99}))
        sealed(checkpoint)
    assert main([*FOUR_STEPS, str(run), "--resume"]) == 5
    error = capsys.readouterr().err
    assert "schema 99, not 1" in error
    assert "Continue the run with that version." in error
