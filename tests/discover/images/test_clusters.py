"""Planted clusters of images are found, counted and named; near-duplicates and outliers are found."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

import selfsight
from selfsight.cli import main
from selfsight.core.errors import UsageError
from selfsight.discover.images.clusters import ClusteringResult, find_clusters
from selfsight.discover.images.grouping import choose_count, group, silhouette
from selfsight.discover.images.table import GROUPERS
from selfsight.measure.metrics.agreement import adjusted_rand, contingency

KINDS = 4


@pytest.fixture(scope="module")
def planted() -> tuple[np.ndarray, np.ndarray]:
    """Rows around four directions, and their directions."""
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(KINDS), (50, 40, 35, 35))
    return np.eye(8)[labels] + 0.12 * generator.standard_normal((len(labels), 8)), labels


@pytest.mark.parametrize("method", sorted(GROUPERS))
def test_planted_clusters_are_found_in_order_of_size(planted, method):
    rows, truth = planted
    found = group(rows, KINDS, method).numpy()
    assert adjusted_rand(contingency(found, truth)) > (0.75 if method == "balanced" else 0.99)
    sizes = np.bincount(found)
    assert (np.diff(sizes) <= 0).all()
    assert torch.equal(group(rows, KINDS, method), group(3 * rows, KINDS, method))  # lengths do not count


def test_balanced_clusters_have_one_size(planted):
    sizes = np.bincount(group(planted[0], KINDS, "balanced").numpy())
    assert abs(sizes - len(planted[0]) / KINDS).max() <= 0.04 * len(planted[0])


def test_silhouette_equals_scikit_learn(planted):
    sklearn = pytest.importorskip("sklearn.metrics")
    rows, truth = planted
    some = np.where(np.arange(len(truth)) == 0, KINDS, truth)  # one picture is alone in its cluster
    for labels in (truth, some, np.random.default_rng(1).integers(5, size=len(truth))):
        assert silhouette(rows, labels) == pytest.approx(sklearn.silhouette_score(rows, labels, metric="cosine"), abs=1e-6)


def test_the_number_of_planted_clusters_is_chosen(planted):
    choice = choose_count(planted[0], (2, 3, 4, 5, 6, 1000))
    assert choice.best == KINDS
    assert choice.counts == (2, 3, 4, 5, 6)
    assert choice.spread[2] < 0.5 * choice.spread[0]


def test_invalid_arguments_are_rejected(planted):
    with pytest.raises(UsageError, match="161 clusters"):
        group(planted[0], 161)
    with pytest.raises(UsageError, match="Did you mean"):
        group(planted[0], 3, "kmean")
    with pytest.raises(UsageError, match="no number of clusters"):
        choose_count(planted[0][:3])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twenty dark and twenty light noise images, and a JPEG copy of one of them."""
    place, generator = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for number in range(40):
        level = 60 if number < 20 else 190
        smooth = Image.fromarray(generator.integers(0, 60, (6, 6, 3)).astype(np.uint8) + np.uint8(level - 30)).resize((48, 48))
        kind = "dark" if number < 20 else "light"
        (place / kind).mkdir(exist_ok=True)
        smooth.save(place / kind / f"{number:02d}.png")
        if number == 7:
            smooth.save(place / kind / "again.jpg", quality=85)
    return place


def _found(folder) -> ClusteringResult:
    run = selfsight.load("untrained:resnet_tiny?width=8", size=32)
    source = selfsight.open(folder, size=32)
    return find_clusters(run.phi, source, count=2)


def test_near_duplicates_are_found_and_clusters_named(folder):
    found = _found(folder)
    assert [{found.names[row] for row in group} for group in found.duplicate_groups] == [{"dark/07.png", "dark/again.jpg"}]
    truth = selfsight.open(folder, size=32).truth(np.arange(41))
    named = found.with_class_names(truth.labels, truth.classes)
    assert {one.name for one in named.clusters} == {"dark", "light"}
    assert all(one.share == 1.0 for one in named.clusters)
    assert [one.size for one in named.clusters] == [21, 20]
    first = named.clusters[0]
    assert found.nearness[list(first.typical)].min() > found.nearness[list(first.apart)].max()
    assert len(set(first.typical) & set(first.apart)) == 0
    assert found.outliers(1) == [int(np.argmax(found.neighbour_distance))]


def test_the_command_writes_table_and_sheet_with_baselines(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["discover", "untrained:resnet_tiny?width=8", str(folder), "--size", "32", "--what", "clusters,boxes", "--out", "found"]
    assert main([*words, "--method", "spherical,border", "--json"]) == 0
    read = json.loads(capsys.readouterr().out)
    assert set(read) == {"clusters", "boxes"}
    assert set(read["clusters"]["scores"]) == {"ACC", "NMI", "AMI", "ARI"}
    assert list(read["clusters"]["scores"]["ACC"]) == ["spherical", "untrained", "pixels"]
    with (tmp_path / "found" / "clusters.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 41
    assert sum(row["duplicates"] != "" for row in rows) == 2
    plain = json.loads((tmp_path / "found" / "clusters.json").read_text())
    assert plain["info"]["chosen"] is True
    assert max(plain["choice"], key=lambda one: one["silhouette"])["clusters"] == len(plain["clusters"]) == plain["info"]["clusters"]
    with Image.open(tmp_path / "found" / "clusters.png") as sheet, Image.open(tmp_path / "found" / "choice.png") as curve:
        assert sheet.height > 96 * len(plain["clusters"])
        assert curve.width > 300
    assert (tmp_path / "found" / "boxes.json").is_file()
    assert main([*words, "--method", "spherical,border,cut"]) == 2
    assert "3 methods for 2 discoveries" in capsys.readouterr().err
