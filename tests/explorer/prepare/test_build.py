"""Preparation of a real run, and jobs of the real worker."""

import io
import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import selfsight
from selfsight.cli import main
from selfsight.core.errors import DataError, UsageError
from selfsight.core.readout import Readout
from selfsight.explorer.server.opening import (
    DataSelection,
    absolute_spec,
    find_all_prepared,
    find_prepared,
    record_prepared,
    select_data,
    serve,
)
from selfsight.explorer.server.pack import Pack
from selfsight.explorer.server.store import ExplorerStore
from selfsight.explorer.worker.jobs.maximise import class_target
from selfsight.explorer.worker.worker import Worker

from explorer_store import Client

DATA = "world:shapes?count=48&size=32&split=test"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    where = tmp_path_factory.mktemp("runs") / "none"
    selfsight.learn(DATA, out=where, backbone="resnet_tiny?width=8", size=32, batch=16, epochs=0)
    return where


@pytest.fixture(scope="module")
def folder(run):
    assert main(["explore", str(run), "--no-serve", "--json"]) == 0
    found = find_prepared([run], DataSelection(DATA))
    assert found is not None
    return found


def test_preparation_contains_everything_that_the_page_shows(run, folder):
    pack = Pack(folder)
    assert len(pack) == 48
    assert {"label", "texture_name", "cluster", "duplicates", "brightness", "sharpness", "width"} <= set(pack.columns)
    assert [one["name"] for one in pack.about["networks"]] == ["none", "untrained"]
    assert pack.maps[-2:] == ("pca", "pca of untrained")
    assert all(np.abs(pack.places(name)).max() <= 1.2 for name in pack.maps)
    assert not np.allclose(pack.places("pca"), pack.places("pca of untrained"))
    counts = {name: len(told) for name, told in pack.clusterings.items()}
    assert counts == {"cluster": 4, "cluster_2": 2, "cluster_8": 8}
    assert all(set(pack.column(name)) == set(range(count)) for name, count in counts.items())
    assert pack.about["masks"]
    with Image.open(io.BytesIO(pack.thumb(5))) as picture:
        assert picture.size == (32, 32)
    shown = selfsight.open(DATA).read(np.array([5])).images[0].mean()
    with Image.open(io.BytesIO(pack.thumb(5))) as picture:
        assert abs(np.asarray(picture).mean() - shown) < 4
    assert find_prepared([run], DataSelection("other")) is None


def test_a_run_shows_its_training_images(tmp_path):
    """A limit selects a random subset by the run's seed; all views and jobs use this subset."""
    where = tmp_path / "some"
    selfsight.learn(DATA, out=where, backbone="resnet_tiny?width=8", size=32, batch=16, epochs=0, limit=24, seed=3)
    assert select_data(where) == DataSelection(DATA, 24, 3)
    assert main(["explore", str(where), "--no-serve", "--no-untrained"]) == 0
    folder = find_prepared([where], DataSelection(DATA, 24, 3))
    assert folder is not None
    assert len(Pack(folder)) == 24
    drawn = selfsight.open(DATA, limit=24, seed=3)
    worker = Worker(folder)
    worker.run_job("picture", {"network": "some", "row": 11}, tmp_path / "out", lambda _: None)
    with Image.open(tmp_path / "out" / "11.png") as picture:
        assert (np.asarray(picture) == drawn.read(np.array([11])).images[0].transpose(1, 2, 0)).all()
    assert main(["explore", str(where), "--limit", "10", "--no-serve", "--no-untrained", "--maps", "pca"]) == 0
    fewer = find_prepared([where], DataSelection(DATA, 10, 0))
    assert fewer is not None
    assert (len(Pack(fewer)), Pack(fewer).clusterings) == (10, {})


def test_a_running_run_and_its_checkpoints_are_shown(tmp_path):
    """The newest checkpoint of a stopped run, and an earlier one; incomplete curves."""
    where = tmp_path / "slow"
    learnt = {"backbone": "resnet_tiny?width=8", "size": 32, "batch": 16, "steps": 4, "save_every": 2}
    selfsight.learn(DATA, out=where, **learnt)
    (where / "export" / "model.safetensors").unlink()  # as it is before it ends
    early = where / "checkpoints" / "step_00000002"
    assert main(["explore", str(where), str(early), "--no-serve"]) == 0
    folder = find_prepared([where, early], select_data(where))
    assert folder is not None
    assert folder.parent == where / "explorer"
    shelf = ExplorerStore.of(folder)
    assert list(shelf.networks) == ["slow at step 4", "slow at step 2", "untrained"]
    assert [one["name"] for one in shelf.runs()] == ["slow"]
    assert shelf.runs()[0]["curves"]["loss"]
    vectors = [one.bank.pooled() for one in shelf.networks.values()]
    assert not np.allclose(vectors[0], vectors[1])
    worker = Worker(folder)
    for name, rows in zip(shelf.networks, vectors, strict=True):
        found = worker.run_job("embed", {"network": name, "layer": "", "row": 5}, tmp_path / name, lambda _: None)
        assert np.allclose(found["vector"], rows[5], atol=0.05 * np.abs(rows[5]).max()), name  # the bank is of bfloat16


