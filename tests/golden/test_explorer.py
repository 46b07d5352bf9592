"""Golden values of the explorer: responses of the server, exported files, and jobs of the worker."""

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from threadpoolctl import threadpool_limits

import selfsight
from selfsight.cli import main
from selfsight.explorer.server.opening import RunningServer, find_prepared, select_data, serve
from selfsight.explorer.server.pack import Pack
from selfsight.explorer.worker.worker import Worker

from golden import check
from golden.telling import Asker, flat, pixels

pytestmark = pytest.mark.slow

DATA = "world:shapes?count=32&size=32"
SELECTIONS: dict[str, dict[str, Any]] = {
    "all": {}, "a page": {"start": 10, "count": 5}, "sorted": {"sort": "brightness", "descending": True, "count": 8},
    "by label": {"conditions": [{"column": "label", "sign": "=", "value": "star"}]},
    "bright": {"conditions": [{"column": "brightness", "sign": ">=", "value": 0.5}], "sort": "label"},
    "both": {"conditions": [{"column": "label", "sign": "!=", "value": "disc"}, {"column": "contrast", "sign": "<", "value": 0.2}]},
    "by name": {"conditions": [{"column": "name", "sign": "has", "value": "1"}]},
    "by cluster": {"conditions": [{"column": "cluster", "sign": "=", "value": 1}]},
    "lasso": {"lasso": [[0, -2], [2, -2], [2, 2], [0, 2]]}, "another map": {"lasso": [[0, -2], [2, -2], [2, 2], [0, 2]], "map": "pca of untrained"},
    "rows": {"rows": [3, 1, 2]}, "refused": {"conditions": [{"column": "nothing", "sign": "=", "value": 1}]},
}  # fmt: skip
READS = {
    "about": "about", "health": "health", "worth": "worth?count=9", "item": "item/7", "no item": "item/99", "neighbours": "neighbours/4?count=8",
    "neighbours of a layer": "neighbours/4?layer=stages.1&count=8", "neighbours untrained": "neighbours/4?network=untrained&count=8",
    "clusters": "clusters", "clusters of 8": "clusters?of=cluster_8", "no clusters": "clusters?of=nothing", "units": "units?layer=stages.1",
    "unit": "unit/3", "unit of a layer": "unit/3?layer=stages.1", "no unit": "unit/9999", "beside": "beside",
    "beside a layer": "beside?left_layer=stages.1&right_layer=stages.2", "no edits": "edits", "nothing": "nothing",
}  # fmt: skip
JOBS: dict[str, tuple[str, dict[str, Any]]] = {
    "attribute": ("attribute", {"row": 3, "layer": "", "method": "gradient.grad_cam.integrated_gradients.occlusion"}),
    "attribute a unit": ("attribute", {"row": 3, "layer": "stages.1", "unit": 4, "method": "gradient"}),
    "boxes": ("boxes", {"row": 3, "layer": ""}), "crops": ("crops", {"layer": "stages.1", "unit": 4}), "dissect": ("dissect", {"layer": "stages.1"}),
    "embed": ("embed", {"row": 3, "layer": "", "box": [0.1, 0.2, 0.9, 0.8]}), "picture": ("picture", {"row": 3, "layer": ""}),
    "prototypes": ("prototypes", {"layer": "", "of": "cluster", "cluster": 1, "parts": [1]}), "segments": ("segments", {"row": 3, "layer": ""}),
}  # fmt: skip
"""Inversions and maximised pictures take minutes; tests of explanations have their golden values."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "none"
    with threadpool_limits(1):
        selfsight.learn(
            DATA, out=run, backbone="resnet_tiny?width=8", size=32, batch=16, epochs=0, precision="fp32", device="cpu",
            options={"hidden": 32, "dim": 16},
        )  # fmt: skip
        words = ["--train", DATA, "--test", f"{DATA}&split=test", "--probes", "linear", "--no-baselines", "--device", "cpu", "--json"]
        assert main(["measure", str(run), *words]) == 0
        assert main(["explore", str(run), "--maps", "pca", "--no-serve", "--device", "cpu"]) == 0
    found = find_prepared([run], select_data(run))
    assert found is not None
    return found


@pytest.fixture
def opened(folder: Path) -> Iterator[RunningServer]:
    found = serve(folder, port=0)
    yield found
    found.close()


@pytest.fixture
def asker(opened: RunningServer) -> Asker:
    return Asker(opened.address)


def test_what_is_prepared(folder: Path) -> None:
    pack = Pack(folder)
    found: dict[str, Any] = {"columns": list(pack.columns), "maps": list(pack.maps), "names": pack.names.to_pylist()}
    for name in pack.columns:
        values = pack.column(name)
        found[f"column {name}"] = values.tolist() if values.dtype == object else values
    found |= {f"map {name}": np.asarray(pack.places(name)) for name in pack.maps}
    found |= {f"picture {row}": pixels(pack.thumb(row)) for row in (0, 5)}
    facts = {name: value for name, value in pack.about.items() if name != "networks"}
    names = [{"name": one["name"], "attends": one["attends"]} for one in pack.about["networks"]]
    check("explorer.prepared", found | flat("facts", facts) | flat("networks", names) | flat("clusterings", pack.clusterings))


def test_reads(asker: Asker) -> None:
    found: dict[str, Any] = {}
    for name, path in READS.items():
        found |= flat(name, asker.json("GET", f"/api/{path}"))
    check("explorer.reads", found)


def test_runs(asker: Asker) -> None:
    (told,) = asker.json("GET", "/api/runs")
    told["settings"].pop("record_every", None)
    check("explorer.runs", flat("run", told))


def test_binary_answers(asker: Asker) -> None:
    found: dict[str, Any] = {}
    for path in ("map", "map?name=pca%20of%20untrained", "column/label", "column/brightness", "column/cluster_name"):
        status, headers, body = asker.ask("GET", f"/api/{path}")
        found |= {f"{path}/status": status, f"{path}/type": headers["content-type"], f"{path}/values": headers.get("x-values", "")}
        found[f"{path}/numbers"] = np.frombuffer(body, "<f4")
    status, headers, body = asker.ask("GET", "/api/thumb/3")
    check("explorer.binary", found | {"thumb/type": headers["content-type"], "thumb": pixels(body)})


def test_selections(asker: Asker) -> None:
    found: dict[str, Any] = {}
    for name, asked in SELECTIONS.items():
        found |= flat(name, asker.json("POST", "/api/select", asked))
    check("explorer.selections", found)


def _counts(asker: Asker, name: str) -> dict[str, Any]:
    found = flat(
        f"{name}/clusters",
        [{"number": one["number"], "name": one["name"], "size": one["size"]} for one in asker.json("GET", "/api/clusters")],
    )
    history = [{key: value for key, value in one.items() if key not in ("at", "time")} for one in asker.json("GET", "/api/edits")]
    return found | {f"{name}/history": json.dumps(history, sort_keys=True)}


def test_edits_and_exports(asker: Asker) -> None:
    """Runs last, because it changes responses; all edits are undone."""
    found: dict[str, Any] = {}
    edits = [
        ("cluster_name", [0], "first"), ("cluster_name", [1_000_001], "of two"), ("tag", [1, 2, 5], "odd"), ("note", [3], "a note, with ü"),
        ("cluster_merge", [1], "0"),
    ]  # fmt: skip
    for number, (kind, subjects, value) in enumerate(edits):
        asker.json("POST", f"/api/edits/{kind}", {"subjects": subjects, "value": value})
        found |= _counts(asker, f"edit {number}")
    found |= flat("item", asker.json("GET", "/api/item/3")) | flat("two", asker.json("GET", "/api/clusters?of=cluster_2"))
    found |= flat("tagged", asker.json("POST", "/api/select", {"conditions": [{"column": "tag", "sign": "=", "value": "odd"}]}))
    found |= flat("refused", asker.json("POST", "/api/edits/tag", {"subjects": [99], "value": "x"}))
    for kind in ("csv", "txt", "labels", "parquet", "atlas"):
        status, headers, body = asker.ask("POST", f"/api/export/{kind}", {"rows": [4, 0, 9, 2]})
        found |= {f"{kind}/status": status, f"{kind}/type": headers["content-type"], f"{kind}/file": headers["content-disposition"]}
        found |= _table(kind, body) if kind in ("parquet", "atlas") else {f"{kind}/lines": body.decode().splitlines()}
    found |= flat("no such file", asker.json("POST", "/api/export/nothing", {}))
    for number, turn in enumerate(("undo", "undo", "redo", "undo", "undo", "undo", "undo", "undo")):
        found |= flat(f"{turn} {number}", asker.json("POST", f"/api/{turn}", {})) | _counts(asker, f"{turn} {number}")
    check("explorer.edits", found)


def _table(kind: str, body: bytes) -> dict[str, Any]:
    table, found = pq.read_table(io.BytesIO(body)), dict[str, Any]()
    for name, column in zip(table.column_names, table.columns, strict=True):
        rows = column.to_pylist()
        if name == "image":
            found |= {f"{kind}/{name}/pixels": pixels(rows[0]["bytes"]), f"{kind}/{name}/path": [row["path"] for row in rows]}
        else:
            found |= flat(f"{kind}/{name}", [str(row) if isinstance(row, bytes) else row for row in rows])
    return found


def _waited(asker: Asker, key: str) -> dict[str, Any]:
    end = time.monotonic() + 120
    while (told := asker.json("GET", f"/api/jobs/{key}"))["state"] in ("waiting", "running") and time.monotonic() < end:
        time.sleep(0.1)
    return told


def test_jobs_are_asked_for_and_searched_by(asker: Asker, folder: Path) -> None:
    found: dict[str, Any] = {}
    for kind, given in (
        ("picture", {"row": 3}),
        ("embed", {"row": 3, "box": [0, 0, 1, 1]}),
        ("nothing", {}),
        ("crops", {}),
        ("picture", {"row": 99}),
    ):
        told = asker.json("POST", f"/api/jobs/{kind}", given)
        if "job" not in told:
            found |= flat(f"refused {kind} {len(given)}", told)
            continue
        done = _waited(asker, told["job"])
        found |= {f"{kind}/state": done["state"], f"{kind}/files": done["found"]["files"]}
        if kind == "embed":
            found |= flat("like a part", asker.json("GET", f"/api/jobs/{told['job']}/neighbours?count=5"))
        else:
            found["picture"] = pixels(asker.ask("GET", f"/api/jobs/{told['job']}/files/{done['found']['files'][0]}")[2])
    buffer = io.BytesIO()
    Image.fromarray(pixels(Pack(folder).thumb(7))).save(buffer, "PNG")
    told = asker.json("POST", "/api/search?network=none", buffer.getvalue())
    assert _waited(asker, told["job"])["state"] == "done"
    found |= flat("like an upload", asker.json("GET", f"/api/jobs/{told['job']}/neighbours?count=5"))
    found |= flat("no picture", asker.json("POST", "/api/search", b"no picture"))
    check("explorer.jobs", found, near=("like a part[]/alike", "like an upload[]/alike"))


@pytest.mark.parametrize(
    ("name", "network"), [*((name, "none") for name in JOBS), *((name, "untrained") for name in ("crops", "segments", "embed"))]
)
def test_work(folder: Path, tmp_path: Path, name: str, network: str) -> None:
    kind, given = JOBS[name]
    told = Worker(folder).run_job(kind, {"network": network, **given}, tmp_path / "out", lambda _: None)
    found = flat("found", told)
    for file in told["files"][:4]:
        found[f"pixels of {file}"] = pixels(tmp_path / "out" / file)
    check(f"explorer.work.{name.replace(' ', '_')}.{network}", found)


def test_a_still_copy(folder: Path, tmp_path: Path) -> None:
    run = folder.parents[1]
    assert main(["explore", str(run), "--export", str(tmp_path / "still")]) == 0
    base = (tmp_path / "still" / "data" / "base.js").read_text().split("base: ", 1)[1].rsplit(" };", 1)[0]
    told = json.loads(base)
    found: dict[str, Any] = {
        "keys": sorted(told),
        "answers": sorted(told["answers"]),
        "pictures": len(list((tmp_path / "still" / "thumbs").iterdir())),
    }
    found["parts"] = sorted(path.stem for path in (tmp_path / "still" / "data").iterdir())
    check("explorer.still", found)
