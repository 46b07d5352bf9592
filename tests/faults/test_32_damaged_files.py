"""Damaged files of a run are named with a remedy, by every verb that reads them; what can be computed again is computed again."""

import json
import shutil
import tempfile
from pathlib import Path

import pytest

from selfsight import cli
from selfsight.cli import main

pytestmark = pytest.mark.slow  # seconds each, in processes of their own

DATA = "world:shapes?count=24&size=16"
LEARN = ["learn", DATA, "--size", "16", "--backbone", "resnet_tiny?width=4", "--batch", "8", "--steps", "4", "--save-every", "2"]
LEARN += ["--device", "cpu", "--no-report", "--out"]
DAMAGES = {
    "empty": b"",
    "cut": b'{"status": "fin',
    "list": b"[1, 2]",
    "null": b"null",
    "other": b'{"other": 1}',
    "kinds": b'{"status": {}, "scores": 3, "floors": [], "data": 5, "pretrained_cfg": 7, "architecture": [], "steps": "x", "layers": 4, "count": "x"}',
    "bytes": b"\xff\xfe\x00\x80",
    "deep": b"[" * 100_000,
}
VERBS = {
    "resume": lambda run: [*LEARN, str(run), "--resume"],
    "repeat": lambda run: ["learn", "--repeat", str(run), "--resume", "--device", "cpu", "--no-report"],
    "learn": lambda run: [*LEARN, str(run)],
    "measure": lambda run: ["measure", str(run), "--train", DATA, "--test", DATA, "--probes", "knn", "--device", "cpu"],
    "report": lambda run: ["report", str(run), "--device", "cpu"],
    "explain": lambda run: ["explain", "attribute", str(run), f"{DATA}#0", "--method", "gradient", "--device", "cpu"],
    "class": lambda run: ["explain", "attribute", str(run), f"{DATA}#0", "--method", "gradient", "--target", "class:0", "--device", "cpu"],
    "discover": lambda run: ["discover", str(run), DATA, "--what", "clusters", "--classes", "2", "--device", "cpu"],
    "explore": lambda run: ["explore", str(run), "--no-serve", "--no-untrained", "--maps", "pca", "--device", "cpu"],
    "bank": lambda run: ["bank", str(run), "--data", DATA, "--device", "cpu"],
}
READ = {
    "config.json": ("resume", "repeat", "learn", "report", "explore"),
    "STATUS.json": ("resume", "learn", "report"),
    "origin.json": ("resume", "report"),
    "metrics.jsonl": ("resume", "report", "explore"),
    "timing.jsonl": ("resume", "report"),
    "export/config.json": ("measure", "report", "explain", "discover", "explore", "bank"),
    "export/model.safetensors": ("measure", "explain", "bank"),
    "checkpoints/last.json": ("resume", "measure"),
    "measures/scores.json": ("report", "measure"),
    "measures/linear.json": ("class",),
    "measures/linear.npz": ("class",),
    "explorer/index.json": ("explore",),
    "explorer/*/pack.json": ("explore",),
    "explorer/*/thumbs.npy": ("explore",),
    "banks/*/origin.json": ("bank", "measure", "discover", "report"),
    "banks/*/output.npy": ("bank", "measure", "explore"),
    "banks/*/items.parquet": ("bank",),
}
CASES = [(file, verb, damage) for file, verbs in READ.items() for verb in verbs for damage in DAMAGES]
FEW = {"config.json", "STATUS.json", "metrics.jsonl", "export/config.json", "measures/scores.json", "banks/*/origin.json"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    run = tmp_path_factory.mktemp("damaged") / "run"
    assert main([*LEARN, str(run)]) == 0
    assert main(["measure", str(run), "--train", DATA, "--test", DATA, "--probes", "knn,linear", "--device", "cpu"]) == 0
    for verb in ("explore", "bank"):
        assert main(VERBS[verb](run)) == 0
    return run


def marked(case: tuple[str, str, str]):
    file, _, damage = case
    quick = file in FEW and damage in ("cut", "kinds")
    return case if quick else pytest.param(*case, marks=pytest.mark.slow)


@pytest.mark.parametrize(("file", "verb", "damage"), [marked(case) for case in CASES])
def test_damaged_files_end_with_a_reason(tmp_path, made, capsys, file, verb, damage):
    run = tmp_path / "run"
    shutil.copytree(made, run)
    found = sorted(run.glob(file))
    assert found
    for one in found:
        one.write_bytes(DAMAGES[damage])
    capsys.readouterr()
    code = main(VERBS[verb](run))
    error = capsys.readouterr().err
    assert code in (0, 2, 3), (code, error)
    assert "Traceback" not in error
    if code:
        lines = [line for line in error.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1
        assert error.splitlines()[-1].startswith("  ")
        assert Path(file).name.replace("*", "") in lines[0] or "already contains a run" in lines[0] or "not a run" in lines[0], error


@pytest.mark.parametrize("damage", ["cut", "other", "bytes"])
def test_a_damaged_configuration_names_its_file(made, tmp_path, capsys, damage):
    run = tmp_path / "run"
    shutil.copytree(made, run)
    (run / "config.json").write_bytes(DAMAGES[damage])
    before = (run / "metrics.jsonl").read_bytes()
    assert main(VERBS["resume"](run)) == 3
    assert str(run / "config.json") in capsys.readouterr().err
    assert (run / "metrics.jsonl").read_bytes() == before
    assert main([*LEARN, str(run), "--overwrite"]) == 2  # it can no longer be shown to be a run
    assert (run / "metrics.jsonl").read_bytes() == before


def test_damaged_lines_of_records_are_omitted(made, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(made, run)
    file = run / "metrics.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"step": 2, "lo\n\xff\xfe}\n[1]}\n{"step": "x"}\n{"other": 1}')
    assert main(VERBS["report"](run)) == 0
    assert main(VERBS["resume"](run)) == 0
    assert file.read_bytes() == whole


def test_a_damaged_bank_is_computed_again(made, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(made, run)
    files = sorted(run.glob("banks/*/output.npy"))
    before = [file.read_bytes() for file in files]
    for file in files:
        file.write_bytes(file.read_bytes()[:100])
    assert main(VERBS["bank"](run)) == 0
    again = [file.read_bytes() for file in files]
    assert any(one == other for one, other in zip(before, again, strict=True))


def test_an_unexpected_error_has_one_line_and_a_file_with_details(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def broken(_: str):
        raise KeyError("mystery")

    monkeypatch.setattr(cli, "_verb", broken)
    assert main(["learn"]) == 1
    error = capsys.readouterr().err.splitlines()
    assert error[0] == "error: selfsight has failed (KeyError: 'mystery')"
    (details,) = tmp_path.glob("selfsight-error-*")
    assert str(details) in error[1]
    assert "Traceback" in details.read_text()


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory. Tried")])
def test_exhausted_memory_of_any_verb_has_advice(monkeypatch, capsys, error):
    def broken(_: str):
        raise error

    monkeypatch.setattr(cli, "_verb", broken)
    assert main(["measure"]) == 5
    assert "--limit" in capsys.readouterr().err


def test_a_full_disk_of_any_verb_names_the_free_bytes(monkeypatch, capsys):
    def broken(_: str):
        raise OSError(28, "No space left on device", "somewhere/file")

    monkeypatch.setattr(cli, "_verb", broken)
    assert main(["discover"]) == 5
    assert "bytes are free below somewhere" in capsys.readouterr().err


def test_tests_know_the_forms():
    assert json.loads(DAMAGES["kinds"])
    assert {verb for verbs in READ.values() for verb in verbs} == set(VERBS)
