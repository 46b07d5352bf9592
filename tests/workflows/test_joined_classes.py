"""Classes of training and test data are joined by name, for every format; what the scores mean is said."""

import csv
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import selfsight
from selfsight.cli import main
from selfsight.core.errors import DataError
from selfsight.core.representation import Representation
from selfsight.data.opening import open_source
from selfsight.data.source import Source
from selfsight.workflows.evaluate.data import evaluation_data
from selfsight.workflows.evaluate.probes import evaluate

COLOURS = {"ant": (220, 30, 30), "bee": (30, 220, 30), "cow": (30, 30, 220), "dog": (200, 200, 40)}
Rows = list[tuple[str, str, bytes]]


def samples(part: str, classes: tuple[str, ...], count: int) -> Rows:
    """File name, class and PNG of noisy images in the colour of their class."""
    random = np.random.default_rng(len(part))
    found = []
    for number in range(count):
        name = classes[number % len(classes)]
        pixels = np.clip(np.array(COLOURS[name]) + random.normal(0, 20, (32, 32, 3)), 0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        found.append((f"{number}.png", name, buffer.getvalue()))
    return found


def folder(path: Path, rows: Rows) -> Source:
    for name, label, content in rows:
        (path / label).mkdir(parents=True, exist_ok=True)
        (path / label / name).write_bytes(content)
    return open_source(path, size=32)


def parquet(path: Path, rows: Rows) -> Source:
    pq.write_table(pa.table({"image": [row[2] for row in rows], "label": [row[1] for row in rows]}), path.with_suffix(".parquet"))
    return open_source(path.with_suffix(".parquet"), size=32)


def tar(path: Path, rows: Rows) -> Source:
    with tarfile.open(path.with_suffix(".tar"), "w") as archive:
        for name, label, content in rows:
            for member, data in ((name, content), (name.replace("png", "cls"), label.encode())):
                entry = tarfile.TarInfo(member)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
    return open_source(path.with_suffix(".tar"), size=32)


def table(path: Path, rows: Rows) -> Source:
    path.mkdir()
    for name, _, content in rows:
        (path / name).write_bytes(content)
    with path.with_suffix(".csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", "label"), *((name, label) for name, label, _ in rows)])
    return open_source(path, size=32, truth=path.with_suffix(".csv"))


def numbers(path: Path, rows: Rows) -> Source:
    """Class numbers with gaps, of which the test data lack the first."""
    order = {"ant": 7, "bee": 1_000_000_000, "cow": 12}
    return parquet(path, [(name, str(order[label]), content) for name, label, content in rows])


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELFSIGHT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def phi() -> Representation:
    return selfsight.load("untrained:resnet_tiny?width=8", size=32).phi


@pytest.mark.parametrize("kind", [folder, parquet, tar, table, numbers])
def test_a_class_that_only_training_has_changes_no_other(tmp_path: Path, phi: Representation, kind) -> None:
    train = kind(tmp_path / "train", samples("train", ("ant", "bee", "cow"), 30))
    test = kind(tmp_path / "test", samples("test", ("bee", "cow"), 12))
    result = evaluate(phi, train, test, probes=["knn"], baselines=False)
    assert result.scores["knn"]["top1"].value == 1
    assert result.notes == ()


def test_probes_layers_and_baselines_use_the_joined_classes(tmp_path: Path, phi: Representation) -> None:
    train = folder(tmp_path / "train", samples("train", ("ant", "bee", "cow"), 30))
    test = folder(tmp_path / "test", samples("test", ("bee", "cow"), 12))
    result = evaluate(phi, train, test, probes=["linear", "svm", "layers"], layers=["stem"], baselines=True)
    assert result.scores["linear"]["top1"].value >= 0.9
    assert result.scores["layers"]["stem"].value >= 0.9
    assert max(score.value for score in result.scores["svm"].values()) >= 0.9
    assert result.baselines["pixels"]["linear"]["top1"].value >= 0.9


def test_classes_without_training_samples_are_named_and_count_as_errors(tmp_path: Path, phi: Representation) -> None:
    train = folder(tmp_path / "train", samples("train", ("ant", "cow"), 20))
    test = folder(tmp_path / "test", samples("test", ("ant", "bee", "cow", "dog"), 12))
    said: list[str] = []
    result = evaluate(phi, train, test, probes=["knn"], baselines=False, progress=said.append)
    assert result.scores["knn"]["top1"].value == 0.5
    assert result.notes == ("2 classes of the test data without a training sample (bee, dog); their samples count as errors",)
    assert result.notes[0] in said
    assert result.to_json()["notes"] == list(result.notes)
    assert "without a training sample" in result._repr_html_()


