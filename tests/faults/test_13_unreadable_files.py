"""Five per cent unreadable files: the run completes, lists each once with a reason, and replaces them in the same way each time."""

import csv
import json

import numpy as np

from selfsight.cli import main
from selfsight.data.opening import open_source

from pictures import damaged_folder
from training import kept

BAD = {
    "cat/truncated.jpg": "damaged",
    "cat/empty.jpg": "empty file",
    "cat/text.jpg": "not an image",
    "cat/bomb.png": "too many pixels",
    "cat/a 'quoted' \"name\"\nof two lines.png": "not an image",
}


def test_a_run_completes_and_lists_them(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("SELFSIGHT_CACHE", str(tmp_path / "cache"))
    folder = damaged_folder(tmp_path / "pictures")
    words = ["learn", str(folder), "--size", "16", "--backbone", "resnet_tiny?width=4", "--batch", "8", "--steps", "12"]
    words += ["--device", "cpu", "--no-report"]
    for name in ("one", "two"):
        assert main([*words, "--out", str(tmp_path / name)]) == 0
        error = capsys.readouterr().err
        assert "5 of 101 files could not be read and were replaced; bad_files.csv lists them" in error
        with (tmp_path / name / "bad_files.csv").open(newline="") as file:
            found = dict(csv.reader(file))
        assert found.pop("name") == "reason"
        assert found.keys() == BAD.keys()
        assert all(words in found[name] for name, words in BAD.items()), found
    assert kept(tmp_path / "one") == kept(tmp_path / "two")
    assert json.loads((tmp_path / "one" / "STATUS.json").read_text())["status"] == "finished"


def test_they_are_replaced_in_training_only(tmp_path):
    folder = damaged_folder(tmp_path / "pictures")
    source = open_source(folder, size=16, cache=tmp_path / "cache", replace_unreadable=True)
    rows = [list(source.names).index(name) for name in BAD]
    first, again = source.read(np.array(rows)).images, source.read(np.array(rows)).images
    np.testing.assert_array_equal(first, again)
    assert not set(open_source(folder, size=16, cache=tmp_path / "cache").names) & set(BAD)
