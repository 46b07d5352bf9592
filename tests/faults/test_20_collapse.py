"""A representation that collapses is reported with the measure and its threshold, in STATUS and on request as exit code 4."""

import json

import pytest

from selfsight.cli import main

pytestmark = pytest.mark.slow
WORDS = ["learn", "world:shapes?count=64&size=16", "--method", "align_uniform", "--size", "16", "--backbone", "resnet_tiny?width=8"]
WORDS += ["--batch", "16", "--device", "cpu", "--precision", "fp32", "--no-report", "--uniform", "0", "--training.rate", "2"]


def test_alignment_alone_collapses(tmp_path, capsys):
    """The constant encoder is the optimum of alignment without uniformity."""
    out = tmp_path / "run"
    assert main([*WORDS, "--steps", "300", "--out", str(out)]) == 0
    error = capsys.readouterr().err
    warnings = [line for line in error.splitlines() if line.startswith("warning: collapsed")]
    assert len(warnings) == 1, error
    assert int(warnings[0].split("at step ")[1].split(":")[0]) < 150
    status = json.loads((out / "STATUS.json").read_text())
    assert status["status"] == "collapsed"
    assert "spread below 0.1" in status["reason"]


def test_it_can_end_the_run(tmp_path, capsys):
    out = tmp_path / "run"
    assert main([*WORDS, "--steps", "300", "--fail-on-collapse", "--out", str(out)]) == 4
    assert json.loads((out / "STATUS.json").read_text())["status"] == "collapsed"
    assert "Traceback" not in capsys.readouterr().err


def test_healthy_training_is_not_reported(tmp_path, capsys):
    healthy = [word for word in WORDS if word not in ("--uniform", "0", "--training.rate", "2")]
    assert main([*healthy, "--steps", "300", "--fail-on-collapse", "--out", str(tmp_path / "run")]) == 0
    assert "collaps" not in capsys.readouterr().err
