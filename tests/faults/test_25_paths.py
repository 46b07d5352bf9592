"""Paths that leave their folder: in requests, and in the files of a run or a prepared data set that somebody else wrote.

Requests are answered with 404 or 422. A path without a file name and extension is a view of the page, and is answered with the page itself.
Symbolic links in a folder of images are followed, as by ``ImageFolder``; those in runs and prepared data sets may not lead out of them.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from selfsight.backbones.loading import load_representation
from selfsight.bank.store import Bank
from selfsight.core.errors import DataError
from selfsight.core.files import inside
from selfsight.core.readout import Readout
from selfsight.explorer.server.fiftyone import _image_file
from selfsight.explorer.server.jobs import Jobs
from selfsight.explorer.server.opening import DataSelection, find_prepared, record_prepared, serve
from selfsight.explorer.server.pack import Pack, stamp
from selfsight.explorer.server.run_artifacts import read_run
from selfsight.explorer.server.static_site import export_static_site
from selfsight.explorer.server.store import ExplorerStore
from selfsight.report import page

from explorer_store import make_shelf

SECRET = "what only its owner may read"
OUTSIDE = "outside of this folder"
GIVEN = {"row": 3, "network": "net", "layer": ""}


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file outside of the run, whose content must not be shown."""
    file = tmp_path / "secret.json"
    file.write_text(json.dumps({"status": SECRET, "classes": [SECRET], "data": SECRET, "layers": [SECRET], "count": 1, "files": []}))
    return file


@pytest.fixture
def shelf(tmp_path: Path) -> ExplorerStore:
    return make_shelf(tmp_path / "run" / "explorer")


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/..%5c..%5cetc%5cpasswd", "/%00", "/app.js/../../server.py",
        "/api/thumb/-1", "/api/thumb/99999999999999999999999", "/api/thumb/..%2f..%2fpack.json", "/api/item/40", "/api/neighbours/x",
        "/api/unit/-1", "/api/unit/6", "/api/column/..%2fpack", "/api/jobs/../../x", "/api/jobs/x/files/found.json", "/api/nothing",
        "/api/neighbours/1?network=evil", "/api/neighbours/1?layer=../bank", "/api/neighbours/1?count=1000000",
    ],
)  # fmt: skip
def test_requests(client, path):
    status, headers, body = client.ask("GET", path)
    assert status in (404, 422) or (status == 200 and b'<div id="app">' in body), (status, body[:80])
    assert b"root:" not in body
    assert b"Traceback" not in body
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "link", "folder/x", "x\x00", "loop", None, 3])
def test_what_leaves_a_folder_is_refused(tmp_path, name):
    home = tmp_path / "home"
    home.mkdir()
    (home / "link").symlink_to(tmp_path / "x")
    (home / "folder").symlink_to(tmp_path)
    (home / "loop").symlink_to(home / "loop")
    with pytest.raises(DataError, match=OUTSIDE) as refused:
        inside(home, name)
    assert refused.value.remedy
    assert "\n" not in refused.value.cause


def test_what_stays_in_a_folder_is_allowed(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "here").symlink_to(home / "x")
    (home / "away").symlink_to(tmp_path / "x")
    (tmp_path / "alias").symlink_to(home)
    for name in ("x", "a/b", "a/../x", "here", "ünïcode ☃", ".."[:1]):
        assert inside(home, name) == home / name
        assert inside(tmp_path / "alias", name) == tmp_path / "alias" / name
    assert inside(home, "away", links=True) == home / "away"
    with pytest.raises(DataError, match=OUTSIDE):
        inside(home, "../x", links=True)


def stored_job(shelf: ExplorerStore, files: list[object]) -> Path:
    job = shelf.pack.path.parent / "pack.jobs" / ("a" * 24)
    job.mkdir(parents=True)
    (job / "asked.json").write_text(json.dumps({"kind": "segments", "given": GIVEN, "of": [stamp(shelf.pack.path), ""]}))
    (job / "found.json").write_text(json.dumps({"files": files}))
    return job


