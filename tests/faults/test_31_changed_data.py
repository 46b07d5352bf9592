"""A run is continued on the data that it was begun with, or on others on request, where the method can."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from selfsight.cli import main
from selfsight.core.errors import ResumeMismatch
from selfsight.methods.table import METHODS
from selfsight.workflows.train.config import TrainConfig
from selfsight.workflows.train.continuation import _remembers
from selfsight.workflows.train.request import TrainRequest
from selfsight.workflows.train.run import RunPolicy, run_training

from small import SMALL, settings, small_backbone


def put(folder: Path, numbers: range) -> None:
    folder.mkdir(exist_ok=True)
    for number in numbers:
        pixels = np.random.default_rng(number).integers(0, 255, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03d}.png")


class Stopped(Exception):
    pass


class Stop:
    def on_step(self, event) -> None:
        if event.clock.step == 5:
            raise Stopped


def request(data: Path, method: str, **more) -> TrainRequest:
    given = {"size": 16, "batch": 8, "epochs": 5, "save_every": 2, "device": "cpu", "precision": "fp32"} | more
    return TrainRequest(str(data), method=method, backbone=small_backbone(method, 16), options=SMALL.get(method), **given)


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SELFSIGHT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def begun(tmp_path):
    """A function that trains a method on sixteen images until it is stopped after six of ten steps."""

    def begin(method: str, count: int = 16) -> tuple[Path, Path]:
        data, run = tmp_path / "data", tmp_path / "run"
        put(data, range(count))
        with pytest.raises(Stopped):
            run_training(request(data, method), run, RunPolicy(progress=lambda words: None, observers=lambda source, settings: [Stop()]))
        return data, run

    return begin


def resumed(data: Path, run: Path, method: str, *, accept: bool = False) -> tuple[dict, list[str]]:
    said: list[str] = []
    return run_training(request(data, method), run, RunPolicy(resume=True, accept_data=accept, progress=said.append)), said


@pytest.mark.parametrize("now", [24, 12])
@pytest.mark.parametrize("method", ["simclr", "npid"])
def test_changed_data_are_refused_with_the_numbers(begun, method, now):
    data, run = begun(method)
    shutil.rmtree(data)
    put(data, range(now))
    metrics = (run / "metrics.jsonl").read_bytes()
    with pytest.raises(ResumeMismatch, match=f"16 samples before, {now} now") as refusal:
        resumed(data, run, method)
    assert refusal.value.exit_code == 2
    assert "--accept-data" in refusal.value.remedy
    assert (run / "metrics.jsonl").read_bytes() == metrics


@pytest.mark.parametrize("now", [24, 12])
def test_changed_data_are_accepted_on_request(begun, now):
    data, run = begun("simclr")
    first = json.loads((run / "origin.json").read_text())
    shutil.rmtree(data)
    put(data, range(now))
    summary, said = resumed(data, run, "simclr", accept=True)
    assert (summary["status"], summary["images"]) == (
        "finished",
        6 * 8,
    )  # from the checkpoint of four steps on, to the ten of the first data
    assert any(f"16 samples before, {now} now" in words for words in said)
    origin = json.loads((run / "origin.json").read_text())
    assert (origin["images"], origin["earlier_data"]) == (now, [{"data": first["data"], "images": 16}])
    assert resumed(data, run, "simclr", accept=True)[0]["images"] == 0  # the new data are those of the run
    put(data, range(now + 1))
    with pytest.raises(ResumeMismatch, match=f"{now} samples before, {now + 1} now"):
        resumed(data, run, "simclr")


@pytest.mark.parametrize("method", ["npid", "deepcluster", "sela", "exemplar"])
def test_methods_that_remember_samples_need_as_many(begun, method):
    data, run = begun(method)
    Image.new("RGB", (16, 16), (9, 9, 9)).save(data / "000.png")  # another image, as many samples
    with pytest.raises(ResumeMismatch, match="16 samples before and now, of which some are others"):
        resumed(data, run, method)
    assert resumed(data, run, method, accept=True)[0]["status"] == "finished"
    put(data, range(24))
    with pytest.raises(ResumeMismatch, match=f"{method} remembers every sample.*16 samples before, 24 now"):
        resumed(data, run, method, accept=True)


def test_which_methods_remember_samples():
    found = {name for name in METHODS if name not in ("scan", "distil") and _remembers(settings(name))}
    assert {"npid", "pirl", "cmc", "deepcluster", "sela", "pcl", "exemplar", "rotation_decoupling"} <= found
    assert not found & {"simclr", "moco", "byol", "dino", "mae", "swav", "rotnet"}


def test_fewer_images_than_a_batch_are_refused(begun):
    data, run = begun("simclr")
    for number in range(5, 16):
        (data / f"{number:03d}.png").unlink()
    with pytest.raises(ResumeMismatch, match="batches of 8, and there are 5 samples"):
        resumed(data, run, "simclr", accept=True)


@pytest.mark.parametrize("origin", [None, "{", '{"selfsight": "0.1.0"}'])
def test_runs_without_a_fingerprint_are_continued_with_a_note(begun, origin):
    data, run = begun("simclr")
    (run / "export" / "config.json").unlink()
    file = run / "origin.json"
    file.write_text(origin) if origin else file.unlink()
    if origin == "{":
        assert main(["learn", "--repeat", str(run), "--resume", "--device", "cpu"]) == 3  # it names the file
        return
    summary, said = resumed(data, run, "simclr")
    assert summary["status"] == "finished"
    assert any("does not tell which data" in words for words in said)
    assert json.loads(file.read_text())["images"] == 16


def test_the_command_has_the_option(begun, capsys):
    data, run = begun("simclr")
    put(data, range(20))
    words = ["learn", "--repeat", str(run), "--resume", "--device", "cpu", "--no-report"]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "16 samples before, 20 now" in error
    assert "Traceback" not in error
    assert main([*words, "--accept-data"]) == 0


def test_runs_of_version_0_1_are_continued(tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(Path(__file__).parents[1] / "fixtures" / "v0.1" / "run", run)
    assert TrainConfig.read(run / "config.json").steps == 6
    assert main(["learn", "--repeat", str(run), "--resume", "--device", "cpu", "--no-report"]) == 0
    assert "changed data" not in capsys.readouterr().err
