"""Export of the explorer as a folder: completeness, and protection of other files."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from selfsight.core.errors import UsageError
from selfsight.explorer.server import static_site as still
from selfsight.explorer.server.mutual_knn import nearest_rows
from selfsight.explorer.server.pack import stamp
from selfsight.explorer.server.static_site import export_static_site
from selfsight.explorer.server.store import ExplorerStore, Network

from explorer_store import COUNT, make_shelf


def read(folder, name):
    return json.loads((folder / "data" / f"{name}.js").read_text().split(" = ", 1)[1].rstrip("\n;"))


def test_files_equal_responses_of_the_server(tmp_path):
    shelf = make_shelf(tmp_path)
    shelf.edits.set("note", [3], "a </script><b> note")
    page = export_static_site(shelf, tmp_path / "out" / "page")
    folder = page.parent
    assert len(list((folder / "thumbs").iterdir())) == COUNT
    assert (folder / "thumbs" / "7.jpg").read_bytes() == shelf.pack.thumb(7)
    items = read(folder, "items")
    assert items["names"] == shelf.pack.names.to_pylist()
    assert items["note"][3] == "a </script><b> note"
    assert (items["columns"]["duplicates"][0], items["columns"]["duplicates"][9]) == (0.0, None)
    assert read(folder, "near-1-0")[5] == [[one["row"], one["alike"]] for one in shelf.neighbours(5)]
    assert read(folder, "near-0-0")[5] == [[one["row"], one["alike"]] for one in shelf.neighbours(5, "", "inner")]
    assert read(folder, "units-1")["units"][4] == shelf.unit(4)
    base = json.loads((folder / "data" / "base.js").read_text().split("base: ", 1)[1].removesuffix(" };\n"))
    assert base["about"] == json.loads(json.dumps(shelf.about()))
    assert "edits" not in base["answers"]
    assert base["answers"]["clusters?of=cluster_4"] == shelf.clusters("cluster_4")


def test_local_paths_are_not_published(tmp_path):
    shelf = make_shelf(tmp_path)
    run = tmp_path / "lair of mine" / "run"
    (run / "measures").mkdir(parents=True)
    (run / "config.json").write_text(json.dumps({"data": str(tmp_path / "lair of mine" / "photos"), "method": "simclr"}))
    (run / "measures" / "scores.json").write_text(json.dumps({"scores": {}, "test": "../lair of mine/test.parquet", "train": "digits"}))
    shelf.pack.about["data"] = str(tmp_path / "lair of mine" / "photos?where=a")
    told = ExplorerStore(shelf.pack, [Network("net", tmp_path / "bank", run)])
    folder = export_static_site(told, tmp_path / "page").parent
    assert not [file for file in folder.rglob("*.js") if b"lair of" in file.read_bytes()]
    base = (folder / "data" / "base.js").read_text()
    assert all(f'"{name}"' in base for name in ("photos?where=a", "photos", "test.parquet", "digits"))


def test_the_folder_is_written_in_any_locale(tmp_path):
    make_shelf(tmp_path)
    code = "import sys; from pathlib import Path; from selfsight.explorer.server.store import ExplorerStore; "
    code += "from selfsight.explorer.server.static_site import export_static_site; "
    code += "export_static_site(ExplorerStore.of(Path(sys.argv[1])), Path(sys.argv[2]))"
    plain = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "pack"), str(tmp_path / "page")], check=True, env=plain)
    assert "☃" in read(tmp_path / "page", "items")["names"][3]


def test_results_of_jobs_are_copied(tmp_path):
    shelf = make_shelf(tmp_path)
    job = tmp_path / "pack.jobs" / ("a" * 24)
    job.mkdir(parents=True)
    given = {"row": 3, "network": "net", "layer": ""}
    (job / "asked.json").write_text(json.dumps({"kind": "segments", "given": given, "of": [stamp(shelf.pack.path), ""]}))
    (job / "found.json").write_text(json.dumps({"files": ["sheet.png"]}))
    (job / "sheet.png").write_bytes(b"picture")
    now, of_class = stamp(shelf.pack.path), given | {"class": 1}
    (tmp_path / "run" / "measures").mkdir(parents=True)
    (tmp_path / "run" / "measures" / "linear.npz").write_bytes(b"a probe")
    shelf = ExplorerStore(shelf.pack, [Network("net", tmp_path / "bank", tmp_path / "run")])
    for letter, asked in {
        "b": {"given": given, "of": ["pack 1", ""]},
        "c": {"given": of_class, "of": [now, "another probe"]},
        "d": {"given": given},  # of the time before this was written down
        "e": {"given": of_class, "of": [now, shelf.networks["net"].probe(of_class)]},
    }.items():
        shutil.copytree(job, job.with_name(24 * letter))
        (job.with_name(24 * letter) / "asked.json").write_text(json.dumps({"kind": "maximise"} | asked))
    folder = export_static_site(shelf, tmp_path / "page").parent
    assert (folder / "work" / ("a" * 24) / "sheet.png").read_bytes() == b"picture"
    assert sorted(one.name for one in (folder / "work").iterdir()) == ["a" * 24, "e" * 24]  # not of an earlier preparation or probe
    assert '"segments {\\"layer\\":\\"\\",\\"network\\":\\"net\\",\\"row\\":3}":' in (folder / "data" / "base.js").read_text()


def test_large_data_sets_are_reduced_or_rejected(tmp_path, monkeypatch):
    shelf = make_shelf(tmp_path)
    monkeypatch.setattr(still, "PAIRS", 2 * COUNT - 1)
    folder = export_static_site(shelf, tmp_path / "page").parent
    assert sorted(one.name for one in (folder / "data").glob("near-*")) == ["near-0-0.js"]
    assert read(folder, "near-0-0")[5] == [[one["row"], one["alike"]] for one in shelf.neighbours(5)]
    monkeypatch.setattr(still, "MOST", COUNT - 1)
    with pytest.raises(UsageError, match="too many"):
        export_static_site(shelf, tmp_path / "other")


def test_only_an_earlier_export_is_replaced(tmp_path):
    shelf = make_shelf(tmp_path)
    page = export_static_site(shelf, tmp_path / "page")
    (page.parent / "mine.txt").write_text("dear")
    with pytest.raises(UsageError, match="not an exported page"):
        export_static_site(shelf, tmp_path / "page")
    assert (page.parent / "mine.txt").read_text() == "dear"
    (page.parent / "mine.txt").unlink()
    page.write_text("an older page")
    export_static_site(shelf, tmp_path / "page")
    assert page.read_text() != "an older page"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match="not an exported page"):
        export_static_site(shelf, tmp_path / "mine")
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"
    assert {one.name for one in tmp_path.iterdir() if one.name.startswith(".partial")} == set()


def test_batched_neighbours_equal_single_queries():
    rows = np.random.default_rng(0).normal(size=(50, 7)).astype(np.float32)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    alike = unit @ unit.T
    np.fill_diagonal(alike, -9)
    found = list(nearest_rows(rows, 5, 16))
    assert [start for start, _, _ in found] == [0, 16, 32, 48]
    assert np.concatenate([some for _, some, _ in found]).tolist() == np.argsort(-alike, axis=1)[:, :5].tolist()
