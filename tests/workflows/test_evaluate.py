"""Evaluation from images to scores with baselines, and banks."""

import json
from functools import partial

import numpy as np
import pytest
import torch

import selfsight.workflows.evaluate.probes as examining
from selfsight.backbones.table import build_backbone
from selfsight.bank.extract import extract_features, fingerprint, get_bank
from selfsight.bank.store import OUTPUT, Bank
from selfsight.core.errors import DataError, UsageError
from selfsight.core.representation import Representation
from selfsight.data.loader import load_images
from selfsight.data.opening import open_source
from selfsight.data.readers.memory import ArraySource
from selfsight.data.source import Source, Subset
from selfsight.measure.baselines import channel_statistics, estimate_statistics, pixel_encoder
from selfsight.measure.probes.knn import knn
from selfsight.measure.probes.layers import layers
from selfsight.measure.probes.table import PROBES
from selfsight.measure.results import Score
from selfsight.workflows.evaluate.probes import evaluate, select_probes


def phi(seed: int = 0, spec: str = "resnet_tiny") -> Representation:
    torch.manual_seed(seed)
    return Representation(build_backbone(spec, size=16), mean=(0.5,) * 3, std=(0.25,) * 3, size=16, name="tiny", spec=spec)


@pytest.fixture(scope="module")
def parts() -> tuple[Source, Source]:
    whole = open_source("world:shapes?count=72&size=16")
    return Subset(whole, np.arange(48)), Subset(whole, np.arange(48, 72))


def test_evaluation_end_to_end(parts, tmp_path):
    said: list[str] = []
    probes = ["cluster", "geometry", "knn"]
    found = evaluate(phi(), *parts, probes=probes, banks=tmp_path / "banks", cache=tmp_path / "floors", progress=said.append)
    assert set(found.scores) == set(found.protocol) == set(probes)
    assert set(found.baselines) == {"untrained", "pixels"}
    shape = {probe: set(scores) for probe, scores in found.scores.items()}
    assert shape["cluster"] == {"acc", "nmi", "ami", "ari"}
    assert shape["geometry"] == {"alignment", "uniformity", "effective_rank"}
    for baseline, table in found.baselines.items():
        assert {probe: set(scores) for probe, scores in table.items()} == shape
        assert all(found.forms[baseline][probe][name] for probe in shape for name in shape[probe])
    plain = json.loads(json.dumps(found.to_json()))
    for table in (plain["scores"], *plain["floors"].values()):
        score = table["knn"]["top1"]
        assert 0 <= score["low"] <= score["value"] <= score["high"] <= 1
    assert "baseline: untrained" in said

    def never(*_: object) -> None:
        raise AssertionError("floors are kept")

    kept = {path.name for path in (tmp_path / "floors").glob("*.json")}
    assert len(kept) == 2
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_untrained", "_pixels"):
            patch.setattr(examining, name, never)
        again = evaluate(phi(), *parts, probes=probes, banks=tmp_path / "banks", cache=tmp_path / "floors")
    assert again.to_json()["floors"] == found.to_json()["floors"]
    assert again.scores == found.scores
    without = evaluate(phi(), *parts, baselines=False)
    assert set(without.scores) == set(PROBES) == {*probes, "linear", "retrieve", "reverse", "svm"}
    assert {probe: without.scores[probe] for probe in probes} == found.scores
    assert set(without.readouts) == {"linear", "cluster"}
    assert not without.baselines


def test_layers_are_measured_on_request_with_the_untrained_baseline(parts, tmp_path, monkeypatch):
    monkeypatch.setattr("selfsight.measure.probes.layers.layers", partial(layers, probe=knn))
    found = evaluate(phi(), *parts, probes=["layers"], cache=tmp_path)
    names = phi().layers
    assert list(found.scores) == ["layers"]
    assert tuple(found.scores["layers"]) == tuple(found.baselines["untrained"]["layers"]) == names
    assert found.baselines["pixels"] == {}
    assert found.to_json()["protocol"]["layers"].startswith("top1 at each layer")


def test_baseline_is_the_strongest_of_its_forms():
    def seed(top1: float, uniformity: float) -> dict[str, dict[str, Score]]:
        return {"knn": {"top1": Score(top1, top1 - 0.1, top1 + 0.1)}, "geometry": {"uniformity": Score(uniformity, uniformity, uniformity)}}

    table, which = examining._strongest({"a": [seed(0.3, -1.0), seed(0.5, -2.0)], "b": [seed(0.35, -1.6)]})
    score = table["knn"]["top1"]
    assert (score.value, score.low, score.high) == pytest.approx((0.4, 0.2, 0.6))
    assert which["knn"]["top1"] == "a, mean of 2 seeds"
    assert table["geometry"]["uniformity"].value == pytest.approx(-1.6)  # lower is better there
    assert which["geometry"]["uniformity"] == "b"


