"""Damaged checkpoints are reported with names and reasons; a run never begins anew unasked."""

import shutil

import pytest

from selfsight.cli import main
from selfsight.workflows.train.run import RunPolicy, run_training

from training import FOUR_STEPS, STEPS, broken, kept, request_for, sealed


def test_all_damaged_checkpoints_end_with_what_was_found(run, capsys):
    first, last = sorted((run / "checkpoints").glob("step_*"))
    (first / "optimiser.pt").unlink()
    weights = last / "method.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    metrics, config = (run / "metrics.jsonl").read_bytes(), (run / "config.json").read_bytes()
    assert metrics
    assert main([*FOUR_STEPS, str(run), "--resume"]) == 3
    error = capsys.readouterr().err
    assert "step_00000002 is damaged (optimiser.pt missing)" in error
    assert "step_00000004 is damaged (wrong checksums: method.safetensors)" in error
    assert "--overwrite" in error
    assert ((run / "metrics.jsonl").read_bytes(), (run / "config.json").read_bytes()) == (metrics, config)
    assert main([*FOUR_STEPS, str(run), "--overwrite"]) == 0
    assert (run / "metrics.jsonl").read_bytes() == metrics


def test_deleted_checkpoints_are_not_a_new_run(run, capsys):
    for folder in (run / "checkpoints").glob("step_*"):
        shutil.rmtree(folder)
    assert main([*FOUR_STEPS, str(run), "--resume"]) == 3
    assert "last.json names a checkpoint, and there is none" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("optimiser.pt", b"PK\x03\x04 cut"),
        ("method.safetensors", b"\x80\x04 a pickle, not safetensors"),
        ("method.safetensors", b""),
        ("clock.json", b"{"),
        ("clock.json", b"\xff\xfe"),
    ],
)
def test_a_damaged_file_is_named(run, capsys, name, content):
    last = run / "checkpoints" / "step_00000004"
    (last / name).write_bytes(content)
    sealed(last)
    code = main([*FOUR_STEPS, str(run), "--resume"])
    error = capsys.readouterr().err
    assert code in (2, 3)
    assert name in error
    assert "Traceback" not in error


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
