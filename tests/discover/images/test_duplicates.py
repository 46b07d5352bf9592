"""Duplicates, selection for labelling, and labels from cluster names."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import selfsight
from selfsight.cli import main
from selfsight.core.errors import UsageError
from selfsight.data.opening import open_source
from selfsight.data.source import Source
from selfsight.discover.images.duplicates import find_duplicates
from selfsight.discover.images.near_duplicates import near_duplicates
from selfsight.explorer.server.store import ExplorerStore

COPIES = [{"03.png", "03_again.jpg", "03_small.png"}, {"25.png", "25_again.jpg"}]
LEFT = {"03_again.jpg", "03_small.png", "25_again.jpg"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Forty images of smooth noise; one occurs three times and one twice, as JPEG or downscaled."""
    place, generator = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for number in range(40):
        level = np.uint8(30 if number < 20 else 160)
        picture = Image.fromarray(generator.integers(0, 60, (6, 6, 3)).astype(np.uint8) + level).resize((48, 48))
        picture.save(place / f"{number:02d}.png")
        if number in (3, 25):
            picture.save(place / f"{number:02d}_again.jpg", quality=85)
        if number == 3:
            picture.resize((40, 40)).save(place / "03_small.png")
    return place


@pytest.fixture
def run(folder, tmp_path) -> Path:
    """An untrained run."""
    selfsight.learn(folder, out=tmp_path / "run", backbone="resnet_tiny?width=8", size=32, batch=16, epochs=0)
    return tmp_path / "run"


