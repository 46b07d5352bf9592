"""Tables that spreadsheets show and do not evaluate."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest

import selfsight
from selfsight.core.spreadsheets import as_text, original_text, write_csv
from selfsight.data.opening import open_source
from selfsight.discover.images.duplicates import Selection

EVALUATED = ["=1+1", "+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\uff1d1", "'=1", "''@x", "-"]
PLAIN = ["", "a=b", "'", "'tis", "1-2", " =1", "ünïcode ☃", "''"]


@pytest.mark.parametrize("text", EVALUATED)
def test_formulas_are_marked_and_read_back(text):
    assert as_text(text) == f"'{text}"
    assert original_text(as_text(text)) == text
    assert as_text(np.str_(text)) == f"'{text}"


@pytest.mark.parametrize("text", PLAIN)
def test_other_text_is_unchanged(text):
    assert as_text(text) == text
    assert original_text(text) == text


def test_numbers_stay_numbers():
    for value in (-1, -1.5, np.float64(-2.5), None, True):
        assert as_text(value) is value
    file = io.StringIO(newline="")
    write_csv(file, ["=name", "value"], [["@x", -1.5], ["y,z", -2]])
    assert file.getvalue() == "'=name,value\r\n'@x,-1.5\r\n\"y,z\",-2\r\n"


def test_annotations_are_read_as_they_were(tmp_path):
    from PIL import Image

    names, labels = ["=1.png", "-2.png", "x.png"], ["@home", "+1 day", "'quoted"]
    for name in names:
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    with (tmp_path / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        write_csv(file, ["file", "label"], zip(names, labels, strict=True))
    assert "'=1.png,'@home" in (tmp_path / "labels.csv").read_text()
    source = open_source(str(tmp_path), truth=tmp_path / "labels.csv", size=8)
    truth = source.truth(np.arange(3))
    assert truth.labels is not None
    found = {Path(str(name)).name: truth.classes[label] for name, label in zip(source.names, truth.labels, strict=True)}
    assert found == dict(zip(names, labels, strict=True))


def test_a_selection_is_marked(tmp_path):
    shown = dict.fromkeys((0, 1), np.zeros((8, 8, 3), np.uint8))
    Selection(("=a.png", "b.png"), ((0, "@why"), (1, "far")), np.array([0, 1]), shown).save(tmp_path)
    with (tmp_path / "selection.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [["file", "why", "cluster"], ["'=a.png", "'@why", "0"], ["b.png", "far", "1"]]


def test_there_is_one_writer_of_tables():
    package = Path(selfsight.__file__).parent
    found = {file.name for file in package.rglob("*.py") if "csv.writer" in file.read_text() or "DictWriter" in file.read_text()}
    assert found == {"spreadsheets.py"}
