"""Saved results of object detection, in pixels of the image files."""

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

import selfsight
from selfsight.backbones.loading import load_representation, untrained
from selfsight.cli import main
from selfsight.data.opening import open_source
from selfsight.discover.dense.features import FeatureSpec, iter_feature_batches
from selfsight.discover.objects.localise import Region
from selfsight.discover.objects.object_regions import ObjectRegions, find_objects
from selfsight.discover.objects.table import LOCALISERS
from selfsight.measure.results import Score


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images of two sizes, each with a bright square; and their masks."""
    where = tmp_path_factory.mktemp("pictures")
    for name, (height, width), (top, left) in (("a/one.png", (120, 200), (40, 80)), ("b/two.png", (160, 96), (80, 32))):
        pixels = np.full((height, width, 3), (30, 60, 90), dtype=np.uint8)
        pixels[top : top + 40, left : left + 40] = (250, 200, 20)
        mask = np.zeros((height, width), dtype=np.uint8)
        mask[top : top + 40, left : left + 40] = 255
        for base, content in (("images", pixels), ("masks", mask)):
            (where / base / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(content).save(where / base / name)
    return where


@pytest.fixture
def found(folder):
    phi = load_representation("untrained:resnet_tiny?width=8", size=32)
    source = selfsight.open(folder / "images", size=32)
    return find_objects(phi, source, "border", feature_spec=FeatureSpec(size=48))


def test_boxes_are_in_pixels_of_the_files(found):
    assert found.names == ("a/one.png", "b/two.png")
    assert found.sizes == ((120, 200), (160, 96))
    (first,), (second,) = (found.boxes(row) for row in range(2))
    np.testing.assert_allclose(first[:4], [80, 40, 120, 80], atol=4)
    np.testing.assert_allclose(second[:4], [32, 80, 72, 120], atol=4)
    assert found.mask(0).shape == (120, 200)
    assert found.mask(0)[60, 100] == 1
    assert found.mask(0)[10, 10] == 0


def test_written_files_can_be_read(found, tmp_path):
    paths = found.save(tmp_path)
    assert all(path.exists() for path in paths)
    content = json.loads((tmp_path / "boxes.json").read_text())
    assert [(entry["file_name"], entry["height"], entry["width"]) for entry in content["images"]] == [
        ("a/one.png", 120, 200),
        ("b/two.png", 160, 96),
    ]
    for entry, box in zip(content["annotations"], (found.boxes(row)[0] for row in range(2)), strict=True):
        left, top, width, height = entry["bbox"]
        np.testing.assert_allclose([left, top, left + width, top + height, entry["score"]], box, atol=1e-3)
    table = list(csv.DictReader((tmp_path / "boxes.csv").read_text().splitlines()))
    assert [row["file"] for row in table] == ["a/one.png", "b/two.png"]
    with Image.open(tmp_path / "masks" / "b" / "two.png") as mask:
        np.testing.assert_array_equal(np.asarray(mask), found.mask(1))
    with Image.open(io.BytesIO((tmp_path / "sheet.png").read_bytes())) as sheet:
        assert sheet.width > 300


def test_written_boxes_can_be_read_as_ground_truth(found, folder, tmp_path):
    found.save(tmp_path)
    source = selfsight.open(folder / "images", size=32, truth=tmp_path / "boxes.json")
    boxes = source.truth(np.arange(2)).boxes
    assert boxes is not None
    for row in range(2):
        np.testing.assert_allclose(boxes[row][0, :4], found.boxes(row, read=True)[0, :4], atol=0.02)


def test_images_are_read_uncropped_and_in_order(folder):
    phi = load_representation("untrained:resnet_tiny?width=8", size=32)
    source = selfsight.open(folder / "images", size=96)
    batches = list(iter_feature_batches(phi, source, FeatureSpec(size=64), rows=np.array([1, 0, 0])))
    assert [one.rows for one in batches] == [(1,), (0, 0)]
    assert [tuple(one.pixels.shape[2:]) for one in batches] == [(104, 64), (64, 104)]


def test_an_image_without_an_object_has_no_annotation(tmp_path):
    Image.new("RGB", (64, 48), (90, 90, 90)).save(tmp_path / "grey.png")
    phi = load_representation("untrained:resnet_tiny?width=8", size=32)
    found = find_objects(phi, selfsight.open(tmp_path, size=32), "border")
    plain = found.to_json()
    assert len(plain["images"]) == 1
    assert plain["annotations"] == []
    assert not found.mask(0).any()
    found.save(tmp_path / "out")


def test_mask_paths_are_unique_and_below_the_folder(tmp_path):
    names = ("../../evil.png", "/etc/two.jpg", "shape.1", "shape.2", "a/b.jpg", "a/b.png", "a/../c.png")
    regions = tuple([Region(np.ones((2, 2), dtype=bool), 0.5)] for _ in names)
    sizes = tuple((4, 4 + row) for row in range(len(names)))
    ObjectRegions(names, sizes, sizes, regions).save(tmp_path / "deep" / "out")
    written = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png") if path.name != "sheet.png")
    expected = ["evil", "etc/two", "shape.1", "shape.2", "a/b.jpg", "a/b.png", "a/c"]
    assert written == sorted(f"deep/out/masks/{name}.png" for name in expected)
    with Image.open(tmp_path / "deep/out/masks/a/b.png.png") as mask:
        assert mask.size == (9, 4)


def test_images_are_read_at_the_size_of_the_features(folder):
    run = selfsight.load("untrained:resnet_tiny?width=8", size=32)
    found, scores = run.discover(folder / "images", method="border", feature_spec=FeatureSpec(size=90))
    assert found.read[0] == (72, 120)  # packs keep four thirds of the size along the longer side; 26 x 43 without the look
    assert scores == {}


def test_the_untrained_baseline_is_the_strongest_form_over_three_seeds(folder, monkeypatch):
    said: list[str] = []
    shares = iter([0.5, 0.1, 0.2, 0.3, 0.4, 0.2, 0.3])
    judged = "selfsight.workflows.discover.boxes.score_boxes"
    monkeypatch.setattr(judged, lambda boxes, source: (lambda value: Score(value, value - 0.1, value + 0.1))(next(shares, 0.0)))
    run = selfsight.load("untrained:resnet_tiny?width=8", size=32)
    _, scores = run.discover(folder / "images", method="cut", progress=said.append)
    assert scores["CorLoc"]["cut"].value == 0.5
    assert scores["CorLoc"]["untrained"].to_json() == {"value": 0.3, "low": 0.1, "high": 0.5}
    assert len([words for words in said if "untrained" in words]) == 6
    assert list(scores["CorLoc"]) == ["cut", "untrained", "border", "centre"]


def test_the_command_prints_scores_with_baselines(folder, tmp_path, capsys):
    words = ["discover", "untrained:resnet_tiny?width=8", str(folder / "images"), "--size", "32", "--side", "48", "--method", "border"]
    words += ["--truth", str(folder / "masks"), "--out", str(tmp_path / "out")]
    assert main([*words, "--json"]) == 0
    read = json.loads(capsys.readouterr().out)
    assert read["pictures"] == 2
    assert read["scores"]["CorLoc"]["border"]["value"] == 1.0
    assert set(read["scores"]["CorLoc"]) == {"border", "centre"}
    assert main([*words[:-4], "--method", "lost", *words[-4:]]) == 0
    shown = capsys.readouterr()
    assert "untrained" in shown.out
    assert "sheet.png" in shown.out
    assert "CorLoc" in shown.out


def test_one_command_uses_a_local_timm_transformer(folder, tmp_path, capsys):
    from safetensors.torch import save_file

    from selfsight.backbones.pretrained import timm_backbone

    shape = {"depth": 2, "embed_dim": 48, "num_heads": 3}
    network = timm_backbone("vit_tiny_patch16_224", pretrained=False, size=224, options=shape)
    about = {"input_size": [3, 224, 224], "fixed_input_size": True, "mean": [0.5] * 3, "std": [0.5] * 3}
    config = {"architecture": "vit_tiny_patch16_224", "num_classes": 0, "model_args": {**shape, "img_size": 224}, "pretrained_cfg": about}
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    save_file(network.model.state_dict(), tmp_path / "model" / "model.safetensors")
    words = ["discover", f"timm:local-dir:{tmp_path / 'model'}", str(folder / "images"), "--size", "64", "--side", "96", "--stride", "8"]
    assert main([*words, "--truth", str(folder / "masks"), "--out", str(tmp_path / "out"), "--json"]) == 0
    read = json.loads(capsys.readouterr().out)
    assert read["pictures"] == 2
    assert set(read["scores"]["CorLoc"]) == {"cut", "untrained", "border", "centre"}
    assert json.loads((tmp_path / "out" / "boxes.json").read_text())["images"]


def test_an_unknown_localiser_is_rejected_with_a_suggestion(folder, capsys):
    assert main(["discover", "untrained:resnet_tiny?width=8", str(folder / "images"), "--size", "32", "--method", "tokencot"]) == 2
    assert "Did you mean" in capsys.readouterr().err


@pytest.mark.parametrize("network", ["resnet_tiny?width=8", "vit_nano?blocks=1"])
def test_flat_images_and_noise_have_no_object_by_any_localiser(tmp_path, network):
    random, folder = np.random.default_rng(0), tmp_path / "photos"
    folder.mkdir()
    square = np.full((64, 64, 3), 60)
    square[20:44, 20:44] = (230, 40, 40)
    images = {f"flat{value}": np.full((64, 64, 3), value) for value in (0, 90, 200)}
    images |= {
        "faint": (128 + 3 * random.normal(size=(64, 64, 3))).clip(0, 255),
        "noise": random.integers(0, 255, (64, 64, 3)),
        "square": square,
    }
    for name, pixels in images.items():
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{name}.png")
    source, phi = open_source(folder, size=64, cache=tmp_path / "cache"), untrained(network, size=64)
    for method in LOCALISERS:
        if method != "centre" and (method not in ("attention", "background") or phi.has_attention):
            found = find_objects(phi, source, method)
            with_objects = {name for row, name in enumerate(found.names) if len(found.boxes(row))}
            assert with_objects <= {"square.png"}, method
            assert with_objects or method in ("background", "mask_cut")