def lines(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def test_planted_duplicates_are_found_and_the_first_is_kept(folder, run, capsys):
    words = ["discover", str(run), str(folder), "--what", "duplicates,selection", "--classes", "4", "--count", "12"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "groups of near-duplicates: 2; images to keep: 40 of 43" in said
    assert "images to label: 12 of 43 (4 central, 4 diverse, 4 doubtful)" in said
    assert len(list((run / "banks").iterdir())) == 1  # features are worked out once for both

    place = run / "discoveries" / "duplicates"
    table = lines(place / "duplicates.csv")
    assert [{line["file"] for line in table if line["group"] == number} for number in ("0", "1")] == COPIES
    assert [line["file"] for line in table if line["kept"] == "yes"] == ["03.png", "25.png"]
    kept = (place / "unique.txt").read_text().split()
    assert sorted(kept) == sorted({file.name for file in folder.iterdir()} - LEFT)
    assert [set(group) for group in json.loads((place / "duplicates.json").read_text())["duplicates"]] == COPIES
    with Image.open(place / "duplicates.png") as sheet:
        assert sheet.height > 2 * 96
        shown = np.asarray(sheet.convert("RGB"), dtype=int)
    assert abs(shown[40:125, 155:240] - shown[40:125, 305:390]).max() < 40  # the kept picture and its copy, beside each other

    place = run / "discoveries" / "selection"
    table = lines(place / "selection.csv")
    assert {line["why"] for line in table} == {"central", "diverse", "doubtful"}
    assert sorted(line["cluster"] for line in table if line["why"] == "central") == ["0", "1", "2", "3"]
    chosen = [line["file"] for line in table]
    assert chosen == (place / "selection.txt").read_text().split()
    assert len(set(chosen)) == 12
    assert not set(chosen) & LEFT
    assert [one["file"] for one in json.loads((place / "selection.json").read_text())["selection"]] == chosen
    with Image.open(place / "selection.png") as sheet:
        assert sheet.width > 10 * 96


def test_duplicates_are_found_with_the_python_api(folder, run):
    opened = selfsight.load(run)
    for method in ("features", "pixels"):
        found, scores = opened.discover(folder, what="duplicates", method=method)
        assert [{found.names[row] for row in rows} for rows in found.groups] == COPIES
        assert {found.names[row] for row in range(43)} - {found.names[row] for row in found.unique()} == LEFT
        assert scores == {}
        assert all(words in found._repr_html_() for words in ("images to keep: 40 of 43", "03.png", "data:image/png;base64"))
    few, _ = opened.discover(folder, what="selection", classes=3, count=1)
    assert [why for _, why in few.chosen] == ["central"]
    assert all(words in few._repr_html_() for words in ("images to label: 1 of 43", few.names[few.chosen[0][0]], "data:image/png;base64"))
    with pytest.raises(UsageError, match="count is 0"):
        opened.discover(folder, what="selection", count=0)


def test_without_duplicates_all_is_kept(run, tmp_path):
    found, _ = selfsight.load(run).discover("world:shapes?count=30&size=32", what="duplicates")
    assert (found.groups, found.unique()) == ((), list(range(30)))
    found.save(tmp_path / "none")
    assert len((tmp_path / "none" / "unique.txt").read_text().split()) == 30
    assert (tmp_path / "none" / "duplicates.csv").read_text().strip() == "group,file,kept"
    with Image.open(tmp_path / "none" / "duplicates.png") as sheet:
        assert sheet.height > 96


def explored(run: Path, data: str | Path, *others: str) -> ExplorerStore:
    """Prepare the explorer in a separate process."""
    words = ["explore", str(run), *others, "--data", str(data), "--no-serve", "--no-untrained", "--maps", "pca", "--json"]
    done = subprocess.run([sys.executable, "-m", "selfsight", *words], capture_output=True, text=True, check=True)
    return ExplorerStore.of(Path(json.loads(done.stdout)["folder"]))


def test_names_of_clusters_become_labels(folder, run, capsys, monkeypatch):
    ask = ["discover", str(run), str(folder), "--what", "labels"]
    assert main(ask) == 2
    refused = capsys.readouterr().err
    assert "was not explored with" in refused
    assert f"selfsight explore {run} --data {folder}" in refused
    shelf = explored(run, folder)
    assert main(ask) == 2
    assert "has a name" in capsys.readouterr().err
    assert not (run / "discoveries").exists()

    shelf.edits.set("cluster_name", [0], "first [kind]")
    shelf.edits.set("cluster_name", [2], "third")
    shelf.edits.set("cluster_merge", [1], "0")
    shelf.edits.close()
    monkeypatch.setattr("selfsight.api.Run", None)  # no network is needed
    assert main([*ask, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    numbers = shelf.pack.column("cluster").astype(int).tolist()
    names = {0: "first [kind]", 1: "first [kind]", 2: "third"}
    every = zip(shelf.pack.names.to_pylist(), numbers, strict=True)
    expected = [(name, names[number]) for name, number in every if number in names and name not in LEFT]
    found = [(line["file"], line["label"]) for line in lines(run / "discoveries" / "labels" / "labels.csv")]
    assert found == expected
    counts = {label: sum(one == label for _, one in expected) for label in names.values()}
    assert told["labels"] == counts
    assert told["pictures"] == len(expected) > counts["third"] > 0
    assert main(ask) == 0
    said = capsys.readouterr().out
    assert "first [kind]" in said
    assert str(counts["third"]) in said


def test_cluster_names_of_training_images_are_read(tmp_path, capsys):
    data = "world:shapes?count=60&size=32"
    selfsight.learn(data, out=tmp_path / "run", backbone="resnet_tiny?width=8", size=32, batch=16, epochs=0, limit=24)
    assert main(["explore", str(tmp_path / "run"), "--no-serve", "--no-untrained", "--maps", "pca", "--json"]) == 0
    shelf = ExplorerStore.of(Path(json.loads(capsys.readouterr().out)["folder"]))
    shelf.edits.set("cluster_name", [0, 1, 2, 3], "all")
    shelf.edits.close()
    ask = ["discover", str(tmp_path / "run"), data, "--what", "labels", "--json"]
    assert main(ask) == 0
    assert json.loads(capsys.readouterr().out)["labels"] == {"all": 24}
    assert main([*ask, "--limit", "24"]) == 0
    assert main([*ask, "--limit", "20"]) == 2
    assert "--limit 20" in capsys.readouterr().err


def test_cluster_names_are_read_with_several_explored_runs(folder, run, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "other")
    shelf = explored(run, folder, str(tmp_path / "other"))
    shelf.edits.set("cluster_name", [0], "named beside another")
    shelf.edits.close()
    ask = ["--what", "labels", "--out", str(tmp_path / "out")]
    assert main(["discover", str(run), str(folder), *ask]) == 0
    assert {line["label"] for line in lines(tmp_path / "out" / "labels.csv")} == {"named beside another"}
    assert main(["discover", str(run), str(tmp_path), *ask]) == 2  # other data
    assert "was not explored with" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (["--what", "label"], "'labels'"),
        (["--what", "labels", "--method", "guess"], "names"),
        (["--what", "selection", "--count", "0"], "1"),
    ],
)
def test_invalid_arguments_are_rejected(folder, run, capsys, words, remedy):
    assert main(["discover", str(run), str(folder), *words]) == 2
    assert remedy in capsys.readouterr().err


@pytest.fixture(scope="module")
def untrained() -> selfsight.Run:
    return selfsight.load("untrained:resnet_tiny?width=8", size=32)


def saved(folder: Path, images: dict[str, np.ndarray]) -> Source:
    folder.mkdir()
    for name, pixels in images.items():
        Image.fromarray(pixels.astype(np.uint8)).save(folder / name)
    return open_source(folder, size=32, cache=folder.parent / "cache")


@pytest.mark.parametrize("method", ["features", "pixels"])
def test_flat_images_are_duplicates_if_their_colours_are_equal(tmp_path, untrained, method):
    random = np.random.default_rng(0)
    images = {f"grey{value:03d}-{k}.png": np.full((40, 40, 3), value) for value in (0, 50, 100, 150, 200, 255) for k in range(2)}
    images |= {f"red-{k}.png": np.full((40, 40, 3), (200, 10, 10)) for k in range(3)}
    noise = {f"noise{k:02d}.png": random.integers(0, 255, (40, 40, 3)) for k in range(15)}
    noise |= {"dark copy.png": noise["noise03.png"] // 3, "negative.png": 255 - noise["noise04.png"]}
    result = find_duplicates(untrained.phi, saved(tmp_path / "photos", images | noise), method)
    found = [tuple(result.names[row] for row in group) for group in result.groups]
    greys = [(f"grey{value:03d}-0.png", f"grey{value:03d}-1.png") for value in (0, 50, 100, 150, 200, 255)]
    assert found == [("dark copy.png", "noise03.png"), *greys, ("red-0.png", "red-1.png", "red-2.png")]


@pytest.mark.parametrize("method", ["features", "pixels"])
def test_flat_images_of_different_colours_are_no_duplicates(tmp_path, untrained, method):
    """Of one hue, with and without faint noise; and greys, each of which is close to the next."""
    random = np.random.default_rng(0)
    colours = {"dark": (90, 0, 0), "red": (200, 10, 10), "pink": (250, 160, 160), "blue": (10, 10, 200), "sky": (160, 160, 250)}
    images = {f"{name}.png": np.full((40, 40, 3), colour) for name, colour in colours.items()}
    images |= {
        f"{name} noise.png": np.clip(np.array(colour) + random.normal(0, 4, (40, 40, 3)), 0, 255) for name, colour in colours.items()
    }
    result = find_duplicates(untrained.phi, saved(tmp_path / "colours", images), method)
    assert [[result.names[row] for row in group] for group in result.groups] == []
    ramp = {f"{value:03d}.png": np.full((40, 40, 3), value) for value in range(0, 256, 2)}
    ramp |= {f"{value:03d} copy.png": np.full((40, 40, 3), value) for value in (0, 100, 254)}
    result = find_duplicates(untrained.phi, saved(tmp_path / "ramp", ramp), method)
    assert [[result.names[row] for row in group] for group in result.groups] == [
        [f"{value:03d} copy.png", f"{value:03d}.png"] for value in (0, 100, 254)
    ]
    close = {f"{value:03d}.png": np.full((40, 40, 3), value) for value in range(100, 160)}
    result = find_duplicates(untrained.phi, saved(tmp_path / "close", close), method)
    assert max(len(group) for group in result.groups) == 2  # with the next value, which cannot be told apart from rounding


def test_equal_images_need_not_be_neighbours(tmp_path):
    random = np.random.default_rng(0)
    images = {f"{k}.png": random.integers(0, 255, (40, 40, 3)) for k in range(4)}
    images["4.png"] = images["1.png"]
    source = saved(tmp_path / "photos", images)
    assert near_duplicates(source, np.array([[1], [2], [3], [0], [3]]), 0.95) == ((1, 4),)


def test_a_pattern_of_one_level_does_not_make_duplicates(tmp_path):
    """Dither of two colours correlates exactly."""
    dither = np.indices((48, 48)).sum(0)[..., None] // 6 % 2
    images = {f"{value}.png": np.full((48, 48, 3), value) + dither for value in (60, 61, 100, 200)}
    source = saved(tmp_path / "photos", images)
    around = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])
    names = [[source.names[row] for row in group] for group in near_duplicates(source, around, 0.95)]
    assert names == [["60.png", "61.png"]]


@pytest.mark.parametrize("method", ["features", "pixels"])
def test_more_copies_than_neighbours_are_one_group(tmp_path, untrained, method):
    random = np.random.default_rng(0)
    copy = random.integers(0, 255, (40, 40, 3))
    images = {f"copy{k:02d}.png": copy for k in range(40)} | {f"blank{k:02d}.png": np.full((40, 40, 3), 245) for k in range(26)}
    images |= {f"other{k:02d}.png": random.integers(0, 255, (40, 40, 3)) for k in range(20)}
    result = find_duplicates(untrained.phi, saved(tmp_path / "photos", images), method)
    assert [(len(group), result.names[group[0]]) for group in result.groups] == [(26, "blank00.png"), (40, "copy00.png")]


@pytest.mark.parametrize("what", ["duplicates", "clusters", "boxes", "segments", "selection"])
def test_unreadable_files_have_no_part_in_discoveries(tmp_path, untrained, what):
    random = np.random.default_rng(0)
    images = {f"{k:02d}.png": random.integers(0, 255, (40, 40, 3)) for k in range(24)}
    saved(tmp_path / "photos", images)
    for name in ("03.png", "23.png"):
        (tmp_path / "photos" / name).write_bytes(b"")
    options = {"count": 5} if what == "selection" else {"classes": 3} if what == "segments" else {}
    for source in (open_source(tmp_path / "photos", size=32), open_source(tmp_path / "photos", size=32, replace_unreadable=True)):
        result, _ = untrained.discover(source, what=what, baselines=False, **options)
        assert {"03.png", "23.png"}.isdisjoint(result.names)
        assert len(result.names) == 22
        if what == "duplicates":
            assert result.groups == ()
