"""The policy of baselines: seeds, forms, direction, interval."""

import numpy as np
import pytest
import torch

from selfsight.backbones.loading import untrained
from selfsight.data.opening import open_source
from selfsight.measure.baselines import ESTIMATED, strongest_form, untrained_network, untrained_networks
from selfsight.measure.results import Score
from selfsight.workflows.evaluate.tables import lower_is_better, score_name

FORMS = {"a": [Score(0.3, 0.1, 0.4), Score(0.5, 0.45, 0.8)], "b": [Score(0.35, 0.3, 0.4)]}


@pytest.mark.parametrize(("lower", "expected"), [(False, ("a", 0.4, 0.1, 0.8)), (True, ("b", 0.35, 0.3, 0.4))])
def test_strongest_form_follows_the_direction_of_the_score(lower, expected):
    form, score = strongest_form(FORMS, lower=lower)
    assert (form, *(pytest.approx(value) for value in (score.value, score.low, score.high))) == expected


def test_directions_of_scores():
    lower = [("geometry", "alignment"), ("geometry", "uniformity"), ("equivariance", "flip/stages.0/ridge")]
    higher = [("geometry", "effective_rank"), ("knn", "top1"), ("similarity", "cka"), ("unknown", "alignment")]
    assert [lower_is_better(*pair) for pair in lower + higher] == [True] * len(lower) + [False] * len(higher)
    assert score_name("geometry", "alignment") == "alignment ↓"
    assert score_name("knn", "top1") == "k-NN top-1"


def test_untrained_networks_have_several_seeds_and_both_forms_of_batch_statistics():
    phi, source = untrained("resnet_tiny?width=4", size=16), open_source("world:shapes?count=16&size=16")
    found = [(form, seed, make()) for form, seed, make in untrained_networks(phi, source, seeds=2)]
    assert [(form, seed) for form, seed, _ in found] == [
        ("batch statistics as initialised", 0), ("batch statistics as initialised", 1), (ESTIMATED, 0), (ESTIMATED, 1),
    ]  # fmt: skip
    plain, other, estimated, _ = (network.backbone.state_dict() for *_, network in found)
    weights = [name for name in plain if name.endswith("weight") and plain[name].ndim == 4]
    statistics = [name for name in plain if name.endswith("running_mean")]
    assert all(torch.equal(plain[name], estimated[name]) and not torch.equal(plain[name], other[name]) for name in weights)
    assert all(not plain[name].any() and estimated[name].any() for name in statistics)
    again = untrained_network(phi, source).backbone.state_dict()
    assert all(torch.equal(again[name], estimated[name]) for name in weights + statistics)
    images = source.read(np.arange(2)).images
    assert not torch.equal(found[0][2].pooled(torch.from_numpy(images)), found[2][2].pooled(torch.from_numpy(images)))
