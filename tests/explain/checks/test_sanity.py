"""Sanity checks: dependence on the unit, on the weights, and on an input shift."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from selfsight.backbones.loading import untrained
from selfsight.core.errors import UsageError
from selfsight.explain.attribution.backprop import reverse
from selfsight.explain.attribution.saliency import deconvnet, gradient, gradient_times_input
from selfsight.explain.checks.sanity import (
    cascading_randomisation,
    correlation,
    infidelity,
    neuron_sensitivity,
    randomise_layers,
    rank_correlation,
    shift_sensitivity,
)
from selfsight.explain.targets import direction, unit

from nets import Ways, chain, logit, phi_of, pictures


def test_correlations_equal_their_definitions() -> None:
    one = torch.randn(2, 1, 8, 8)
    assert_close(correlation(one, 3 * one + 1), torch.ones(2))
    assert_close(correlation(one, -one), -torch.ones(2))
    assert_close(rank_correlation(one, one**3), torch.ones(2))
    assert correlation(one, torch.ones_like(one)).tolist() == [0.0, 0.0]


def test_maps_independent_of_the_unit_have_no_sensitivity() -> None:
    phi, images = phi_of(Ways("plain")), pictures(4)
    target = unit("module.second", 0)
    assert_close(neuron_sensitivity(phi, images, target, lambda p, x, t: x.mean(1, keepdim=True), others=2), torch.ones(4))
    found = {rule: neuron_sensitivity(phi, images, target, rule, others=4) for rule in (gradient, gradient_times_input)}
    assert all((each < 0.95).all() for each in found.values())


def test_layers_are_randomised_from_the_deepest_on() -> None:
    phi = untrained("resnet_tiny?width=8", size=32, seed=5)
    with torch.no_grad():
        for parameter in phi.backbone.parameters():
            parameter.add_(0.01)
    images = torch.rand(2, 3, 32, 32)
    same = randomise_layers(phi, 0)
    assert torch.equal(same.pooled(images), phi.pooled(images))
    for layers in (1, 3):
        found = randomise_layers(phi, layers)
        for number, layer in enumerate(phi.layers):
            alike = torch.equal(found.pooled(images, layer), phi.pooled(images, layer))
            assert alike is (number < len(phi.layers) - layers), (layers, layer)
    assert len(phi.layers) > 3
    with pytest.raises(UsageError, match="randomised"):
        randomise_layers(phi, 99)


def test_cascading_randomisation_changes_maps() -> None:
    phi = untrained("resnet_tiny?width=8", size=32, seed=5)
    target = direction(torch.randn(phi.backbone.dim))
    found = cascading_randomisation(phi, torch.rand(2, 3, 32, 32), target, gradient_times_input)
    assert [step["layers"] for step in found] == list(range(len(phi.layers) + 1))
    assert found[0]["signed"] == found[0]["absolute"] == 1
    assert abs(found[-1]["signed"]) < 0.2
    constant = cascading_randomisation(phi, torch.rand(2, 3, 32, 32), target, lambda p, x, t: x.mean(1, keepdim=True))
    assert all(step["signed"] == 1 for step in constant)


def test_gradients_are_shift_invariant_and_products_are_not() -> None:
    phi, images = phi_of(chain()), pictures()
    for method in (gradient, deconvnet):
        assert shift_sensitivity(phi, images, logit(), method).max() < 1e-5
    assert shift_sensitivity(phi, images, logit(), gradient_times_input).min() > 0.1


def test_the_gradient_of_a_linear_network_has_no_infidelity() -> None:
    torch.manual_seed(0)
    phi = phi_of(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 5)), 8)
    images = pictures(2, 8)
    slope = reverse(phi, phi.normalise(images), logit()).derivatives[""]
    assert infidelity(phi, images, logit(), slope).max() < 1e-8
    wrong = infidelity(phi, images, logit(), torch.zeros_like(slope), samples=400)
    assert_close(wrong, 0.04 * slope.square().sum((1, 2, 3)), rtol=0.25, atol=0)
