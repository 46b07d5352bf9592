"""What may be missing on a machine: packages, a GPU, the network, a free port, a writable folder. A clear line and a way on for each."""

import json
import os
import socket
import sys
from importlib import util
from pathlib import Path

import pytest

from selfsight.cli import main
from selfsight.core.results import find_result, find_results, results_folder
from selfsight.explorer.server.opening import serve

from disks import COMMANDS, namespaces, outcomes

DATA = "world:shapes?count=24&size=16"
LEARN = ["learn", DATA, "--size", "16", "--backbone", "resnet_tiny?width=4", "--batch", "8", "--steps", "2", "--device", "cpu", "--out"]


def without(monkeypatch, package: str) -> None:
    find = util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *more: None if name == package else find(name, *more))
    monkeypatch.setitem(sys.modules, package, None)


def test_a_missing_package(tmp_path, monkeypatch, capsys):
    without(monkeypatch, "tensorboard")
    monkeypatch.setattr("selfsight.engine.track.find_spec", lambda name: None)
    assert main([*LEARN, str(tmp_path / "run"), "--tensorboard"]) == 5
    error = capsys.readouterr().err
    assert "tensorboard" in error
    assert "pip install 'selfsight[track]'" in error


@pytest.mark.parametrize("verb", ["learn", "bank"])
def test_a_missing_gpu(tmp_path, monkeypatch, capsys, verb):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    words = [*LEARN, str(tmp_path / "run")] if verb == "learn" else ["bank", "untrained:resnet_tiny", "--data", DATA]
    assert main([word if word != "cpu" else "cuda" for word in [*words, "--device", "cuda"]]) == 5
    error = capsys.readouterr().err
    assert "There is no device 'cuda' on this machine." in error
    assert "--device auto" in error


def test_no_network(monkeypatch, capsys):
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    assert main(["bank", "timm:resnet18", "--data", DATA, "--device", "cpu"]) == 5
    error = capsys.readouterr().err
    assert "The weights of resnet18 are not available" in error
    assert "timm:local-dir:PATH" in error


def test_a_taken_port(tmp_path):
    """The next free one is used, and said."""
    out = tmp_path / "run"
    assert main([*LEARN, str(out), "--no-report"]) == 0
    assert main(["explore", str(out), "--no-serve", "--no-untrained", "--maps", "pca", "--device", "cpu"]) == 0
    folder = next(out.glob("explorer/*/pack.json")).parent
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = serve(folder, port=port, browser=False)
        try:
            assert f":{port}/" not in server.address
            assert server.address.startswith("http://127.0.0.1:")
        finally:
            server.close()


def test_doctor_tells_what_is_missing(monkeypatch, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SELFSIGHT_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("selfsight.cli.doctor.find_spec", lambda name: None)
    assert main(["doctor", "--no-trial", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["device"], found["cache_writable"]) == ("cpu", False)
    assert not any(found["extras"].values())
    assert found["disk_free_gib"] >= 0


def test_folders_that_cannot_be_written(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("SELFSIGHT_CACHE", str(tmp_path / "cache"))
    run = tmp_path / "run"
    run.mkdir()
    assert results_folder(run, "banks") == run / "banks"
    monkeypatch.setattr("os.access", lambda path, mode: False)
    folder = results_folder(run, "banks")
    assert folder.is_relative_to(tmp_path / "cache" / "results")
    assert folder == results_folder(run, "banks") != results_folder(tmp_path / "other", "banks")
    assert [record.getMessage() for record in caplog.records][:1] == [f"{run} is read-only: results are written to {folder.parent}"]


@pytest.mark.slow
@pytest.mark.skipif(not namespaces(), reason="needs file systems of its own")
def test_results_of_a_run_on_a_read_only_disk(tmp_path, monkeypatch):
    run, cache = tmp_path / "run", tmp_path / "cache"
    assert main([*LEARN, str(run)]) == 0
    monkeypatch.setenv("SELFSIGHT_CACHE", str(cache))
    cases = [{"words": [*words, "--device", "cpu"], "run": str(run), "read_only": True} for words in COMMANDS.values()]
    results = outcomes(cases)
    for verb, found in zip(COMMANDS, results, strict=True):
        assert found["code"] == 0, (verb, found["said"])
        assert "is read-only: results are written to" in found["said"], verb
        assert str(cache) in found["said"]
    written = {path.name for path in cache.glob("results/*/*")}
    assert written >= {"banks", "measures", "report", "explanations", "discoveries", "explorer"}


def test_results_in_the_cache_count_only_while_they_are_the_newest(tmp_path, monkeypatch):
    """Not if the run can be written again, and not if its own results or its weights are newer."""
    monkeypatch.setenv("SELFSIGHT_CACHE", str(tmp_path / "cache"))
    run = tmp_path / "run"
    (run / "measures").mkdir(parents=True)
    (run / "export").mkdir()
    own, weights = run / "measures" / "linear.json", run / "export" / "model.safetensors"
    own.write_text("own")
    weights.write_text("weights")
    access = os.access
    monkeypatch.setattr("os.access", lambda path, mode: not Path(path).is_relative_to(run) and access(path, mode))
    other = results_folder(run, "measures") / "scores.json"
    other.parent.mkdir(parents=True)
    other.write_text("cached")
    (other.parent / "linear.json").write_text("cached")
    for file, seconds in ((weights, 10), (own, 20), (other, 30), (other.parent / "linear.json", 30)):
        os.utime(file, (seconds, seconds))
    assert find_result(run, "measures/scores.json") == other
    assert find_result(run, "measures/linear.json") == other.parent / "linear.json"
    assert find_result(run, "measures/cluster.json") == run / "measures" / "cluster.json"
    assert find_results(run, "measures/*.json") == [other.parent / "linear.json", other]
    os.utime(own, (40, 40))
    assert find_result(run, "measures/linear.json") == own
    assert find_results(run, "measures/*.json") == [own, other]
    os.utime(weights, (50, 50))
    assert find_result(run, "measures/scores.json") == run / "measures" / "scores.json"
    os.utime(weights, (10, 10))
    monkeypatch.setattr("os.access", access)
    assert find_result(run, "measures/scores.json") == run / "measures" / "scores.json"
