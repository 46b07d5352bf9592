"""Measures of one image: valid files, and scores that need more images are left out or refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from selfsight.cli import main
from selfsight.core.errors import DataError
from selfsight.measure.probes.geometry import geometry
from selfsight.measure.probes.linear import held_out
from selfsight.measure.results import Features
from selfsight.workflows.evaluate.probes import _score

MANY, ONE = "world:shapes?count=24&size=32", "world:shapes?count=1&size=32"


def test_one_test_image_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SELFSIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    words = ["--train", MANY, "--test", ONE, "--probes", "geometry,knn", "--device", "cpu"]
    assert main(["measure", "untrained:resnet_tiny?width=4", "--size", "32", *words]) == 0
    files = [file for file in tmp_path.rglob("*.json") if file.name == "scores.json"]
    assert files
    for file in files:
        content = json.loads(file.read_text(), parse_constant=pytest.fail)
        assert set(content["scores"]["geometry"]) == {"alignment"}
        assert "uniformity and effective rank need two test samples" in json.dumps(content)


def test_geometry_of_one_sample_without_views_is_refused():
    rows = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    with pytest.raises(DataError, match="need two test samples"):
        geometry(Features(rows, rows[:1]))
    assert set(geometry(Features(rows, rows[:2])).values) == {"uniformity", "effective_rank"}


def test_one_labelled_sample_cannot_be_split():
    with pytest.raises(DataError, match="1 labelled training samples"):
        held_out(np.array([0]), 0)
    assert held_out(np.array([0, 0]), 0).sum() == 1


def test_saved_scores_without_a_number_are_read():
    assert np.isnan(_score({"value": None, "low": 0.0, "high": 1.0}).value)
