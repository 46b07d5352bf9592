"""The report contains the run's numbers, and states what is missing."""

import json
import re

import numpy as np
import pytest

from selfsight.backbones.table import build_backbone
from selfsight.bank.extract import get_bank
from selfsight.core.representation import Representation
from selfsight.data.opening import open_source
from selfsight.report.page import write_report

LOSSES = [3.25, 2.5, 1.125]
SCORES = {
    "train": "world:a",
    "train_images": 480,
    "test": "world:b",
    "test_images": 120,
    "scores": {"knn": {"top1": {"value": 0.625, "low": 0.5, "high": 0.75}}},
    "floors": {
        "untrained": {"knn": {"top1": {"value": 0.375, "low": 0.3, "high": 0.45}}},
        "pixels": {"knn": {"top1": {"value": 0.4375, "low": 0.35, "high": 0.5}}},
    },
    "protocol": {"knn": "20 neighbours <by> cosine"},
}


@pytest.fixture(scope="module")
def network() -> Representation:
    return Representation(
        build_backbone("resnet_tiny?width=8", size=16), mean=(0.5,) * 3, std=(0.25,) * 3, size=16, name="some", spec="resnet_tiny?width=8"
    )


def page_of(network, folder, **files) -> str:
    source = open_source("world:shapes?count=48&size=16")
    folder.mkdir(exist_ok=True)
    (folder / "measures").mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", "/").replace("_", ".")).write_text(content)
    return write_report(folder, network, source, get_bank(network, source, folder / "banks")).read_text()


def test_scores_are_returned_with_baselines(network, tmp_path):
    page = page_of(network, tmp_path / "run", measures__scores_json=json.dumps(SCORES))
    assert "62.5 ± 12.5" in page
    assert "37.5 ± 7.5" in page
    assert "43.8 ± 7.5" in page
    assert "+18.8 points" in page  # over the better of the two
    assert "&lt;by&gt; cosine" in page  # escaped
    assert "<by>" not in page


def test_curves_are_of_the_recorded_losses(network, tmp_path):
    records = "".join(json.dumps({"step": step, "loss": loss}) + "\n" for step, loss in enumerate(LOSSES))
    with_curve = page_of(network, tmp_path / "run", metrics_jsonl=records)
    bare = page_of(network, tmp_path / "bare")
    assert with_curve.count("<svg") == bare.count("<svg") + 1
    assert "3.25" in with_curve or "3.2" in with_curve


def test_a_run_without_scores_has_a_page_without_them(network, tmp_path):
    page = page_of(network, tmp_path / "run")
    assert "points" not in page
    assert "some" not in re.findall(r"<title>(.*?)</title>", page)[0]
    assert "48 images" in page


def test_no_external_resources_are_loaded(network, tmp_path):
    page = page_of(network, tmp_path / "run")
    assert not re.findall(r"<script|(?:src|href)=\"(?!data:|#)", page)
    pictures = re.findall(r"data:image/(?:png|jpeg);base64,([A-Za-z0-9+/=]+)", page)
    assert len(pictures) > 10
    assert len(np.unique(pictures)) > 5
