"""Files of version 0.1 can be opened: a run, its bank, scores, checkpoints, and prepared explorer data."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import selfsight
from selfsight.bank.store import Bank
from selfsight.cli import main
from selfsight.core.readout import Readout
from selfsight.explorer.server.opening import find_prepared, select_data, serve
from selfsight.explorer.server.pack import Pack
from selfsight.explorer.server.store import ExplorerStore

from golden import check
from golden.telling import Asker, flat

KEPT = Path(__file__).parents[1] / "fixtures" / "v0.1" / "run"
WRITTEN = 1_700_000_000_000_000_000
"""When the weights and the prepared data were written, in nanoseconds: what was prepared is known by these times."""
BANKED, EXPLORED = "world:shapes?count=16&size=32&seed=3", "world:shapes?count=32&size=32"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A copy of the run with its original file times."""
    folder = tmp_path / "run"
    shutil.copytree(KEPT, folder)
    for file in (folder / "export" / "model.safetensors", *folder.glob("explorer/*/pack.json")):
        os.utime(file, ns=(WRITTEN, WRITTEN))
    return folder


def test_a_run_is_loaded(run: Path) -> None:
    found = selfsight.load(run, device="cpu")
    settings = found.config
    assert settings is not None
    assert found.status == {"status": "finished", "reason": "", "step": 6, "steps": 6}
    assert (settings.data, settings.method, settings.backbone) == ("world:shapes?count=64&size=32", "simclr", "resnet_tiny?width=4")
    assert (settings.size, settings.batch, settings.steps, settings.seed, settings.precision) == (32, 16, 6, 0, "fp32")
    assert (settings.options["hidden"], settings.options["dim"], settings.options["temperature"]) == (32, 16, 0.2)
    assert (settings.training.optimiser, settings.training.rate, settings.training.momentum) == ("sgd", 0.24, 0.9)
    crop, jitter = settings.options["recipe"].first.crop, settings.options["recipe"].first.jitter
    assert (tuple(crop.scale), jitter.hue, settings.options["recipe"].second.flip) == ((0.2, 1.0), 0.1, 0.5)
    assert (found.phi.size, tuple(found.phi.mean), found.phi.layers[0], len(found.source())) == (32, (0.485, 0.456, 0.406), "stem", 64)
    pictures = torch.from_numpy(found.source().read(np.arange(4)).images)
    with torch.no_grad():
        vectors = {layer: found.phi.pooled(pictures, layer) for layer in (None, *found.phi.layers)}
    check("saved.run", {f"pooled {layer or 'output'}": rows for layer, rows in vectors.items()})


def test_its_report_is_written(run: Path) -> None:
    page = selfsight.load(run, device="cpu").report()
    assert "simclr" in page.read_text()


def test_a_bank_is_opened_and_one_of_known_precision_is_made_beside_it(run: Path) -> None:
    """The precision of banks of version 0.1 is unknown, so that they can be read but are not reused."""
    found = selfsight.load(run, device="cpu")
    stored = {path: path.stat().st_mtime_ns for path in run.glob("banks/*/*")}
    paths = [path.parent for path in run.glob("banks/*/origin.json")]
    (old,) = [bank for bank in map(Bank, paths) if bank.layers == ("output", "stages.1") and len(bank) == 16]
    check("saved.bank", {layer: np.asarray(old.pooled(layer)) for layer in old.layers} | {"names": old.items["name"].to_pylist()})
    bank = found.bank(BANKED, layers=["stages.1"])
    assert bank.path not in paths
    assert bank.origin["precision"] in ("bf16", "fp32")
    assert {path: path.stat().st_mtime_ns for path in stored} == stored
    with torch.no_grad():
        now = found.phi.pooled(torch.from_numpy(selfsight.open(BANKED, size=32).read(np.arange(16)).images))
    np.testing.assert_allclose(np.asarray(old.pooled()), now.numpy(), rtol=0.03, atol=0.03)  # a bank may be of bfloat16


def test_readouts_and_scores_are_read(run: Path) -> None:
    found = {}
    for name, kind in (("linear", "linear"), ("cluster", "centroids")):
        readout = Readout.load(run / "measures" / name)
        assert (readout.kind, readout.layer) == (kind, "output")
        found |= {f"{name}/{part}": array for part, array in readout.arrays.items()} | {f"{name}/classes": list(readout.classes)}
        found |= flat(f"{name}/facts", readout.facts)
    check("saved.readouts", found)
    (told,) = [one for one in ExplorerStore.of(_prepared(run)).runs() if one["name"] == "run"]
    assert {"linear", "centroids"} <= {one.get("kind") for one in told["measures"]}
    assert set(told["curves"]) >= {"loss", "spread"}


