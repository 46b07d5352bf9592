"""Banks: one forward pass for all layers, precision in the key, layers added, streamed to disk."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from selfsight.backbones.loading import untrained
from selfsight.bank.extract import extract_features, get_bank, make_encoder, stream_features
from selfsight.bank.store import OUTPUT, Bank, BankWriter
from selfsight.core.errors import DataError
from selfsight.core.representation import Backbone, Features, Representation
from selfsight.data.opening import open_source
from selfsight.data.readers.memory import ArraySource

from small import world


@pytest.fixture(scope="module")
def phi() -> Representation:
    return untrained("resnet_tiny?width=8", size=32)


def passes(phi: Representation) -> list[int]:
    """A list to which each forward pass of the backbone appends its number of images."""
    seen: list[int] = []
    phi.backbone.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    return seen


def test_all_layers_take_one_forward_pass(phi, tmp_path):
    source = world(20)
    seen = passes(phi)
    bank = get_bank(phi, source, tmp_path, layers=phi.layers)
    assert sum(seen) == len(source)  # once an image, however many layers
    assert set(bank.layers) == {OUTPUT, *phi.layers}
    images = torch.from_numpy(source.read(np.arange(20)).images)
    for layer in phi.layers:
        torch.testing.assert_close(torch.from_numpy(np.array(bank.pooled(layer))), phi.pooled(images, layer).detach(), rtol=1e-4, atol=1e-5)


def test_layers_are_added_to_existing_ones(phi, tmp_path):
    first, second = phi.layers[:2]
    get_bank(phi, world(8), tmp_path, layers=[first])
    assert set(get_bank(phi, world(8), tmp_path, layers=[second]).layers) == {OUTPUT, first, second}
    seen = passes(phi)
    get_bank(phi, world(8), tmp_path, layers=[first])
    assert not seen


def test_each_precision_has_a_separate_bank(phi, tmp_path):
    banks = [get_bank(phi, world(8), tmp_path, half=half, bf16=bf16) for half in (False, True) for bf16 in (False, True)]
    assert len({bank.path for bank in banks}) == 4
    assert [(bank.origin["kind"], bank.origin["precision"]) for bank in banks] == [
        ("float32", "fp32"),
        ("float32", "bf16"),
        ("float16", "fp32"),
        ("float16", "bf16"),
    ]
    assert not np.array_equal(banks[0].pooled(), banks[1].pooled())
    assert banks[2].pooled().dtype == np.float16
    assert [Bank(bank.path).origin["precision"] for bank in banks] == ["fp32", "bf16", "fp32", "bf16"]


def test_streamed_rows_are_those_in_memory(phi, tmp_path):
    source = open_source("world:shapes?count=30&size=32")
    encoder = make_encoder(phi, phi.layers[:1])
    whole = extract_features(source, encoder, size=32, batch=7)
    parts = list(stream_features(source, encoder, size=32, batch=7))
    assert [len(part[OUTPUT]) for part in parts] == [7, 7, 7, 7, 2]
    with BankWriter(tmp_path / "bank", 30) as writer:
        for part in parts:
            writer.add(part)
        bank = writer.finish([str(row) for row in range(30)], {"data": "none"})
    for name, rows in whole.items():
        assert np.array_equal(bank.pooled(name), rows)
    assert isinstance(bank.pooled(), np.memmap)


def test_a_failed_bank_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), BankWriter(tmp_path / "bank", 4) as writer:  # noqa: PT012
        writer.add({OUTPUT: np.zeros((2, 3), dtype=np.float32)})
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_origin_is_json(phi, tmp_path):
    bank = get_bank(phi, world(8), tmp_path)
    assert json.loads((bank.path / "origin.json").read_text())["count"] == 8


def test_overflow_of_half_precision_is_an_error_and_leaves_no_bank(tmp_path: Path):
    with BankWriter(tmp_path / "bank", 4, "float16") as writer:
        writer.add({"output": np.full((2, 3), 60000.0, dtype=np.float32)})
        with pytest.raises(DataError, match=r"output reach 70,000, above the largest number of half precision"):
            writer.add({"output": np.array([[1, 2, 3], [4, -70000, 6]], dtype=np.float32)})
    assert not (tmp_path / "bank").exists()


def test_a_network_that_gives_no_numbers_is_named(tmp_path: Path):
    class Broken(Backbone):
        dim, stride, channels = 3, 1, 3

        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.tensor(torch.nan))

        def forward(self, images: Tensor) -> Features:
            return Features(images.mean((2, 3)) * self.scale, images)

    images = np.stack([np.full((3, 8, 8), value, dtype=np.uint8) for value in (10, 20, 30)])
    phi = Representation(Broken(), mean=(0.0,) * 3, std=(1.0,) * 3, size=8)
    with pytest.raises(DataError, match=r"3 of 3 array samples are NaN or infinite: 0, 1, 2"):
        extract_features(ArraySource(images), make_encoder(phi), size=8)
