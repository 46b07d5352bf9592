"""File names with quotes, line breaks, tags, formulas and bytes that are no text: shown literally, and exports can be read again."""

import csv
import json
from html.parser import HTMLParser
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from selfsight.cli import main
from selfsight.core.spreadsheets import original_text

from pictures import encoded, photograph

TAG = "<img src=x onerror=alert(1)>"
NAMES = [
    b"caf\xe9.png", "\u732b.png".encode(), b"line\nbreak.png", f"{TAG}.png".encode(), b"it's a \"name\".png", b"=1+1.png", b"[bold]x[y].png",
    b"%s{0}$x$.png", b"two  spaces .png", b"-rf.png",
]  # fmt: skip
SHOWN = [r"caf\xe9.png", *(name.decode() for name in NAMES[1:])]


class Tags(HTMLParser):
    """Collects tags and their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("names") / f"a folder {TAG.replace('/', '')}"
    for number, name in enumerate(NAMES):
        place = folder / ("=class" if number % 2 else "[red]class")
        place.mkdir(parents=True, exist_ok=True)
        Path(place, name.decode("utf-8", "surrogateescape")).write_bytes(encoded(photograph(number)))
    (folder / "=class" / f"bad {TAG}.png").write_bytes(b"nothing")
    return folder


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("run") / f"run {TAG}"
    words = ["learn", str(folder), "--size", "16", "--backbone", "resnet_tiny?width=4", "--batch", "4", "--steps", "2", "--device", "cpu"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SELFSIGHT_CACHE", str(tmp_path_factory.mktemp("cache")))
        assert main([*words, "--out", str(out)]) == 0
        measured = ["measure", str(out), "--train", str(folder), "--test", str(folder), "--probes", "knn", "--device", "cpu"]
        assert main(measured) == 0
        assert main(["report", str(out), "--device", "cpu"]) == 0
    return out


def test_the_list_of_unreadable_files(run):
    with (run / "bad_files.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["name", "reason"]
    assert [original_text(row[0]) for row in rows[1:]] == [f"=class/bad {TAG}.png"]


def test_the_report_shows_names_as_text(run):
    pages = list(run.rglob("*.html"))
    assert pages
    for page in pages:
        tags = Tags(page.read_text())
        assert not [attributes for _, attributes in tags.found if any(name.startswith("on") for name in attributes)]
        assert ("img", {"src": "x"}) not in tags.found
        assert "onerror" not in {name for _, attributes in tags.found for name in attributes}


def test_a_bank_names_its_rows(run, folder, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("SELFSIGHT_CACHE", str(tmp_path / "cache"))
    capsys.readouterr()
    assert main(["bank", str(run), "--data", str(folder), "--device", "cpu", "--json"]) == 0
    bank = Path(json.loads(capsys.readouterr().out)["bank"])
    names = pq.read_table(bank / "items.parquet").column(0).to_pylist()
    assert {name.partition("/")[2] for name in map(str, names)} == set(SHOWN) or set(names) == {*range(len(NAMES))}


def test_duplicates_are_named(run, folder, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("SELFSIGHT_CACHE", str(tmp_path / "cache"))
    (folder / "=class" / f"twin {TAG}.png").write_bytes(encoded(photograph(3)))
    try:
        capsys.readouterr()
        assert main(["discover", str(run), str(folder), "--what", "duplicates", "--device", "cpu", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["pictures"], found["groups"]) == (len(NAMES) + 1, 1)
        table = next(file for file in map(Path, found["files"]) if file.suffix == ".csv")
        with table.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert {original_text(name).partition("/")[2] for row in rows for name in row.values()} >= {f"twin {TAG}.png", f"{TAG}.png"}
        listed = next(file for file in map(Path, found["files"]) if file.suffix == ".txt").read_text()
        assert {line.partition("/")[2] for line in listed.splitlines()} == {name.replace("\n", r"\n") for name in SHOWN}
    finally:
        (folder / "=class" / f"twin {TAG}.png").unlink()
