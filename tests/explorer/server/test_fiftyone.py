"""Conversion to FiftyOne, with a mock of the part of its API that is used."""

import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from selfsight.core.errors import MissingExtra, UsageError
from selfsight.explorer.server.fiftyone import MAP, to_fiftyone
from selfsight.explorer.server.pack import Pack

from explorer_store import COUNT, NAMES, jpeg, make_shelf

FIELDS = ("id", "filepath", "tags", "metadata", "created_at", "last_modified_at")
"""Of every sample (FiftyOne 1.22)."""
TAG = "<img src=x onerror=alert(1)>"


class Classification:
    def __init__(self, *, label: str) -> None:
        self.label = label


class Sample(dict[str, Any]):
    """Rejects some field names, as FiftyOne does."""

    def __init__(self, *, filepath: str, tags: list[str], **fields: Any) -> None:
        for name, value in fields.items():
            assert name
            assert not name.startswith("_")
            assert not set(name) & set(".$")
            assert name not in FIELDS
            assert value is not None
        super().__init__(filepath=filepath, tags=tags, **fields)


class Dataset(list[Sample]):
    made: ClassVar[list["Dataset"]] = []

    def __init__(self, name: str | None) -> None:
        super().__init__()
        self.name, self.runs = name or "made up", dict[str, Any]()
        self.made.append(self)

    def get_field_schema(self) -> dict[str, None]:
        return dict.fromkeys(FIELDS)

    def add_samples(self, samples: Iterable[Sample], *, num_samples: int, progress: bool) -> None:
        self += samples
        assert len(self) == num_samples
        assert not progress


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    found, brain = ModuleType("fiftyone"), ModuleType("fiftyone.brain")

    def compute_visualization(dataset: Dataset, *, points: np.ndarray, brain_key: str, method: str) -> None:
        assert method == "manual"
        assert len(points) == len(dataset)
        dataset.runs[brain_key] = points

    Dataset.made = []
    monkeypatch.setattr(brain, "compute_visualization", compute_visualization, raising=False)
    for name, value in {
        "brain": brain,
        "Sample": Sample,
        "Dataset": Dataset,
        "Classification": Classification,
        "dataset_exists": lambda name: name in [one.name for one in Dataset.made],
    }.items():
        monkeypatch.setattr(found, name, value, raising=False)
    monkeypatch.setitem(sys.modules, "fiftyone", found)
    monkeypatch.setitem(sys.modules, "fiftyone.brain", brain)


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    shelf = make_shelf(tmp_path)
    shelf.edits.set("tag", [3, 4], TAG)
    shelf.edits.set("note", [5], "odd")
    shelf.edits.set("cluster_name", [0], "reds")
    shelf.edits.close()
    return shelf.pack


@pytest.mark.usefixtures("stand_in")
def test_columns_and_edits_become_sample_fields(pack: Pack) -> None:
    found = to_fiftyone(pack.path, "mine")
    assert found.name == "mine"
    assert [sample["file"] for sample in found] == pack.names.to_pylist()
    assert [sample["file"] for sample in found][: len(NAMES)] == NAMES
    assert [sample["label"].label for sample in found[:2]] == ["red", "blue"]
    assert [sample["cluster"].label for sample in found[:4]] == ["reds", "1", "reds", "1"]
    assert [sample["cluster_4"].label for sample in found[:5]] == ["0", "1", "2", "3", "0"]
    assert [sample["brightness"] for sample in found] == [row / COUNT for row in range(COUNT)]
    assert ["duplicates" in sample for sample in found] == [row < 2 for row in range(COUNT)]
    assert [sample["tags"] for sample in found[2:6]] == [[], [TAG], [TAG], []]
    assert [row for row, sample in enumerate(found) if "note" in sample] == [5]
    assert found[5]["note"] == "odd"
    vectors = np.load(pack.path.parent / "bank" / "output.npy")
    assert np.array_equal(np.stack([sample["embedding"] for sample in found]), vectors)
    assert all(sample["embedding"].dtype == np.float32 for sample in found)
    assert np.array_equal(found.runs[MAP], np.asarray(pack.places(), dtype=np.float64))


@pytest.mark.usefixtures("stand_in")
def test_images_without_files_use_thumbnails(pack: Pack, tmp_path: Path) -> None:
    found = to_fiftyone(pack.path, rows=np.array([7, 2]))
    assert found.name == "made up"
    assert [sample["file"] for sample in found] == ["7.png", NAMES[2]]
    assert [Path(sample["filepath"]).name for sample in found] == ["00000007.jpg", "00000002.jpg"]
    assert Path(found[0]["filepath"]).parent == pack.path.parent / "pack.pictures"
    for row, sample in zip((7, 2), found, strict=True):
        assert Path(sample["filepath"]).read_bytes() == pack.thumb(row)
    elsewhere = to_fiftyone(pack.path, thumbnails=tmp_path / "copies", rows=np.array([1]))
    assert Path(elsewhere[0]["filepath"]) == tmp_path / "copies" / "pack" / "00000001.jpg"
    assert to_fiftyone(pack.path, rows=np.zeros(0, np.int64)) == []


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("options", ["", "?where=a"])
def test_samples_refer_to_original_files(pack: Pack, tmp_path: Path, options: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for name in (NAMES[1], NAMES[2], "7.png"):
        (folder / name).write_bytes(jpeg((1, 2, 3)))
    about = (pack.path / "pack.json").read_text()
    (pack.path / "pack.json").write_text(about.replace('"data": "none"', f'"data": "{folder}{options}"'))
    found = to_fiftyone(pack.path, rows=np.array([0, 1, 2, 7]))
    copy, *own = (Path(sample["filepath"]) for sample in found)
    assert copy.parent.name == "pack.pictures"
    assert own == [folder / NAMES[1], folder / NAMES[2], folder / "7.png"]
    with Image.open(own[0]) as opened:
        assert opened.size == (32, 32)


@pytest.mark.usefixtures("stand_in")
def test_forbidden_field_names_are_changed(pack: Pack) -> None:
    table = pq.read_table(pack.path / "items.parquet")
    for name in ("_a.b$c", "id", "metadata", "embedding", "note", "___"):
        table = table.append_column(name, pa.array([f"my {name}"] * COUNT))
    pq.write_table(table, pack.path / "items.parquet")
    found = to_fiftyone(pack.path)[5]
    told = {"a_b_c": "_a.b$c", "id_": "id", "metadata_": "metadata", "embedding_": "embedding", "note_": "note", "column": "___"}
    assert {field: found[field] for field in told} == {field: f"my {name}" for field, name in told.items()}
    assert found["note"] == "odd"


@pytest.mark.usefixtures("stand_in")
def test_an_existing_name_is_rejected(pack: Pack) -> None:
    to_fiftyone(pack.path, "mine")
    with pytest.raises(UsageError, match="has a data set 'mine'") as refusal:
        to_fiftyone(pack.path, "mine")
    assert "fiftyone.delete_dataset('mine')" in refusal.value.remedy
    assert len(Dataset.made) == 1


def test_missing_fiftyone_is_reported(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fiftyone", None)
    with pytest.raises(MissingExtra, match="needs the package fiftyone") as refusal:
        to_fiftyone(pack.path)
    assert refusal.value.remedy == "Install it with: pip install 'selfsight[fiftyone]'"
