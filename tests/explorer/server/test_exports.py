"""Exports of selections: exact values, exact neighbours, readable images."""

import csv
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from selfsight.bank.store import write_bank
from selfsight.core.errors import UsageError
from selfsight.core.names import unused_name
from selfsight.core.spreadsheets import as_text, original_text
from selfsight.explorer.server import exports
from selfsight.explorer.server.app import TYPES
from selfsight.explorer.server.exports import KINDS, exported, neighbours_of
from selfsight.explorer.server.store import ExplorerStore, Network

from explorer_store import COUNT, NAMES, make_pack, make_shelf

ROWS = np.array([7, 2, 30, 0, 3, 1, 4, 2])
"""In an order of their own, one of them twice."""


@pytest.fixture
def shelf(tmp_path: Path) -> ExplorerStore:
    return make_shelf(tmp_path)


def atlas(shelf: ExplorerStore, rows: np.ndarray) -> pa.Table:
    content, name = exported(shelf, rows, "atlas")
    assert name == "atlas.parquet"
    return pq.read_table(io.BytesIO(content))


def test_every_export_has_a_file_name(shelf: ExplorerStore) -> None:
    assert list(KINDS) == sorted(KINDS)
    for kind in KINDS:
        content, name = exported(shelf, ROWS, kind)
        assert content
        assert Path(name).suffix in TYPES
    with pytest.raises(UsageError, match="no kind of file 'atlsa'"):
        exported(shelf, ROWS, "atlsa")


def test_tables_contain_all_columns_and_edits(shelf: ExplorerStore) -> None:
    shelf.edits.set("tag", [2, 30], '<b>"tag"</b>,\n')
    shelf.edits.set("cluster_name", [1], "=blues")
    (head, *lines) = csv.reader(io.StringIO(exported(shelf, ROWS, "csv")[0].decode(), newline=""))
    told = pq.read_table(io.BytesIO(exported(shelf, ROWS, "parquet")[0])).to_pydict()
    assert head == list(told)
    names = shelf.pack.names.to_pylist()
    assert told["file"] == [line[head.index("file")] for line in lines] == [as_text(names[row]) for row in ROWS]
    assert "'=1+1.png" in told["file"]
    assert [original_text(cell) for cell in told["file"]] == [names[row] for row in ROWS]
    assert told["tag"] == ['<b>"tag"</b>,\n' if row in (2, 30) else "" for row in ROWS]
    assert told["cluster_name"] == ["'=blues" if row % 2 else "" for row in ROWS]
    assert told["brightness"] == [row / COUNT for row in ROWS]
    assert [float(line[head.index("nearness")]) for line in lines] == told["nearness"]
    assert exported(shelf, ROWS, "txt")[0].decode() == "".join(names[row].replace("\n", r"\n") + "\n" for row in ROWS)


def test_labels_are_names_of_clusters_without_near_duplicates(shelf: ExplorerStore) -> None:
    shelf.edits.set("cluster_name", [0], "reds, all")
    (head, *lines) = csv.reader(io.StringIO(exported(shelf, np.arange(6), "labels")[0].decode(), newline=""))
    assert head == ["file", "label"]
    assert lines == [[NAMES[0], "reds, all"], [NAMES[2], "reds, all"], [as_text(NAMES[4]), "reds, all"]]
    shelf.edits.set("cluster_name", [1], "blues")
    (_, *lines) = csv.reader(io.StringIO(exported(shelf, np.array([1, 0]), "labels")[0].decode(), newline=""))
    assert lines == [[NAMES[1], "blues"]]


def test_an_atlas_contains_table_positions_and_images(shelf: ExplorerStore) -> None:
    shelf.edits.set("tag", [3], "<script>")
    found = atlas(shelf, ROWS)
    plain = pq.read_table(io.BytesIO(exported(shelf, ROWS, "parquet")[0]))
    assert found.column_names == [*plain.column_names, "projection_x", "projection_y", "image", "neighbors"]
    told = found.to_pydict()
    assert all(told[name] == plain.to_pydict()[name] for name in plain.column_names if name != "duplicates")
    assert told["duplicates"] == [0.0 if row < 2 else None for row in ROWS]
    places = np.stack([told["projection_x"], told["projection_y"]], 1)
    assert np.array_equal(places, np.asarray(shelf.pack.places())[ROWS])
    for row, picture in zip(ROWS.tolist(), told["image"], strict=True):
        assert picture == {"bytes": shelf.pack.thumb(row), "path": shelf.pack.names[row].as_py()}
        with Image.open(io.BytesIO(picture["bytes"])) as opened:
            red, _, blue = opened.convert("RGB").getpixel((5, 5))
            assert opened.format == "JPEG"
            assert (red > 200) == (row % 2 == 0) == (blue < 50)
    assert [picture["path"] for picture in told["image"]][-4:-1] == [NAMES[3], NAMES[1], NAMES[4]]