@pytest.mark.parametrize("kind", ["parent", "absolute", "link", "number", "result", "request", "folder"])
def test_export_of_stored_jobs(tmp_path, shelf, secret, kind):
    away = os.path.relpath(secret, shelf.pack.path.parent / "pack.jobs" / "job")
    names = {"parent": [away], "absolute": [str(secret)], "number": [3]}.get(kind, ["sheet.png"])
    job = stored_job(shelf, [*names])
    if kind == "folder":
        job.rename(tmp_path / "elsewhere")
        job.symlink_to(tmp_path / "elsewhere")
    place = {"result": "found.json", "request": "asked.json"}.get(kind, "sheet.png")
    if kind in ("link", "result", "request"):
        (job / place).unlink(missing_ok=True)
        (job / place).symlink_to(secret)
    else:
        (job / "sheet.png").write_bytes(b"picture")
    with pytest.raises(DataError, match=OUTSIDE):
        export_static_site(shelf, tmp_path / "page")
    assert not (tmp_path / "page").exists()


@pytest.mark.parametrize("content", ["[", "[1]", "{}", '{"kind": 3, "given": 4, "of": 5}', "\udcff"])
def test_export_of_damaged_jobs(tmp_path, shelf, content):
    job = stored_job(shelf, [])
    (job / "asked.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match="damaged"):
        export_static_site(shelf, tmp_path / "page")


def test_answers_of_stored_jobs(tmp_path, shelf, secret):
    """The server neither reads a stored result from elsewhere nor sends a file that is a link."""
    jobs = Jobs(tmp_path / "jobs", ["-c", "pass"], "about")
    try:
        key = jobs.submit("segments", GIVEN)["job"]
        jobs.cancel(key)
        job = tmp_path / "jobs" / key
        job.mkdir(parents=True, exist_ok=True)
        (job / "found.json").write_text(json.dumps({"files": ["../../secret.json"]}))
        with pytest.raises(DataError, match=OUTSIDE):
            jobs.submit("segments", GIVEN)
        (job / "found.json").write_text(json.dumps({"files": ["sheet.png"]}))
        (job / "sheet.png").write_bytes(b"picture")
        assert jobs.submit("segments", GIVEN)["state"] == "done"
        assert jobs.file(key, "sheet.png") == job / "sheet.png"
        (job / "sheet.png").unlink()
        (job / "sheet.png").symlink_to(secret)
        with pytest.raises(DataError, match=OUTSIDE):
            jobs.file(key, "sheet.png")
    finally:
        jobs.close()


@pytest.mark.parametrize("name", ["pack.json", "thumbs.bin", "thumbs.npy", "items.parquet", "clusters.json"])
def test_files_of_a_prepared_data_set(tmp_path, shelf, name):
    file = shelf.pack.path / name
    file.rename(tmp_path / name)
    file.symlink_to(tmp_path / name)
    with pytest.raises(DataError, match=OUTSIDE):
        Pack(shelf.pack.path)


@pytest.mark.parametrize("name", ["map-0.npy", "../pack.edits.sqlite", "../pack.jobs"])
def test_what_stands_beside_a_prepared_data_set(tmp_path, shelf, name):
    place = shelf.pack.path / name
    (tmp_path / "elsewhere").write_bytes(b"")
    place.unlink(missing_ok=True)
    place.symlink_to(tmp_path / "elsewhere")

    def use() -> None:
        ExplorerStore.of(shelf.pack.path).pack.places()
        serve(shelf.pack.path, port=0).close()

    with pytest.raises(DataError, match=OUTSIDE):
        use()


def changed(shelf: ExplorerStore, **network: object) -> Path:
    about = json.loads((shelf.pack.path / "pack.json").read_text())
    about["networks"][0].update(network)
    (shelf.pack.path / "pack.json").write_text(json.dumps(about))
    return shelf.pack.path


def test_banks_of_prepared_data(tmp_path, shelf):
    make_shelf(tmp_path / "other")
    for bank in ("../../../other/bank", str(tmp_path / "other" / "bank")):
        with pytest.raises(DataError, match=OUTSIDE):
            ExplorerStore.of(changed(shelf, bank=bank))
    (shelf.pack.path.parent / "linked").symlink_to(tmp_path / "other" / "bank")
    with pytest.raises(DataError, match=OUTSIDE):
        ExplorerStore.of(changed(shelf, bank="../linked"))
    with pytest.raises(DataError, match="damaged"):
        ExplorerStore.of(changed(shelf, bank=3))
    assert ExplorerStore.of(changed(shelf, bank="../bank")).neighbours(3)


def test_runs_of_prepared_data(tmp_path, shelf):
    """A prepared data set may use another run only if the command names it."""
    mine, other = tmp_path / "run", tmp_path / "other"
    make_shelf(other / "explorer")
    chosen = DataSelection("none")
    pack = Pack(changed(shelf, bank="../../../other/explorer/bank", run="../../../other"))
    record_prepared([mine], chosen, pack)
    record_prepared([mine, other], chosen, pack)
    assert find_prepared([mine, other], chosen) == pack.path
    with pytest.raises(DataError, match="was not named"):
        find_prepared([mine], chosen)
    index = mine / "explorer" / "index.json"
    index.write_text(json.dumps(dict.fromkeys(json.loads(index.read_text()), "../../other/explorer/pack")))
    with pytest.raises(DataError, match=OUTSIDE):
        find_prepared([mine], chosen)


def test_layers_of_a_bank(tmp_path, shelf):
    bank = shelf.pack.path.parent / "bank"
    np.save(tmp_path / "secret.npy", np.zeros((40, 2)))
    about = json.loads((bank / "origin.json").read_text())
    away = os.path.relpath(tmp_path / "secret", bank)
    (bank / "origin.json").write_text(json.dumps(about | {"layers": ["output", "inner", away]}))
    with pytest.raises(DataError, match=OUTSIDE):
        Bank(bank).pooled(away)
    (bank / "inner.npy").unlink()
    (bank / "inner.npy").symlink_to(tmp_path / "secret.npy")
    with pytest.raises(DataError, match=OUTSIDE):
        Bank(bank).pooled("inner")
    for name in ("origin.json", "items.parquet"):
        (bank / name).rename(tmp_path / name)
        (bank / name).symlink_to(tmp_path / name)
        with pytest.raises(DataError, match=OUTSIDE):
            assert Bank(bank).items is None
        (bank / name).unlink()
        (tmp_path / name).rename(bank / name)


@pytest.mark.parametrize("name", ["STATUS.json", "config.json", "metrics.jsonl", "measures/scores.json", "measures"])
def test_files_of_a_run(tmp_path, secret, name):
    run = tmp_path / "mine"
    (run / name).parent.mkdir(parents=True)
    if name == "measures":
        (tmp_path / "scores").mkdir()
        (tmp_path / "scores" / "scores.json").write_text(secret.read_text())
    (run / name).symlink_to(secret if name != "measures" else tmp_path / "scores")
    with pytest.raises(DataError, match=OUTSIDE):
        read_run(run)


@pytest.mark.parametrize("name", ["STATUS.json", "config.json", "origin.json", "measures/scores.json"])
def test_files_of_a_report(tmp_path, secret, name):
    (tmp_path / "mine" / name).parent.mkdir(parents=True)
    (tmp_path / "mine" / name).symlink_to(secret)
    with pytest.raises(DataError, match=OUTSIDE):
        page._read(tmp_path / "mine", name)


def test_weights_and_probes(tmp_path, secret):
    run, outside = tmp_path / "run", tmp_path / "elsewhere" / "step_00000001"
    for folder in (run / "export", run / "checkpoints", outside):
        folder.mkdir(parents=True)
    (outside / "method.safetensors").write_bytes(b"weights")
    (run / "export" / "config.json").write_text("{}")
    (run / "checkpoints" / "last.json").write_text(json.dumps({"checkpoint": f"../../elsewhere/{outside.name}"}))
    with pytest.raises(DataError, match=OUTSIDE):
        load_representation(run)
    Readout("linear", "output", {"weight": np.zeros((2, 3))}, ("a", "b")).save(tmp_path / "measures" / "linear")
    (tmp_path / "measures" / "linear.json").unlink()
    (tmp_path / "measures" / "linear.json").symlink_to(secret)
    with pytest.raises(DataError, match=OUTSIDE):
        Readout.load(tmp_path / "measures" / "linear")


def test_names_of_images(tmp_path, shelf):
    """A name leads to no file outside of the folder of images; a link in this folder is followed, as by the reader of images."""
    root = tmp_path / "photos"
    root.mkdir()
    (tmp_path / "x.jpg").write_bytes(b"picture")
    (root / "linked.jpg").symlink_to(tmp_path / "x.jpg")
    assert _image_file(shelf, 0, "linked.jpg", root, tmp_path) == root / "linked.jpg"
    for name in ("../x.jpg", str(tmp_path / "x.jpg")):
        with pytest.raises(DataError, match=OUTSIDE):
            _image_file(shelf, 0, name, root, tmp_path)