def test_data_without_a_common_class_have_no_score(tmp_path: Path, phi: Representation) -> None:
    train = folder(tmp_path / "train", samples("train", ("ant", "cow"), 8))
    test = folder(tmp_path / "test", samples("test", ("bee", "dog"), 8))
    with pytest.raises(DataError, match="share no class"):
        evaluate(phi, train, test, baselines=False)
    assert "geometry" in evaluate(phi, train, test, probes=["geometry"], baselines=False).scores


def test_test_images_that_are_training_images_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By content: other names, another format of the container, the same pixels."""
    rows = samples("train", ("ant", "cow"), 20)
    folder(tmp_path / "train", rows)
    fresh = samples("testing", ("ant", "cow"), 6)
    folder(tmp_path / "test", [*fresh, *((f"again{name}", label, content) for name, label, content in rows[:4])])
    words = [
        "measure",
        "untrained:resnet_tiny?width=8",
        "--size",
        "32",
        "--probes",
        "knn",
        "--no-baselines",
        "--out",
        str(tmp_path / "run"),
    ]
    assert main([*words, "--train", str(tmp_path / "train"), "--test", str(tmp_path / "test"), "--json"]) == 0
    (note,) = json.loads(capsys.readouterr().out)["notes"]
    overlap = "4 of 10 test images are also training images (ant/again0.png, ant/again2.png, cow/again1.png and 1 more)"
    assert note == f"train-test overlap: {overlap}; scores are too high"
    assert main([*words, "--train", str(tmp_path / "train"), "--test", str(tmp_path / "train")]) == 0
    assert "note: train-test overlap: 20 of 20 test images are also training images" in " ".join(capsys.readouterr().out.split())


def test_baselines_are_measured_again_for_other_annotations(tmp_path: Path, phi: Representation) -> None:
    """The images, and so their fingerprints, are the same."""
    rows = samples("train", ("ant", "cow"), 20)
    right = [table(tmp_path / name, rows) for name in ("train", "test")]
    shuffled = [(name, rows[(number * 7 + number // 3) % 20][1], content) for number, (name, _, content) in enumerate(rows)]
    with (tmp_path / "test.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", "label"), *((name, label) for name, label, _ in shuffled)])
    wrong = open_source(tmp_path / "test", size=32, truth=tmp_path / "test.csv")
    scores = [
        evaluate(phi, right[0], test, probes=["knn"], cache=tmp_path / "floors").baselines["pixels"]["knn"]["top1"].value
        for test in (right[1], wrong)
    ]
    assert scores[0] == 1
    assert scores[1] < 0.9


def test_images_without_a_label_are_counted(tmp_path: Path, phi: Representation):
    train = parquet(tmp_path / "train", samples("train", ("ant", "bee"), 20))
    rows = samples("test", ("ant", "bee"), 12)
    labels = [None if number < 5 else row[1] for number, row in enumerate(rows)]
    pq.write_table(pa.table({"image": [row[2] for row in rows], "label": labels}), tmp_path / "test.parquet")
    result = evaluate(phi, train, open_source(tmp_path / "test.parquet", size=32), probes=["knn"], baselines=False)
    assert "5 of 12 test images have no label, and are left out where labels are needed" in result.notes
    assert result.scores["knn"]["top1"].value == 1


def test_the_part_without_labels_is_named(tmp_path: Path, phi: Representation):
    train = parquet(tmp_path / "train", samples("train", ("ant", "bee"), 20))
    flat = tmp_path / "flat"
    flat.mkdir()
    for name, _, content in samples("test", ("ant", "bee"), 6):
        (flat / name).write_bytes(content)
    with pytest.raises(DataError, match=r"needs labels, which the test data .*flat lack"):
        evaluate(phi, train, open_source(flat, size=32), probes=["knn"], baselines=False)


def test_replaced_images_are_not_evaluated(tmp_path: Path, phi: Representation):
    """Training replaces unreadable files by others; probes must not count these twice."""
    path = tmp_path / "photos"
    folder(path, samples("train", ("ant", "bee"), 40))
    for number in range(3):
        (path / "ant" / f"bad{number}.png").write_bytes(b"nothing")
    source = open_source(path, size=32, replace_unreadable=True)
    assert len(source) == 43
    parts = evaluation_data(phi, source, source, ["knn"])
    assert (len(parts.train), len(parts.test)) == (40, 40)
    assert not any("bad" in name for name in parts.train.names)
