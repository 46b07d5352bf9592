"""Labels in unusual types, texts that look like numbers, and data sets of torchvision whose labels stand elsewhere."""

import datetime
import decimal
import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from selfsight.core.errors import UsageError
from selfsight.data.classes import number_classes
from selfsight.data.opening import open_source

from pictures import encoded, photograph


def table(folder: Path, labels: pa.Array, name: str = "label"):
    images = [encoded(photograph(number)) for number in range(len(labels))]
    path = folder / "table.parquet"
    pq.write_table(pa.table({"image": images, name: labels}), path)
    source = open_source(path, size=16, cache=folder / "cache")
    truth = source.truth(np.arange(len(source)))
    return None if truth.labels is None else [truth.classes[number] if number >= 0 else None for number in truth.labels]


@pytest.mark.parametrize(
    ("labels", "right"),
    [
        (pa.array(["b", "a", None]).dictionary_encode(), ["b", "a", None]),
        (pa.array([b"b", b"a", b"b"]), ["b", "a", "b"]),
        (pa.array(["b", "a", "b"], type=pa.string_view()), ["b", "a", "b"]),
        (pa.array([3, 7, 3]).dictionary_encode(), ["3", "7", "3"]),
        (pa.array([decimal.Decimal("3"), decimal.Decimal("7"), None]), ["3", "7", None]),
        (pa.array([datetime.date(2026, 1, 2), datetime.date(2025, 1, 2), None]), ["2026-01-02", "2025-01-02", None]),
        (pa.array([0.0, 1.0, float("inf")]), ["0", "1", None]),
    ],
)
def test_types_of_columns(tmp_path, labels, right):
    assert table(tmp_path, labels) == right


def test_a_column_that_is_not_read_is_named(tmp_path, caplog):
    assert table(tmp_path, pa.array([[1], [2], [1]])) is None
    assert "the column label of type list<" in caplog.text
    caplog.clear()
    assert table(tmp_path, pa.array([0.5, 1.5, 2.0])) is None
    assert "The labels hold fractions, such as 0.5" in caplog.text


@pytest.mark.parametrize(
    ("texts", "classes"),
    [
        (["0e1", "0e2", "1"], ("0e1", "0e2", "1")),
        (["1_0", "10"], ("10", "1_0")),
        (["001", "1"], ("001", "1")),
        (["1e5", "cat"], ("1e5", "cat")),
        ([" bee ", "bee", "cow"], ("bee", "cow")),
        (["7", "12", "-1"], ("7", "12")),
        (["1.0", "2.0"], ("1", "2")),
        (["1" * 400, "2"], ("1" * 400, "2")),
    ],
)
def test_only_plain_numbers_are_numbers(texts, classes):
    assert number_classes(texts).classes == classes


def image_folder(root: Path, value: int) -> None:
    for name in ("a", "b"):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(3):
            Image.new("RGB", (16, 16), (value + number,) * 3).save(root / name / f"{number}.png")


def test_changed_files_of_torchvision_are_read_anew(tmp_path):
    image_folder(tmp_path / "root", 10)
    spec = f"torchvision:ImageFolder?root={tmp_path / 'root'}"
    first = open_source(spec, size=16, cache=tmp_path / "cache")
    assert first.read(np.arange(6)).images.max() == 12
    same = open_source(spec, size=16, cache=tmp_path / "cache")
    assert same.fingerprint == first.fingerprint
    image_folder(tmp_path / "root", 250)
    os.utime(tmp_path / "root" / "a" / "0.png", (1, 1))
    second = open_source(spec, size=16, cache=tmp_path / "cache")
    assert second.fingerprint != first.fingerprint
    assert second.read(np.arange(6)).images.max() == 252


def test_labels_that_only_items_have(tmp_path):
    source = open_source("torchvision:FakeData?size=6&image_size=3,16,16&num_classes=3", size=16, cache=tmp_path / "cache")
    labels = source.truth(np.arange(6)).labels
    assert labels is not None
    assert set(labels.tolist()) <= {0, 1, 2}
    assert len(set(labels.tolist())) > 1


class Pets:
    """A data set whose labels depend on its options, as torchvision's OxfordIIITPet."""

    def __init__(self, root: str = "data", target_types: str = "category") -> None:
        self._labels, self._bin_labels = [0, 1, 2, 0], [1, 0, 1, 1]
        self.classes, self.bin_classes, self.binary = ["Abyssinian", "Beagle", "Birman"], ["Cat", "Dog"], target_types == "binary-category"

    def __len__(self) -> int:
        return 4

    def __getitem__(self, row: int):
        return Image.new("RGB", (16, 16), (60 * row,) * 3), (self._bin_labels if self.binary else self._labels)[row]


@pytest.mark.parametrize(
    ("kind", "right"),
    [("category", ["Abyssinian", "Beagle", "Birman", "Abyssinian"]), ("binary-category", ["Dog", "Cat", "Dog", "Dog"])],
)
def test_labels_are_those_of_the_items(tmp_path, monkeypatch, kind, right):
    monkeypatch.setattr("torchvision.datasets.OxfordIIITPet", Pets)
    source = open_source(f"torchvision:OxfordIIITPet?target_types={kind}", size=16, cache=tmp_path / "cache")
    truth = source.truth(np.arange(4))
    assert truth.labels is not None
    assert [truth.classes[number] for number in truth.labels] == right


@pytest.mark.parametrize("options", ["size=abc", "size=6&image_size=32", "size=-1", "image_size=3,x,40", "number=3"])
def test_options_that_torchvision_rejects(tmp_path, options):
    with pytest.raises(UsageError, match=r"FakeData (rejects these options|has no option)"):
        open_source(f"torchvision:FakeData?{options}", size=16, cache=tmp_path / "cache")


@pytest.mark.parametrize("unknown", ["-1", "NaN", ""])
@pytest.mark.parametrize("template", ["{}", "{}.0"])
def test_names_beside_numbers_are_kept_with_unknown_rows(tmp_path, unknown, template):
    for number in range(4):
        (tmp_path / f"{number}.png").write_bytes(encoded(photograph(number)))
    rows = [(unknown, "none of these"), (template.format(1), "cat"), (template.format(2), "dog"), (template.format(1), "cat")]
    lines = ["file,label,class_name", *(f"{number}.png,{label},{name}" for number, (label, name) in enumerate(rows))]
    (tmp_path / "truth.csv").write_text("\n".join(lines) + "\n")
    source = open_source(tmp_path, size=16, cache=tmp_path / "cache", truth=tmp_path / "truth.csv")
    truth = source.truth(np.arange(4))
    assert truth.labels is not None
    assert [truth.classes[number] if number >= 0 else None for number in truth.labels] == [None, "cat", "dog", "cat"]


def test_annotations_of_a_tar_that_are_not_read_are_counted(tmp_path, caplog):
    sides = [b'{"class": "ant"}', b'{"class": "bee"}', b'{"label": ["bee"]}', b"{bad", b'{"class": "ant"}', b"[1]"]
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        for number, side in enumerate(sides):
            for name, content in ((f"{number}.png", encoded(photograph(number))), (f"{number}.json", side)):
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    source = open_source(tmp_path / "set.tar", size=16, cache=tmp_path / "cache")
    truth = source.truth(np.arange(6))
    assert truth.labels is not None
    assert [truth.classes[number] if number >= 0 else None for number in truth.labels] == ["ant", "bee", None, None, "ant", None]
    assert "2 annotations that are no JSON objects" in caplog.text
    assert "1 labels that are lists or objects" in caplog.text