def test_symbolic_links_expose_no_other_files(run, tmp_path):
    """A link to a text file is an unreadable image; a link to its own folder is not followed; no content of either is shown."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for row, levels in enumerate(selfsight.open(DATA).read(np.arange(12)).images):
        Image.fromarray(levels.transpose(1, 2, 0)).save(photos / f"{row}.png")
    (tmp_path / "secret.txt").write_text("a secret of this machine")
    (photos / "evil.png").symlink_to(tmp_path / "secret.txt")
    (photos / "loop").symlink_to(photos)
    assert main(["explore", str(run), "--data", str(photos), "--no-serve", "--no-untrained"]) == 0
    folder = find_prepared([run], select_data(run, str(photos)))
    assert folder is not None
    shelf = ExplorerStore.of(folder)
    assert sorted(shelf.pack.names.to_pylist()) == sorted(f"{row}.png" for row in range(12))
    (ill,) = [one for one in shelf.health() if one["name"] == "unreadable"]
    assert [Path(name).name for name, *_ in ill["files"]] == ["evil.png"]
    assert not [file for file in folder.rglob("*") if file.is_file() and b"a secret" in file.read_bytes()]


def test_changed_data_are_reported(run, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for row, levels in enumerate(selfsight.open(DATA).read(np.arange(24)).images):
        Image.fromarray(levels.transpose(1, 2, 0)).save(photos / f"{row:02d}.png")
    command = ["explore", str(run), "--data", str(photos), "--no-serve"]
    assert main(command) == 0
    folder = find_prepared([run], select_data(run, str(photos)))
    assert folder is not None
    Worker(folder).run_job("picture", {"network": "none", "row": 3}, tmp_path / "before", lambda _: None)
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(photos / "00-new.png")
    with pytest.raises(DataError, match="have changed"):
        Worker(folder).run_job("picture", {"network": "none", "row": 3}, tmp_path / "after", lambda _: None)
    assert main([*command, "--rebuild"]) == 0
    again = find_prepared([run], select_data(run, str(photos)))
    assert again is not None
    assert len(Pack(again)) == 25
    Worker(again).run_job("picture", {"network": "none", "row": 4}, tmp_path / "after", lambda _: None)
    with Image.open(tmp_path / "before" / "3.png") as one, Image.open(tmp_path / "after" / "4.png") as other:
        assert (np.asarray(one) == np.asarray(other)).all()


def test_prepared_folders_are_found_newest_and_fewest_runs_first(run, folder, tmp_path):
    runs = [Path(shutil.copytree(run, tmp_path / name, ignore=shutil.ignore_patterns("explorer"))) for name in "abc"]

    def prepare(name: str, count: int) -> Path:
        place = runs[0] / "explorer" / name
        shutil.copytree(folder, place)
        about = json.loads((place / "pack.json").read_text())
        about["networks"] = [{**about["networks"][0], "name": one.name, "run": os.path.relpath(one, place)} for one in runs[:count]]
        (place / "pack.json").write_text(json.dumps(about))
        record_prepared(runs[:count], DataSelection(DATA), Pack(place))
        return place

    assert find_all_prepared(runs[0], DATA) == []
    prepare("0", 2)
    three, two = prepare("1", 3), prepare("2", 2)
    assert find_all_prepared(runs[0], DATA) == [two, three]
    one = prepare("3", 1)
    assert find_all_prepared(runs[0], DATA) == [one, two, three]
    assert find_all_prepared(runs[0], DATA, limit=20) == []
    assert find_all_prepared(runs[0], DATA + "&seed=2") == []


def test_cluster_names_survive_rebuilding_unless_clusters_change(run, folder):
    shelf = ExplorerStore.of(folder)
    shelf.edits.set("cluster_name", [1], "ones")
    shelf.edits.set("tag", [5], "mine")
    shelf.edits.close()
    assert main(["explore", str(run), "--no-serve", "--rebuild"]) == 0
    assert ExplorerStore.of(folder).edits.values("cluster_name") == {1: "ones"}
    table = pq.read_table(folder / "items.parquet")
    turned = pa.array(table["cluster"].to_numpy()[::-1].copy())
    pq.write_table(table.set_column(table.column_names.index("cluster"), "cluster", turned), folder / "items.parquet")
    assert main(["explore", str(run), "--no-serve", "--rebuild"]) == 0
    edits = ExplorerStore.of(folder).edits
    assert (edits.values("cluster_name"), edits.values("tag")) == ({}, {5: "mine"})
    assert edits.undo() == "cluster_name"
    assert edits.values("cluster_name") == {1: "ones"}
    edits.set("cluster_name", [1], "")
    edits.set("tag", [5], "")
    edits.close()


def test_prototypes_of_a_merged_cluster_are_of_all_its_parts(folder, tmp_path):
    pack, worker = Pack(folder), Worker(folder)
    labels, near = pack.column("cluster"), pack.column("nearness")
    found = worker.run_job(
        "prototypes", {"network": "none", "layer": "", "of": "cluster", "cluster": 1, "parts": [0, 1]}, tmp_path, lambda _: None
    )
    members = np.flatnonzero(np.isin(labels, [0, 1]))
    assert {one["row"] for one in found["places"]} == set(members[np.argsort(-near[members], kind="stable")][:12].tolist())


def test_a_run_may_be_called_untrained(tmp_path):
    where = tmp_path / "untrained"
    selfsight.learn("world:shapes?count=8&size=32", out=where, backbone="resnet_tiny?width=8", size=32, batch=8, epochs=0)
    assert main(["explore", str(where), "--no-serve"]) == 0
    folder = find_prepared([where], select_data(where))
    assert folder is not None
    names = [(one["name"], bool(one["run"])) for one in Pack(folder).about["networks"]]
    assert names == [("untrained", True), ("untrained (2)", False)]
    assert Pack(folder).clusterings == {}  # too few pictures
    assert ExplorerStore.of(folder).label_selection() == []


def test_a_moved_run_is_found(run, folder, tmp_path):
    shutil.copytree(run, tmp_path / "moved")
    shelf = ExplorerStore.of(tmp_path / "moved" / "explorer" / folder.name)
    assert [one["name"] for one in shelf.runs()] == ["moved"]
    assert len(shelf.neighbours(3, "untrained", "stages.1", 5)) == 5
    worker = Worker(tmp_path / "moved" / "explorer" / folder.name)
    trained = next(name for name in worker.runs)
    assert worker.run(trained).path.resolve() == (tmp_path / "moved").resolve()


def test_the_untrained_network_does_not_use_the_trained_probe(run, folder, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    worker = Worker(tmp_path / "run" / "explorer" / folder.name)
    trained = next(name for name in worker.runs)
    classes, width = ("a", "b"), worker.run(trained).phi.backbone.dim
    arrays = {"weight": np.ones((2, width)), "bias": np.zeros(2), "mean": np.zeros(width), "scale": np.ones(width)}
    Readout("linear", "output", arrays, classes).save(worker.run(trained).path / "measures" / "linear")
    assert class_target(worker.run(trained).path, 1) == "class:b"
    with pytest.raises(UsageError, match="no fitted"):
        class_target(worker.run("untrained").path, 1)


def test_a_folder_is_found_from_any_working_directory(tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    assert absolute_spec("photos") == str(tmp_path / "photos")
    assert absolute_spec(DATA) == DATA


def test_jobs_of_the_worker(folder):
    opened = serve(folder, port=0)
    try:
        client = Client(opened)
        asked = {
            "attribute": {"row": 3, "method": "gradient"}, "segments": {"row": 3}, "picture": {"row": 3},
            "embed": {"row": 3, "box": [0, 0, 1, 1], "network": "untrained"}, "boxes": {"row": 3}, "crops": {"layer": "stages.1", "unit": 4},
            "prototypes": {"cluster": 1}, "dissect": {"layer": "stages.1"},
        }  # fmt: skip
        keys = {kind: client.json("POST", f"/api/jobs/{kind}", given)["job"] for kind, given in asked.items()}
        status, _, body = client.ask("POST", "/api/search?network=none", Pack(folder).thumb(7))
        assert status == 202
        keys["upload"] = json.loads(body)["job"]
        end = time.monotonic() + 100
        found = {}
        while time.monotonic() < end and len(found) < len(keys):
            states = {kind: client.json("GET", f"/api/jobs/{key}") for kind, key in keys.items()}
            assert not [state for state in states.values() if state["state"] == "failed"], states
            found = {kind: state for kind, state in states.items() if state["state"] == "done"}
            time.sleep(0.2)
        for kind in ("attribute", "segments", "picture", "boxes", "crops", "prototypes"):
            name = found[kind]["found"]["files"][0]
            status, headers, body = client.ask("GET", f"/api/jobs/{keys[kind]}/files/{name}")
            assert (status, headers["content-type"], body[:4]) == (200, "image/png", b"\x89PNG")
        units = found["dissect"]["found"]["units"]
        assert len(units) == ExplorerStore.of(folder)._vectors("none", "stages.1")[0].shape[1]
        assert all(0 <= iou <= 1 and category in ("shape", "texture", "ground", "brightness") for _, category, iou in units)
        uploaded = json.loads(client.ask("GET", f"/api/jobs/{keys['upload']}/neighbours?count=3")[2])
        assert uploaded[0]["row"] == 7  # a small JPEG of it is most like it
        alike = json.loads(client.ask("GET", f"/api/jobs/{keys['embed']}/neighbours?count=3")[2])
        assert alike[0]["row"] == 3  # the whole picture is most like itself
        assert alike[0]["alike"] > 0.999
    finally:
        opened.close()
