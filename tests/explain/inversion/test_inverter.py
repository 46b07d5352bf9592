"""Learned inversion, generator codes for activation maximisation, comparison of networks."""

from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from selfsight.core.errors import UsageError
from selfsight.explain.inversion.inverter import Inverter, invert_learned, learn_inverter
from selfsight.explain.synthesis.activation import Generated, maximise
from selfsight.explain.synthesis.comparison import compare_units, layer_at, ranked_units, responses
from selfsight.explain.targets import features_of, unit

from nets import chain, phi_of

PHI = phi_of(chain()[:-1])


def discs(count: int, side: int = 16) -> torch.Tensor:
    """Images of a disc of one colour at one position on grey."""
    rng = torch.Generator().manual_seed(0)
    places = torch.arange(side).float()
    middle = torch.rand(count, 2, 1, generator=rng) * side / 2 + side / 4
    far = (places - middle[:, 0])[:, :, None].square() + (places - middle[:, 1])[:, None].square()
    colours = torch.rand(count, 3, 1, 1, generator=rng)
    return torch.where((far < (side / 5) ** 2)[:, None], colours, torch.tensor(0.5))


@pytest.mark.parametrize(("layer", "adversarial_weight"), [("module.4", 0.0), ("module.4", 0.01), (None, 0.0)])
def test_unseen_images_are_reconstructed_better_than_by_the_mean(layer: str | None, adversarial_weight: float, tmp_path: Path) -> None:
    seen, unseen = discs(216).split([200, 16])
    before = {name: value.clone() for name, value in PHI.backbone.state_dict().items()}
    inverter = learn_inverter(PHI, seen, layer, steps=60, batch=16, rate=3e-3, adversarial_weight=adversarial_weight, width=8)
    found = invert_learned(PHI, unseen, inverter)
    assert found.images.shape == (16, 1, 3, 16, 16)
    missed = (found.images[:, 0] - unseen).square().mean()
    assert missed < (0.9 if layer is None else 0.6) * (seen.mean(0) - unseen).square().mean()
    aim = features_of(PHI, unseen, layer)
    expected = (features_of(PHI, found.images[:, 0], layer) - aim).flatten(1).norm(dim=1) / aim.flatten(1).norm(dim=1)
    assert_close(found.errors[:, 0], expected, rtol=1e-4, atol=1e-5)
    inverter.save(tmp_path)
    again = Inverter.load(tmp_path)
    assert torch.equal(invert_learned(PHI, unseen, again).images, found.images)
    assert again.layer == layer
    assert all(torch.equal(before[name], value) for name, value in PHI.backbone.state_dict().items())
    assert all(parameter.grad is None for parameter in PHI.backbone.parameters())


def test_images_are_optimised_in_the_code_of_a_generator() -> None:
    inverter = learn_inverter(PHI, discs(100), None, steps=30, batch=16, rate=3e-3, width=8)
    target = unit("module.6", 3)
    parameterisation = Generated(inverter)
    assert parameterisation.start((2, 3, 16, 16), 0).shape == (2, 8)
    far = parameterisation.to_image(torch.full((1, 8), 1e6), (16, 16))
    assert_close(far, inverter(torch.full((1, 8), 3.0)))
    assert parameterisation.to_image(torch.zeros(1, 8), (24, 24)).shape == (1, 3, 24, 24)
    first = maximise(PHI, target, count=2, parameterisation=parameterisation, steps=1)
    found = maximise(PHI, target, count=2, parameterisation=parameterisation, steps=60, rate=0.2)
    assert (found.scores > first.scores).all()


def test_invalid_training_images_are_rejected() -> None:
    for pictures in (torch.rand(1, 3, 16, 16), torch.rand(4, 3, 16, 24)):
        with pytest.raises(UsageError, match="cannot be learnt"):
            learn_inverter(PHI, pictures, None)
    with pytest.raises(UsageError, match="of 16 px"):
        invert_learned(PHI, torch.rand(1, 3, 24, 24), Inverter(8, cells=0, size=16))


def test_units_are_ranked_by_selectivity() -> None:
    said = torch.tensor([[1.0, 0.0, 1.0], [1.0, 2.0, 1.5], [1.0, 0.0, 1.0]])
    assert ranked_units(said).tolist() == [1, 2, 0]
    assert ranked_units(10 * said).tolist() == [1, 2, 0]


def test_networks_are_compared_in_one_sheet() -> None:
    other = phi_of(chain()[:5])
    images = discs(40)
    found = compare_units({"one": PHI, "other": other}, {"one": images, "other": images}, depth=1.0, ranks=(0, 2), steps=20)
    plain = found.to_json()["rows"]
    for name, phi in (("one", PHI), ("other", other)):
        said = responses(phi, images, layer_at(phi, 1.0))
        assert [one["unit"] for one in plain[name]] == ranked_units(said)[[0, 2]].tolist()
        assert all(0 <= one["above"] <= 1 for one in plain[name])
    with pytest.raises(UsageError, match="rank 99"):
        compare_units({"one": PHI}, {"one": images}, ranks=(99,))