def test_probes_are_chosen_by_what_the_data_allow():
    assert select_probes(None, labelled=True) == select_probes(["all"], labelled=True) == tuple(PROBES)
    assert select_probes(None, labelled=False) == ("geometry",)
    assert select_probes(None, labelled=False, annotated=True) == ("geometry", "reverse")
    assert select_probes(["layers"], labelled=True) == ("layers",)
    with pytest.raises(DataError, match="needs labels or attributes"):
        select_probes(["reverse"], labelled=False)
    with pytest.raises(UsageError, match="no probe 'kn'") as refusal:
        select_probes(["kn"], labelled=True)
    assert "knn" in refusal.value.remedy
    with pytest.raises(DataError, match="needs labels"):
        select_probes(["knn"], labelled=False)


def test_data_without_labels_allow_geometry():
    source = ArraySource(np.random.default_rng(0).integers(0, 255, (30, 3, 16, 16), dtype=np.uint8))
    found = evaluate(phi(), source, source, baselines=False)
    assert set(found.scores) == {"geometry"}


def test_pixel_baseline_has_two_forms(parts):
    train, _ = parts
    mean, std = channel_statistics(train)
    rows = extract_features(train, pixel_encoder(mean, std), size=32)
    plain, centred = rows["channel-normalised"], rows["channel-normalised, centred per image"]
    assert plain.shape == (48, 3 * 32 * 32)
    assert np.abs(plain.reshape(48, 3, -1).mean((0, 2))).max() < 1e-4
    assert np.abs(centred.mean(1)).max() < 1e-5
    np.testing.assert_allclose(plain - plain.mean(1, keepdims=True), centred, atol=1e-5)


def test_batch_statistics_are_estimated(parts):
    found, train = phi(), parts[0]
    assert estimate_statistics(found, train, batch=24)
    stem = found.backbone.stem
    assert not found.backbone.training
    with torch.no_grad():
        pixels = found.normalise(load_images(train, np.arange(48)).pixels)
        seen = stem[0](pixels)
    torch.testing.assert_close(stem[1].running_mean, seen.mean((0, 2, 3)), rtol=1e-3, atol=1e-4)
    assert not estimate_statistics(phi(spec="vit_nano"), train)


def test_bank_is_written_and_reused(parts, tmp_path, monkeypatch):
    found, train = phi(), parts[0]
    calls: list[int] = []
    bank = get_bank(found, train, tmp_path, layers=("stages.1",), progress=lambda done, whole: calls.append(done))
    assert calls[-1] == 48
    assert (len(bank), bank.layers) == (48, (OUTPUT, "stages.1"))
    with torch.no_grad():
        expected = found.pooled(load_images(train, np.arange(48)).pixels).numpy()
    np.testing.assert_allclose(bank.pooled(), expected, rtol=1e-4, atol=1e-5)
    assert bank.pooled("stages.1").shape == (48, 64)
    assert bank.items["name"].to_pylist() == list(train.names)
    assert isinstance(bank.pooled(), np.memmap)
    calls.clear()
    assert get_bank(found, train, tmp_path, progress=lambda done, whole: calls.append(done)).path == bank.path
    assert not calls
    half = get_bank(found, train, tmp_path, half=True)
    assert half.pooled().dtype == np.float16
    other = get_bank(phi(seed=1), train, tmp_path)
    assert other.path != bank.path
    assert get_bank(found, parts[1], tmp_path).path != bank.path
    with pytest.raises(UsageError, match=r"does not contain the layer 'stages.9'") as refusal:
        bank.pooled("stages.9")
    assert OUTPUT in refusal.value.remedy
    with pytest.raises(UsageError, match="not a bank"):
        Bank(tmp_path / "nothing")
    assert not list(tmp_path.glob(".partial-*"))


def test_a_failed_bank_leaves_nothing(parts, tmp_path, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(np.lib.format, "open_memmap", full)
    with pytest.raises(OSError, match="No space"):
        get_bank(phi(), parts[0], tmp_path)
    assert not list(tmp_path.iterdir())


def test_fingerprint_is_of_weights_and_normalisation():
    assert fingerprint(phi()) == fingerprint(phi())
    changed = phi()
    with torch.no_grad():
        changed.backbone.stem[0].weight[0, 0, 0, 0] += 1e-3
    moved = phi()
    moved.mean = (0.4, 0.5, 0.5)
    assert len({fingerprint(one) for one in (phi(), changed, moved, phi(seed=1))}) == 4
