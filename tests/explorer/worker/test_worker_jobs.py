"""Jobs of the worker: heat maps, crops, prototypes of clusters, attention, objects."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import selfsight
from selfsight.bank.store import OUTPUT
from selfsight.core.errors import DataError, UsageError
from selfsight.core.representation import Backbone, Features, Representation
from selfsight.data.source import Batch, Truth
from selfsight.explorer.worker.jobs.attention import attention
from selfsight.explorer.worker.jobs.boxes import boxes
from selfsight.explorer.worker.jobs.crops import crops
from selfsight.explorer.worker.jobs.dissect import dissection
from selfsight.explorer.worker.jobs.prototypes import prototypes
from selfsight.explorer.worker.request import JobRequest

SIDE = 32


class Spots:
    """Black images with one square of 8 px in the colour of their class (0 red, 1 green), at a known position."""

    def __init__(self, count: int) -> None:
        rng = np.random.default_rng(0)
        self.kinds, self.places = np.arange(count) % 2, rng.integers(0, 3, (count, 2)) * 8
        self.spec, self.fingerprint, self.names, self.bad, self.shape = (
            "spots",
            "spots",
            [f"{row}.png" for row in range(count)],
            [],
            (SIDE, SIDE),
        )

    def __len__(self) -> int:
        return len(self.kinds)

    def read(self, rows) -> Batch:
        images = np.zeros((len(rows), 3, SIDE, SIDE), np.uint8)
        for place, row in enumerate(rows):
            top, left = self.places[row]
            images[place, self.kinds[row], top : top + 8, left : left + 8] = 200
        return Batch({"image": images}, np.asarray(rows))

    def truth(self, rows) -> Truth:
        return Truth()


class Channels(Backbone):
    """Mean red, green and blue of tiles of 4 px; pooled: their mean."""

    dim, stride, channels, layers = 3, 4, 3, ()

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.ones(1))

    def forward(self, images):
        grid = nn.functional.avg_pool2d(images, 4) * self.one
        return Features(grid.mean((2, 3)), grid)


@pytest.fixture
def spots():
    return Spots(12), Representation(Channels(), mean=(0, 0, 0), std=(1, 1, 1), size=SIDE, name="channels")


def test_heat_maps_and_crops_cover_high_activations(spots, tmp_path):
    source, phi = spots
    rows = np.array([1, 3, 5])
    found = crops(phi, source, None, 1, rows, tmp_path)
    assert [one["row"] for one in found["places"]] == rows.tolist()
    assert [one["number"] for one in found["places"]] == pytest.approx([200 / 255] * 3, abs=1e-3)
    for row in rows.tolist():
        top, left = source.places[row]
        warm = np.asarray(Image.open(tmp_path / f"where-{row}.png")).astype(int)
        inside = np.zeros((SIDE, SIDE), bool)
        inside[top : top + 8, left : left + 8] = True
        assert (warm[inside, 1] > 120).mean() > 0.9  # green stays green where it is high
        far = np.ones((SIDE, SIDE), bool)
        far[max(top - 4, 0) : top + 12, max(left - 4, 0) : left + 12] = False
        assert np.ptp(warm[far], axis=1).max() == 0  # grey where it is not
        crop = np.asarray(Image.open(tmp_path / f"what-{row}.png"))
        assert crop.shape[0] == crop.shape[1] < SIDE / 2
        assert (crop[..., 1] > 150).sum() == 64  # the whole square
    assert set(found["files"]) == {file.name for file in tmp_path.iterdir()}
    with pytest.raises(UsageError, match="no feature map"):
        crops(phi, source, None, 7, rows, tmp_path)


def test_prototypes_are_distinctive_patches_of_a_cluster(spots, tmp_path):
    source, phi = spots
    vectors = phi.pooled(torch.from_numpy(source.read(np.arange(12)).images)).detach().numpy()
    found = prototypes(phi, source, np.array([0, 2, 4]), source.kinds, vectors, 0, tmp_path)
    assert sorted(one["row"] for one in found["places"]) == [0, 2, 4]
    for one in found["places"]:
        crop = np.asarray(Image.open(tmp_path / f"what-{one['row']}.png"))
        assert (crop[..., 0] > 150).sum() == 64
        assert crop[..., 1].max() == 0
        assert one["number"] > 0
    with pytest.raises(UsageError, match="different dimensions"):
        prototypes(phi, source, np.array([0]), source.kinds, np.ones((12, 5), np.float32), 0, tmp_path)


def test_missing_layers_and_units_are_reported(spots, tmp_path):
    source, phi = spots
    with pytest.raises(UsageError, match="no attention"):
        attention(phi, source, 0, tmp_path)
    with pytest.raises(DataError, match="no masks"):
        dissection(phi, source, None, lambda _: None)


def test_attention_and_objects_of_a_transformer(tmp_path):
    run = tmp_path / "vit"
    data = "world:shapes?count=8&size=64"
    selfsight.learn(data, out=run, method="dino", backbone="vit_nano?patch=8", size=64, batch=8, epochs=0)
    phi, source = selfsight.load(run).phi, selfsight.open(data, size=64)
    assert attention(phi, source, 3, tmp_path / "attention")["words"].endswith("from the class token")
    assert boxes(phi, source, 3, tmp_path / "boxes")["files"] == ["sheet.png"]
    for folder in ("attention", "boxes"):
        with Image.open(tmp_path / folder / "sheet.png") as sheet:
            assert np.asarray(sheet.convert("L")).std() > 10


def test_requests_are_read_from_json():
    read = JobRequest.from_json(
        {"network": "some", "class": 3, "parts": [4, 5], "box": [0.0, 0.1, 0.5, 1.0], "layer": "stages.1", "unit": 7}
    )
    assert read == JobRequest("some", layer="stages.1", unit=7, class_index=3, parts=(4, 5), box=(0.0, 0.1, 0.5, 1.0))
    assert read.unit_name == "unit:stages.1/7"
    assert read.inner_layer == "stages.1"
    assert JobRequest.from_json({"network": "some", "layer": OUTPUT}).inner_layer is None
    assert JobRequest.from_json({"network": "some"}).unit_name == ""
