"""Probes of layers."""

import numpy as np
import pytest
import torch

import selfsight
from selfsight.backbones.table import build_backbone
from selfsight.bank.extract import get_bank
from selfsight.core.errors import UsageError
from selfsight.core.representation import Representation
from selfsight.data.loader import load_images
from selfsight.measure.probes.knn import knn
from selfsight.measure.probes.layers import LabelPair, curve, layers
from selfsight.measure.results import Features


def phi(spec: str) -> Representation:
    torch.manual_seed(0)
    return Representation(build_backbone(spec, size=16), mean=(0.5,) * 3, std=(0.25,) * 3, size=16, name="tiny", spec=spec)


@pytest.fixture(scope="module")
def known():
    parts = [selfsight.open(f"world:shapes?count={count}&size=16&split={split}") for count, split in ((80, "train"), (40, "test"))]
    truths = [part.truth(np.arange(len(part))) for part in parts]
    return parts, LabelPair(truths[0].labels, truths[1].labels, truths[0].classes)


@pytest.mark.parametrize("spec", ["resnet_tiny", "vit_nano"])
def test_every_layer_has_the_score_of_its_pooled_features(known, spec):
    (train, test), labels = known
    network, said = phi(spec), []
    found = layers(network, train, test, labels, probe=knn, progress=said.append)
    assert tuple(found.values) == network.layers
    assert said == [f"layer {name}" for name in network.layers]
    name = network.layers[1]
    with torch.no_grad():
        rows = [network.pooled(load_images(part, np.arange(len(part))).pixels, name).numpy() for part in (train, test)]
    assert found.values[name] == knn(Features(*rows, labels.train, labels.test)).values["top1"]
    assert "k" in found.protocol


def test_selected_layers_keep_the_given_order(known):
    (train, test), labels = known
    network = phi("resnet_tiny")
    last, first = network.layers[-1], network.layers[0]
    assert tuple(layers(network, train, test, labels, names=(last, first), probe=knn).values) == (last, first)
    with pytest.raises(UsageError, match=r"no layer 'stages.7'"):
        layers(network, train, test, labels, names=("stages.7",))


def test_a_bank_of_layers_has_the_same_curve(known, tmp_path):
    (train, test), labels = known
    network = phi("resnet_tiny")
    banks = [get_bank(network, part, tmp_path, layers=network.layers) for part in (train, test)]
    fitted, judged = ({name: bank.pooled(name) for name in network.layers} for bank in banks)
    assert curve(fitted, judged, labels, probe=knn) == layers(network, train, test, labels, probe=knn)
