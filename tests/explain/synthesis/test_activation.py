"""Activation maximisation."""

import pytest
import torch
from torch.testing import assert_close

from selfsight.explain.synthesis.activation import (
    NO_TRANSFORMS,
    Fourier,
    Phase,
    Pixels,
    Transforms,
    deep_dream,
    gram,
    maximise,
    synthesise_style,
)
from selfsight.explain.synthesis.priors import estimate_spectrum
from selfsight.explain.targets import unit

from nets import chain, phi_of, photo, pictures

SPECTRUM = estimate_spectrum(torch.cat([photo(32), photo(32, "chelsea")]))
PARAMETERISATIONS = {"pixels": Pixels(), "fourier": Fourier(), "phase": Phase(SPECTRUM)}


@pytest.mark.parametrize("name", PARAMETERISATIONS)
def test_exceeds_every_real_image(name: str) -> None:
    phi, target = phi_of(chain()[:-1]), unit("module.6", 3)
    seen = target.score(phi, phi.normalise(torch.cat([pictures(50), photo(16)])))
    found = maximise(phi, target, count=2, parameterisation=PARAMETERISATIONS[name], steps=60, rate=0.1)
    assert found.images.dtype == torch.uint8
    assert found.scores.min() > seen.max()
    assert (found.shifted <= found.scores).all()
    assert found.curve[-1] > found.curve[0]
    again = maximise(phi, target, count=2, parameterisation=PARAMETERISATIONS[name], steps=60, rate=0.1)
    assert torch.equal(found.images, again.images)


def test_each_image_can_have_its_own_unit() -> None:
    phi = phi_of(chain()[:-1])
    found = maximise(phi, unit("module.6", torch.tensor([1, 4])), count=2, steps=40, rate=0.1)
    numbers = unit("module.6", 0).numbers(phi, phi.normalise(found.images))
    assert numbers[0, 1] > numbers[1, 1]
    assert numbers[1, 4] > numbers[0, 4]


def test_effects_of_priors_and_diversity() -> None:
    phi, target = phi_of(chain()[:-1]), unit("module.6", 3)
    plain = maximise(phi, target, count=3, parameterisation=Pixels(), steps=40, rate=0.1)
    smooth = maximise(phi, target, count=3, parameterisation=Pixels(), steps=40, rate=0.1, prior_weight=0.05)

    def roughness(found: torch.Tensor) -> float:
        return float(found.float().diff(dim=3).abs().mean())

    assert roughness(smooth.images) < 0.9 * roughness(plain.images)
    apart = maximise(phi, target, count=3, parameterisation=Pixels(), steps=40, rate=0.1, diversity=1.0)

    def alike(found: torch.Tensor) -> float:
        rows = torch.nn.functional.normalize(gram(phi.grid(found, "module.6")).flatten(1))
        return float((rows @ rows.T).sum().detach())

    assert alike(apart.images) < alike(plain.images)


def test_phase_parameterisation_keeps_the_spectrum() -> None:
    parameterisation = Phase(SPECTRUM)
    numbers = parameterisation.start((2, 3, 32, 32), 0)
    waves = torch.polar(SPECTRUM.sized(32, 32).expand_as(numbers).contiguous(), numbers)
    inner = torch.fft.rfft2(torch.fft.irfft2(waves, s=(32, 32), norm="ortho"), norm="ortho").abs()
    assert_close(inner[:, :, :, 1:16], SPECTRUM.magnitude[None, :, :, 1:16].expand(2, -1, -1, -1), rtol=1e-3, atol=1e-4)
    for each in PARAMETERISATIONS.values():
        shown = each.to_image(each.start((2, 3, 24, 32), 0), (24, 32))
        assert shown.shape == (2, 3, 24, 32)
        assert 0 <= shown.min() <= shown.max() <= 1


def test_transforms_change_images() -> None:
    images = photo(32)
    rng = torch.Generator().manual_seed(0)
    assert_close(NO_TRANSFORMS.make(images, rng), images, rtol=0, atol=1e-5)
    moved = Transforms(noise=0.0).make(images.repeat(2, 1, 1, 1), rng)
    assert (moved[0] - moved[1]).abs().mean() > 0.01
    shifted = Transforms(1 / 32, 1.0, 0.0, 0.0).make(images, torch.Generator().manual_seed(3))
    one_pixel = (images.roll((1, 1), (2, 3)) - images).abs().mean()
    assert 0 < (shifted - images).abs().mean() < 1.2 * one_pixel


def test_deep_dream_increases_activations_and_keeps_the_image() -> None:
    phi, image = phi_of(chain()[:-1]), photo(32)
    found = deep_dream(phi, image, "module.4", octaves=2, steps=5)
    assert found.shape == image.shape
    assert phi.grid(found, "module.4").square().mean() > 1.1 * phi.grid(image, "module.4").square().mean()
    assert (found - image).abs().mean() < 0.2


def test_style_transfer_from_noise_and_with_content() -> None:
    phi, style = phi_of(chain()[:-1]), photo(32)
    found, curve = synthesise_style(phi, style, ["module.1", "module.4"], steps=60)
    assert found.shape == style.shape
    assert curve[-1] < 0.3 * curve[0]
    other = photo(32, "chelsea")
    both, _ = synthesise_style(phi, style, ["module.1", "module.4"], content=other, content_weight=10.0, steps=60)
    near = [(phi.grid(each, "module.4") - phi.grid(other, "module.4")).square().mean() for each in (both, found)]
    assert near[0] < near[1]


def test_gram_is_a_mean_of_products() -> None:
    grid = torch.randn(2, 3, 4, 5)
    assert_close(gram(grid)[1, 0, 2], (grid[1, 0] * grid[1, 2]).mean())