def test_a_class_that_was_learnt_is_explained(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["explain", "attribute", str(run), f"{EXPLORED}#0", "--target", "class:star", "--method", "gradient", "--device", "cpu"]
    assert main([*words, "--out", str(tmp_path / "out"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"]


def test_resuming_a_finished_run_changes_nothing(run: Path, capsys: pytest.CaptureFixture) -> None:
    before = (run / "metrics.jsonl").read_text()
    assert main(["learn", "--repeat", str(run), "--resume", "--device", "cpu", "--no-report", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["status"], found["images"]) == ("finished", 0)
    assert (run / "metrics.jsonl").read_text() == before


@pytest.mark.parametrize("again", [True, False])
def test_an_interrupted_run_resumes(run: Path, *, again: bool) -> None:
    """Resumed from step 4, with the same weights as the uninterrupted run."""
    shutil.rmtree(run / "checkpoints" / "step_00000006")
    words = ["--repeat", str(run)] if again else [
        "world:shapes?count=64&size=32", "--method", "simclr", "--backbone", "resnet_tiny?width=4", "--hidden", "32", "--dim", "16",
        "--steps", "6", "--save-every", "4", "--size", "32", "--batch", "16", "--precision", "fp32", "--out", str(run),
    ]  # fmt: skip
    assert main(["learn", *words, "--resume", "--device", "cpu", "--no-report"]) == 0
    for file in ("export/model.safetensors", "checkpoints/step_00000006/method.safetensors"):
        now, before = load_file(run / file), load_file(KEPT / file)
        assert set(now) == set(before)
        for name, value in before.items():
            torch.testing.assert_close(now[name], value, rtol=1e-3, atol=1e-4, msg=name)
    last = [json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1]) for folder in (run, KEPT)]
    assert last[0] == pytest.approx(last[1], rel=1e-3)


def test_a_checkpoint_is_loaded(run: Path) -> None:
    found = selfsight.load(run / "checkpoints" / "step_00000004", device="cpu")
    assert found.phi.name == "run at step 4"
    check("saved.checkpoint", {"backbone": dict(found.phi.backbone.state_dict())})


def _prepared(run: Path) -> Path:
    (pack,) = run.glob("explorer/*/pack.json")
    return pack.parent


def test_what_was_prepared_is_found(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = _prepared(run)
    assert find_prepared([run], select_data(run, EXPLORED)) == folder
    assert main(["explore", str(run), "--data", EXPLORED, "--no-serve", "--device", "cpu", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"folder": str(folder)}
    assert (folder / "pack.json").stat().st_mtime_ns == WRITTEN
    assert len(Pack(folder)) == 32
    assert main(["explore", str(run), "--data", EXPLORED, "--export", str(tmp_path / "still"), "--json"]) == 0
    assert Path(json.loads(capsys.readouterr().out)["page"]).is_file()


def test_names_of_clusters_become_labels(run: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["discover", str(run), EXPLORED, "--what", "labels", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    check("saved.labels", {"pictures": found["pictures"]} | flat("labels", found["labels"]))
    assert (run / "discoveries" / "labels" / "labels.csv").is_file()


def test_the_explorer_answers(run: Path) -> None:
    opened = serve(_prepared(run), port=0)
    try:
        asker, found = Asker(opened.address), dict[str, object]()
        for name, path in {
            "about": "about", "item": "item/3", "neighbours": "neighbours/3?count=6", "inner": "neighbours/3?layer=stages.1&count=6",
            "untrained": "neighbours/3?network=untrained&count=6", "unit": "unit/5", "clusters": "clusters", "worth": "worth?count=6",
        }.items():  # fmt: skip
            found |= flat(name, asker.json("GET", f"/api/{path}"))
        edits = asker.json("GET", "/api/edits")
        assert len(edits) == 4
        found |= flat("tagged", asker.json("POST", "/api/select", {"conditions": [{"column": "tag", "sign": "=", "value": "odd"}]}))
        found |= flat("undone", asker.json("POST", "/api/undo", {}))
        found |= flat("apart", [one["size"] for one in asker.json("GET", "/api/clusters")])
        job = asker.json("POST", "/api/jobs/segments", {"row": 3})
        assert job["state"] == "done"  # what was worked out before is not worked out again
        status, _, sheet = asker.ask("GET", f"/api/jobs/{job['job']}/files/sheet.png")
        assert (status, sheet) == (200, next(run.glob("explorer/*.jobs/*/sheet.png")).read_bytes())
        check("saved.explorer", found)
    finally:
        opened.close()


def test_every_bank_of_the_explorer_is_there(run: Path) -> None:
    for one in Pack(_prepared(run)).about["networks"]:
        assert len(Bank(_prepared(run) / one["bank"])) == 32
