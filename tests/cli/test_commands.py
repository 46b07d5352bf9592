"""The command line: output and exit codes."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from selfsight.api import Run
from selfsight.cli import VERBS, main
from selfsight.cli.options import explained
from selfsight.explain.attribution.table import ATTRIBUTIONS
from selfsight.methods.table import METHODS

LEARN = ["learn", "world:shapes?count=24&size=16", "--size", "16", "--batch", "8", "--steps", "3", "--device", "cpu", "--precision", "fp32"]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "it's a run"
    assert main([*LEARN, "--out", str(out), "--no-report"]) == 0
    return out


def said(capsys) -> object:
    """The one JSON value on standard output."""
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    return json.loads(out)


def test_learn_reports_its_choices(tmp_path, capsys):
    out = tmp_path / "run"
    assert main([*LEARN, "--method", "simclr", "--out", str(out), "--no-report", "--json"]) == 0
    found = said(capsys)
    assert isinstance(found, dict)
    assert {name: found[name] for name in ("run", "status", "images")} == {"run": str(out), "status": "finished", "images": 24}
    assert set(found) == {"run", "status", "seconds", "images", "views_per_second"}
    assert found["views_per_second"] > 0
    assert {path.name for path in out.iterdir() if not path.name.startswith(".")} >= {
        "config.json",
        "origin.json",
        "metrics.jsonl",
        "timing.jsonl",
        "STATUS.json",
        "checkpoints",
        "export",
    }
    assert json.loads((out / "config.json").read_text())["steps"] == 3


def test_measure_prints_scores_with_baselines(run, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    data = ["--train", "world:shapes?count=40&size=16", "--test", "world:shapes?count=24&size=16&seed=9"]
    assert main(["measure", str(run), *data, "--probes", "knn,cluster", "--json"]) == 0
    found = said(capsys)
    assert isinstance(found, dict)
    assert set(found) == {"scores", "floors", "protocol", "notes"}
    assert set(found["floors"]) == {"untrained", "pixels"}
    for table in (found["scores"], *found["floors"].values()):
        assert set(table) == {"knn", "cluster"}
        assert set(table["knn"]["top1"]) == {"value", "low", "high"}
        assert set(table["cluster"]) == {"acc", "nmi", "ami", "ari"}
    assert set(found["protocol"]) == {"knn", "cluster"}
    assert json.loads((run / "measures" / "scores.json").read_text())["scores"] == found["scores"]
    assert (run / "measures" / "cluster.npz").is_file()


def test_bank_reports_its_shapes(run, capsys):
    assert main(["bank", str(run), "--data", "world:shapes?count=24&size=16", "--layers", "stages.1", "--json"]) == 0
    found = said(capsys)
    assert isinstance(found, dict)
    assert found["images"] == 24
    assert found["layers"] == {"output": [24, 256], "stages.1": [24, 64]}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_an_unavailable_device_is_rejected(run, capsys):
    for verb in (["bank", str(run), "--data", "world:shapes?count=24&size=16"], ["report", str(run)]):
        assert main([*verb, "--device", "cuda"]) == 5
        assert "There is no device 'cuda'" in capsys.readouterr().err
    assert main(["report", str(run), "--device", "abacus"]) == 5


def test_methods_are_listed(capsys):
    assert main(["methods", "--json"]) == 0
    found = said(capsys)
    assert isinstance(found, list)
    assert [entry["name"] for entry in found] == list(METHODS)
    assert all(set(entry) == {"name", "family", "kind", "paper", "decks"} for entry in found)
    assert main(["methods"]) == 0
    assert "simclr" in capsys.readouterr().out


def test_repeat_is_bitwise_identical(run, tmp_path):
    assert main(["learn", "--repeat", str(run), "--out", str(tmp_path / "again"), "--device", "cpu", "--no-report"]) == 0
    for name in ("metrics.jsonl", "export/model.safetensors", "config.json"):
        assert (tmp_path / "again" / name).read_bytes() == (run / name).read_bytes(), name


def test_method_options_are_read(tmp_path):
    out = tmp_path / "run"
    words = [*LEARN, "--method", "byol", "--out", str(out), "--no-report", "--momentum", "0.9..1", "--training.rate", "0.01", "--dim", "16"]
    assert main([*words, "--hidden", "32"]) == 0
    config = json.loads((out / "config.json").read_text())
    assert config["options"]["momentum"] == {"is": "selfsight.core.schedule:Cosine", "start": 0.9, "end": 1.0}
    assert (config["options"]["dim"], config["options"]["hidden"], config["training"]["rate"]) == (16, 32, 0.01)


def test_epochs_zero_makes_an_untrained_run(tmp_path, capsys):
    words = [word for word in LEARN if word not in ("--steps", "3")]
    assert main([*words, "--epochs", "0", "--out", str(tmp_path / "run"), "--json"]) == 0
    found = said(capsys)
    assert isinstance(found, dict)
    assert (found["images"], found["status"]) == (0, "finished")
    assert (tmp_path / "run" / "export" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("words", "code", "cause", "help"),
    [
        (["lern"], 2, "no verb 'lern'", "selfsight learn"),
        (["learn"], 2, "nothing to learn from", "selfsight learn my_photos/"),
        ([*LEARN, "--method", "simcrl"], 2, "no method 'simcrl'", "simclr"),
        ([*LEARN, "--backbone", "resnet_tny"], 2, "no backbone 'resnet_tny'", "resnet_tiny"),
        (["learn", "world:shaps?size=16", "--steps", "1", "--size", "16"], 2, "shaps", "shapes"),
        ([*LEARN, "--epochs", "2"], 2, "both set the duration", "one of them"),
        (["learn", "/no/such/folder", "--size", "16", "--steps", "1"], 3, "/no/such/folder", ""),
        ([*LEARN[:-4], "--device", "cuda:7"], 5, "no device 'cuda:7'", "--device auto"),
        (["measure", "/no/run", "--train", "digits", "--test", "digits"], 2, "is not a run", "timm:NAME"),
    ],
)
def test_errors_have_a_remedy(tmp_path, monkeypatch, capsys, words, code, cause, help):
    if "cuda:7" in words and torch.cuda.is_available():
        pytest.skip("there is such a device")
    monkeypatch.chdir(tmp_path)
    assert main(words) == code
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines()[-2 if help else -1].startswith("error: ") or "error: " in told.err
    assert cause in told.err
    assert help in told.err
    assert "Traceback" not in told.err


def test_existing_run_is_not_touched(run, capsys):
    before = (run / "config.json").stat().st_mtime_ns
    assert main([*LEARN, "--out", str(run)]) == 2
    assert "already contains a run (finished)" in capsys.readouterr().err
    assert (run / "config.json").stat().st_mtime_ns == before
    assert main([*LEARN, "--out", str(run), "--resume", "--seed", "4"]) == 2
    assert "seed: 0 -> 4" in capsys.readouterr().err


def test_unknown_arguments_exit_with_2(capsys):
    with pytest.raises(SystemExit) as end:
        main(["measure", "somewhere", "--tran", "x"])
    assert end.value.code == 2
    with pytest.raises(SystemExit) as end:
        main([*LEARN, "--method", "simclr", "--temprature", "0.1"])
    assert end.value.code == 2


def test_help(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"  {verb}" in out for verb in VERBS)
    assert "75" in out
    with pytest.raises(SystemExit) as end:
        main(["learn", "--method", "moco", "--help"])
    assert end.value.code == 0
    assert "--temperature" in capsys.readouterr().out


def test_options_that_share_a_line_are_explained_apart():
    words = explained("""A method.

    Args:
        hidden, dim: width of the
            hidden layer; length of the embedding.
        align, uniform: weights of the two terms.
        queue: how many (0: none); kept for long.
    """)
    assert words == {
        "hidden": "width of the hidden layer.",
        "dim": "length of the embedding.",
        "align": "weights of the two terms.",
        "uniform": "weights of the two terms.",
        "queue": "how many (0: none); kept for long.",
    }


def test_explain_writes_a_sheet_and_reports_it(run, capsys, tmp_path):
    out = tmp_path / "why"
    images = "world:shapes?count=4&size=16#0,2"
    words = [
        "explain",
        "attribute",
        str(run),
        images,
        "--target",
        "unit:stages.3",
        "--method",
        "gradient,gradcam",
        "--out",
        str(out),
        "--json",
    ]
    assert main(words) == 0
    found = said(capsys)
    assert isinstance(found, dict)
    assert set(found["methods"]) == {"gradient", "grad_cam"}
    assert found["images"] == ["world:shapes#0", "world:shapes#2"]
    assert all(Path(path).is_file() for path in found["files"])


def test_explain_rejects_invalid_arguments(run, capsys):
    assert main(["explain", "divine", str(run)]) == 2
    assert main(["explain", "attribute", str(run), "world:shapes?count=4&size=16#9"]) == 2
    assert main(["explain", "attribute", str(run), "world:shapes?count=4&size=16#0", "--target", "class:dog"]) == 2
    assert "has no fitted linear probe" in capsys.readouterr().err
    assert main(["explain"]) == 0
    assert "contrastive_excitation" in capsys.readouterr().out


def test_a_model_without_training_data_is_reported(run, capsys):
    shutil.move(run / "config.json", run / "config.kept")
    assert main(["explain", "maximise", str(run), "unit:stages.3/1", "--parameterisation", "phase"]) == 2
    shutil.move(run / "config.kept", run / "config.json")
    assert "The training data of" in capsys.readouterr().err


def test_explain_inverts_and_maximises(run, capsys, tmp_path):
    out = tmp_path / "kept"
    words = [
        "explain",
        "invert",
        str(run),
        "world:shapes?count=4&size=16#1",
        "--layers",
        "stem,stages.1",
        "--restarts",
        "2",
        "--steps",
        "6",
    ]
    assert main([*words, "--out", str(out), "--json"]) == 0
    found = said(capsys)
    assert isinstance(found, dict)
    assert len(found["rows"]["world:shapes#1"]) == 5
    for parameterisation in ("fourier", "pixels", "phase"):
        words = [
            "explain",
            "maximise",
            str(run),
            "unit:stages.1/3",
            "unit:stem/0",
            "--count",
            "2",
            "--steps",
            "3",
            "--parameterisation",
            parameterisation,
        ]
        assert main([*words, "--out", str(out), "--json"]) == 0
        found = said(capsys)
        assert isinstance(found, dict)
        assert list(found["rows"]) == ["unit stages.1/3", "unit stem/0"]
        assert all(Path(path).is_file() for path in found["files"])
    for layer in ("stem", None):
        Run(run).inverter(layer, steps=2, width=8)
    words = ["explain", "maximise", str(run), "unit:stages.1/3", "--count", "2", "--steps", "3", "--parameterisation", "generated"]
    assert main([*words, "--out", str(out), "--json"]) == 0
    assert len(said(capsys)["rows"]["unit stages.1/3"]) == 2
    words = ["explain", "invert", str(run), "world:shapes?count=4&size=16#1", "--layers", "stem", "--method"]
    for by in ("form", "learned"):
        assert main([*words, by, "--steps", "3", "--out", str(out), "--json"]) == 0
        found = said(capsys)
        assert (found["by"], len(found["rows"]["world:shapes#1"])) == (by, 2)
    assert main(["explain", "maximise", str(run), "unit:stem/999"]) == 2
    assert main(["explain", "maximise", str(run), "code"]) == 2
    assert "depends on an image" in capsys.readouterr().err


def test_an_inverter_is_retrained_for_other_weights_only(run):
    here, captured = Run(run), []
    here.inverter("stem", steps=2, width=8)
    here.inverter("stem", progress=captured.append)
    assert captured == []
    with torch.no_grad():
        next(here.phi.backbone.parameters()).add_(1)

    def stop(words: str) -> None:
        raise KeyboardInterrupt(words)

    with pytest.raises(KeyboardInterrupt, match="training an inverter for stem"):
        here.inverter("stem", progress=stop)


def test_explain_compares_networks(run, capsys, tmp_path):
    words = [
        "explain",
        "compare",
        str(run),
        "untrained:resnet_tiny?width=8",
        "--count",
        "2",
        "--steps",
        "2",
        "--out",
        str(tmp_path),
        "--json",
    ]
    assert main(words) == 0
    found = said(capsys)
    assert list(found["rows"]) == [run.name, "untrained-resnet_tiny?width=8"]
    assert all(len(row) == 2 for row in found["rows"].values())
    assert main(["explain", "compare", str(run)]) == 2


def test_explain_shows_every_method(run, capsys, tmp_path, monkeypatch):
    few = {name: ATTRIBUTIONS[name] for name in ("attention_rollout", "grad_cam", "gradient")}
    monkeypatch.setattr(ATTRIBUTIONS, "entries", few)
    assert main(["explain", "sheet", str(run), "world:shapes?count=4&size=16#0", "--out", str(tmp_path), "--json"]) == 0
    found = said(capsys)
    assert set(found["left out"]) == {"attention_rollout"}
    assert set(found["methods"]) == {"grad_cam", "gradient"}


def test_explain_diagnoses(run, capsys, tmp_path):
    words = [
        "explain",
        "diagnose",
        str(run),
        "world:shapes?count=4&size=16#0,2",
        "--target",
        "unit:stages.1/3",
        "--out",
        str(tmp_path),
        "--json",
    ]
    assert main(words) == 0
    found = said(capsys)
    assert isinstance(found, dict)
    assert [image["image"] for image in found["images"]] == ["world:shapes#0", "world:shapes#2"]
    assert all({"object alone", "without it"} < image.keys() for image in found["images"])
    assert all(Path(path).is_file() for path in found["files"])