def test_neighbours_of_an_atlas_are_the_nearest_of_the_selection(shelf: ExplorerStore) -> None:
    rows = np.random.default_rng(1).permutation(COUNT)[:25]
    vectors = np.load(shelf.networks["net"].path / "output.npy")[rows].astype(np.float64)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    far = 1 - unit @ unit.T
    found = atlas(shelf, rows)["neighbors"]
    assert found.type == pa.struct({"ids": pa.list_(pa.int64()), "distances": pa.list_(pa.float32())})
    for row, near in enumerate(found.to_pylist()):
        others = [other for other in np.argsort(far[row], kind="stable").tolist() if other != row]
        assert near["ids"] == [row, *others[:15]]
        assert near["distances"][0] == 0
        assert near["distances"] == pytest.approx([0, *far[row, others[:15]]], abs=1e-6)


@pytest.mark.parametrize("count", [0, 1, 2, 15, 16])
def test_small_selections_have_fewer_neighbours(shelf: ExplorerStore, count: int) -> None:
    found = atlas(shelf, np.arange(count))
    assert found.num_rows == count
    assert [len(one["ids"]) for one in found["neighbors"].to_pylist()] == [min(count, 16)] * count
    assert all(sorted(one["ids"]) == list(range(count)) for one in found["neighbors"].to_pylist())


def test_a_duplicated_row_is_its_own_neighbour(shelf: ExplorerStore) -> None:
    near = atlas(shelf, ROWS)["neighbors"].to_pylist()
    assert near[1]["ids"][:2] == [1, 7]
    assert near[7]["ids"][:2] == [7, 1]
    assert near[1]["distances"][1] == pytest.approx(0, abs=1e-6)


def test_large_selections_omit_neighbours_or_are_rejected(shelf: ExplorerStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "COMPARED", 7)
    monkeypatch.setattr(exports, "PICTURED", 8)
    assert "neighbors" in atlas(shelf, ROWS[:7]).column_names
    assert "neighbors" not in atlas(shelf, ROWS).column_names
    with pytest.raises(UsageError, match="9 images are too many"):
        exported(shelf, np.arange(9), "atlas")


def test_columns_with_reserved_names_are_kept(tmp_path: Path) -> None:
    shelf, pack = make_shelf(tmp_path), make_pack(tmp_path / "other")
    table = pq.read_table(pack.path / "items.parquet")
    for name in ("Image", "image", "neighbors"):
        table = table.append_column(name, pa.array([f"my {name}"] * COUNT))
    pq.write_table(table, pack.path / "items.parquet")
    found = atlas(ExplorerStore.of(pack.path), ROWS)
    assert len({name.casefold() for name in found.column_names}) == len(found.column_names)
    assert found["Image_"].to_pylist()[0] == "my Image"
    assert found["image__"].to_pylist()[0] == "my image"
    assert found["neighbors_"].to_pylist()[0] == "my neighbors"
    assert found["image"].type == atlas(shelf, ROWS)["image"].type
    assert unused_name("a", ["b"]) == "a"


def test_neighbours_are_exact_in_batches_and_for_zero_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "PART", 7)
    vectors = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float16)
    vectors[9] = 0
    unit = vectors.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True).clip(min=1e-12)
    far = 1 - unit @ unit.T
    np.fill_diagonal(far, -1)
    distances, ids = neighbours_of(vectors, 5)
    assert distances.shape == ids.shape == (50, 6)
    assert (distances >= 0).all()
    known = np.arange(50) != 9
    assert np.array_equal(ids[known], np.argsort(far, 1, kind="stable")[known, :6])
    assert ids[9, 0] == 9
    assert distances[9, 1:] == pytest.approx(1.0)


def test_neighbours_are_those_of_the_first_network(tmp_path: Path) -> None:
    pack = make_pack(tmp_path / "pack")
    names = list(pack.names.to_pylist())
    line = np.stack([np.cos(np.arange(COUNT) / 50), np.sin(np.arange(COUNT) / 50)], 1)
    for name, vectors in (("first", line), ("second", line[::-1] ** 2)):
        write_bank(tmp_path / name, {"inner": np.ones((COUNT, 2)), "output": vectors}, names, {"data": "none"})
    shelf = ExplorerStore(pack, [Network("first", tmp_path / "first"), Network("second", tmp_path / "second")])
    near = atlas(shelf, np.array([0, 10, 20, 30, 39]))["neighbors"].to_pylist()
    assert near[0]["ids"] == [0, 1, 2, 3, 4]
    assert near[4]["ids"] == [4, 3, 2, 1, 0]
    assert near[0]["distances"] == pytest.approx((1 - np.cos(np.array([0, 10, 20, 30, 39]) / 50)).tolist(), abs=1e-6)


def test_exports_need_no_torch() -> None:
    words = "import sys, selfsight.explorer.server.exports, selfsight.explorer.server.fiftyone; "
    words += "print('torch' in sys.modules, 'fiftyone' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
