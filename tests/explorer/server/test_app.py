"""The server over real connections: reads, edits, and invalid requests."""

import csv
import io
import json
import socket
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from selfsight.data.decode import decode
from selfsight.explorer.server import app, opening
from selfsight.explorer.server.opening import serve

from explorer_store import COUNT, NAMES, Client, make_shelf


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("shelf")
    make_shelf(where)
    return where


@pytest.fixture(scope="module")
def client(folder):
    opened = serve(folder / "pack", port=0)
    yield Client(opened)
    opened.close()


def test_reads(client):
    about = client.json("GET", "/api/about")
    assert about["count"] == COUNT
    assert about["networks"] == [{"name": "net", "layers": ["inner", "output"], "attends": False, "classes": []}]
    assert about["clusterings"] == [{"name": "cluster", "count": 2}, {"name": "cluster_4", "count": 4}]
    assert {"name": "label", "kind": "text", "values": ["blue", "red"], "counts": [20, 20]} in about["columns"]
    item = client.json("GET", "/api/item/2")
    assert item["name"] == NAMES[2]
    alike = client.json("GET", "/api/neighbours/4?count=10")
    assert all(one["row"] % 2 == 0 and one["row"] != 4 for one in alike)
    assert [one["alike"] for one in alike] == sorted((one["alike"] for one in alike), reverse=True)
    assert client.json("GET", "/api/neighbours/4?layer=inner&count=3") != alike[:3]
    unit = client.json("GET", "/api/unit/1")
    assert all(one["row"] % 2 == 1 for one in unit["top"])
    assert sum(unit["histogram"]["counts"]) == COUNT
    assert len(client.json("GET", "/api/units?layer=inner")) == 3
    assert {one["name"] for one in client.json("GET", "/api/health")} >= {"dark", "duplicates", "unreadable"}
    assert client.json("GET", "/api/runs") == []
    status, headers, body = client.ask("GET", "/api/thumb/3")
    assert (status, headers["content-type"], body[:3]) == (200, "image/jpeg", b"\xff\xd8\xff")
    places = np.frombuffer(client.ask("GET", "/api/map")[2], "<f4").reshape(-1, 2)
    assert places.shape == (COUNT, 2)
    status, headers, body = client.ask("GET", "/api/column/label")
    assert json.loads(headers["x-values"]) == ["blue", "red"]
    assert np.frombuffer(body, "<f4").tolist() == [1, 0] * (COUNT // 2)


def test_units_list_top_activating_images(client, folder):
    rows = np.load(folder / "bank" / "output.npy")
    units = client.json("GET", "/api/units")
    assert [one["top"] for one in units] == np.argsort(-rows, axis=0)[:4].T.tolist()
    inner = client.json("GET", "/api/units?layer=inner")
    assert [one["top"] for one in inner] == [one["top"] for one in units[:3]]


def test_selections_and_exports(client):
    asked = {"conditions": [{"column": "label", "sign": "=", "value": "red"}], "sort": "brightness", "descending": True}
    found = client.json("POST", "/api/select", {**asked, "start": 1, "count": 3})
    assert found == {"total": 20, "rows": [36, 34, 32]}
    text = client.ask("POST", "/api/export/csv", {"rows": list(range(5))})[2].decode()
    assert [row["file"] for row in csv.DictReader(io.StringIO(text, newline=""))] == [*NAMES[:4], f"'{NAMES[4]}"]
    table = pq.read_table(io.BytesIO(client.ask("POST", "/api/export/parquet", asked)[2]))
    assert table["label"].to_pylist() == ["red"] * 20
    assert client.ask("POST", "/api/export/txt", {"rows": [7]})[2] == b"7.png\n"


def test_names_become_labels_and_merges_are_undone(client):
    client.json("POST", "/api/edits/cluster_name", {"subjects": [1], "value": "blues"})
    text = client.ask("POST", "/api/export/labels", {})[2].decode()
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert len(rows) == 20
    assert {row["label"] for row in rows} == {"blues"}
    client.json("POST", "/api/edits/cluster_name", {"subjects": [0], "value": "reds"})
    both = client.ask("POST", "/api/export/labels", {})[2].decode()
    assert len(list(csv.DictReader(io.StringIO(both, newline="")))) == COUNT - 1  # rows 0 and 1 are nearly the same
    client.json("POST", "/api/undo", {})
    client.json("POST", "/api/edits/cluster_merge", {"subjects": [0], "value": "1"})
    (one,) = client.json("GET", "/api/clusters")
    assert (one["size"], one["name"], one["purity"], one["parts"]) == (COUNT, "blues", 0.5, [0, 1])
    asked = {"conditions": [{"column": "cluster", "sign": "=", "value": 1}]}
    assert client.json("POST", "/api/select", asked)["total"] == COUNT  # all of it, in the grid, too
    assert client.json("GET", "/api/item/4")["columns"]["cluster"] == 1
    text = client.ask("POST", "/api/export/csv", asked)[2].decode()
    assert {row["cluster"] for row in csv.DictReader(io.StringIO(text, newline=""))} == {"1.0"}
    assert client.json("POST", "/api/undo", {}) == {"kind": "cluster_merge"}
    assert len(client.json("GET", "/api/clusters")) == 2
    client.json("POST", "/api/undo", {})
    assert client.json("POST", "/api/select", {"conditions": [{"column": "cluster_name", "sign": "=", "value": "blues"}]})["total"] == 0


def test_each_clustering_has_separate_names(client):
    four = client.json("GET", "/api/clusters?of=cluster_4")
    assert [one["size"] for one in four] == [10] * 4
    client.json("POST", "/api/edits/cluster_name", {"subjects": [four[3]["subject"]], "value": "every fourth"})
    assert client.json("GET", "/api/clusters?of=cluster_4")[3]["name"] == "every fourth"
    assert [one["name"] for one in client.json("GET", "/api/clusters")] == ["", ""]
    client.json("POST", "/api/edits/cluster_name", {"subjects": [0], "value": "reds"})
    text = client.ask("POST", "/api/export/labels", {})[2].decode()
    found = {row["file"]: row["label"] for row in csv.DictReader(io.StringIO(text, newline=""))}
    assert len(found) == 30
    assert (found["6.png"], found["7.png"], "5.png" in found) == ("reds", "every fourth", False)
    client.json("POST", "/api/edits/cluster_merge", {"subjects": [four[3]["subject"]], "value": "1"})
    assert [one["size"] for one in client.json("GET", "/api/clusters?of=cluster_4")] == [10, 20, 10]
    assert [one["size"] for one in client.json("GET", "/api/clusters")] == [20, 20]
    for _ in range(3):
        client.json("POST", "/api/undo", {})
    assert client.ask("GET", "/api/clusters?of=nothing")[0] == 422


def test_a_lasso_applies_to_the_displayed_map(client):
    right = [[0, -2], [2, -2], [2, 2], [0, 2]]
    assert client.json("POST", "/api/select", {"lasso": right})["rows"][:3] == [1, 3, 5]
    assert client.json("POST", "/api/select", {"lasso": right, "map": "turned"})["rows"] == list(range(20, 40))
    places = {name: np.frombuffer(client.ask("GET", f"/api/map?name={name}")[2], "<f4").reshape(-1, 2) for name in ("pca", "turned")}
    assert (places["pca"] == places["turned"][:, ::-1]).all()
    assert client.ask("GET", "/api/map?name=nothing")[0] == 422


@pytest.mark.parametrize(
    ("kind", "subjects", "value"),
    [
        ("tag", [COUNT], "x"), ("tag", [-1], "x"), ("tag", [10**30], "x"), ("tag", [True], "x"), ("tag", [1], "\ud800"), ("cluster_name", [2], "x"),
        ("cluster_name", [1_000_004], "x"), ("cluster_merge", [0], "abc"), ("cluster_merge", [0], "-1"), ("cluster_merge", [0], "999999999"),
        ("cluster_merge", [0], "2"), ("cluster_merge", ["0"], "1"), ("cluster_merge", [], "1"), ("nothing", [0], "1"),
    ],
)  # fmt: skip
def test_edits_of_missing_rows_are_rejected(client, kind, subjects, value):
    assert client.ask("POST", f"/api/edits/{kind}", {"subjects": subjects, "value": value})[0] == 422
    assert [one["size"] for one in client.json("GET", "/api/clusters")] == [20, 20]


def test_responses_are_sent_without_nagle_delay():
    """The event loop disables Nagle's algorithm only for sockets with an explicit protocol; otherwise responses may take 40 ms."""
    listener = opening._listener(0)
    try:
        assert listener.proto == socket.IPPROTO_TCP
    finally:
        listener.close()


def test_a_million_images_open_without_torch():
    words = "import sys, selfsight.explorer.server.opening, selfsight.explorer.server.app, selfsight.explorer.server.guard, selfsight.cli.explore; "
    words += "print([name for name in ('torch', 'timm', 'sklearn') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def variants() -> dict[str, bytes]:
    """Files that a plain conversion to RGB reads otherwise than the data set: turned, transparent, 16 bits."""
    pixels = np.zeros((60, 120, 3), dtype=np.uint8)
    pixels[:, :60] = (250, 40, 40)
    pixels[:20] = (40, 40, 250)
    clear = np.dstack([pixels, np.where(np.arange(120) < 60, 255, 0)[None].repeat(60, 0)]).astype(np.uint8)
    clear[:, 60:, :3] = 0
    ramp = np.tile(np.linspace(0, 65535, 120).astype(np.uint16), (60, 1))
    turned = Image.Exif()
    turned[0x0112] = 6
    images = {
        "turned": (Image.fromarray(pixels), "JPEG", {"exif": turned, "quality": 95}),
        "clear": (Image.fromarray(clear), "PNG", {}),
        "deep": (Image.fromarray(ramp), "PNG", {}),
        "dark": (Image.fromarray(ramp // 16), "PNG", {}),
    }
    found = {}
    for name, (image, kind, options) in images.items():
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        found[name] = buffer.getvalue()
    return found


@pytest.mark.parametrize("name", ["turned", "clear", "deep", "dark"])
def test_uploads_are_read_as_the_data_set_is(name):
    content = variants()[name]
    kept = app._encoded_upload(content)
    assert kept is not None
    with Image.open(io.BytesIO(kept)) as image:
        np.testing.assert_array_equal(np.asarray(image).transpose(2, 0, 1), decode(content)[0])


def test_job_arguments_are_validated(client):
    for kind, body in [
        ("rm", {}), ("attribute", {"row": COUNT}), ("attribute", {"row": 1, "network": "evil"}), ("attribute", {"row": 1, "layer": "evil"}),
        ("embed", {"upload": "../../x"}), ("embed", {"row": 1, "box": [0, 0, 1]}), ("embed", {"row": 1, "box": [0, 0, 9, 9]}),
        ("maximise", {"unit": -1}), ("maximise", {"unit": 6}), ("maximise", {"class": 0}), ("maximise", {}), ("attribute", {}), ("crops", {}),
        ("prototypes", {"cluster": 2}), ("prototypes", {"cluster": 0, "of": "label"}), ("prototypes", {"of": "cluster"}),
        ("attribute", {"row": 1, "method": "a b"}),
    ]:  # fmt: skip
        assert client.ask("POST", f"/api/jobs/{kind}", body)[0] == 422, (kind, body)


def test_framing_and_foreign_scripts_are_forbidden(client):
    _, headers, body = client.ask("GET", "/clusters/3?by=size")
    assert b'<div id="app">' in body
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["referrer-policy"] == "no-referrer"
