"""Image priors, and inversion by optimisation."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from selfsight.backbones.loading import untrained
from selfsight.core.errors import UsageError
from selfsight.core.hooks import eval_mode
from selfsight.explain.inversion.descent import Prior, caricature, fit_hourglass, invert, invert_with_deep_prior
from selfsight.explain.synthesis.priors import (
    BOUND,
    bounded_range,
    decorrelated_colours,
    estimate_spectrum,
    natural_noise,
    project,
    total_variation,
)
from selfsight.explain.targets import activations

from nets import chain, phi_of, photo, pictures


def soft(size: int) -> torch.Tensor:
    """A photograph whose colours are all in the allowed range."""
    return 0.5 + 0.5 * (photo(size) - 0.5)


def test_priors_equal_their_formulas() -> None:
    levels = torch.randn(2, 3, 5, 6, dtype=torch.float64) * 30
    slope = BOUND / 6.5
    for beta in (1.0, 1.5, 2.0):
        expected = torch.zeros(2, dtype=torch.float64)
        for b in range(2):
            for c in range(3):
                for v in range(5):
                    for u in range(6):
                        down = levels[b, c, v + 1, u] - levels[b, c, v, u] if v < 4 else 0.0
                        across = levels[b, c, v, u + 1] - levels[b, c, v, u] if u < 5 else 0.0
                        expected[b] += max(float(down**2 + across**2), 1e-6 if beta < 2 else 0) ** (beta / 2) / slope**beta / 30
        assert_close(total_variation(levels, beta), expected)
    expected = (levels.square().sum(1).sqrt() / BOUND).pow(6).mean((1, 2))
    assert_close(bounded_range(levels), expected)
    assert torch.autograd.gradcheck(lambda x: total_variation(x, 1.0) + bounded_range(x), levels.requires_grad_())


def test_priors_are_of_order_one_for_a_smooth_photograph() -> None:
    shown = photo(224, "chelsea")
    levels = 255 * (shown - shown.mean((2, 3), keepdim=True))
    assert 0.5 < float(bounded_range(levels)) < 5
    assert 0.5 < float(total_variation(levels)) < 5
    assert float(total_variation(torch.randn_like(levels) * 40)) > 10


def test_colours_are_projected_into_range() -> None:
    levels = torch.randn(2, 3, 8, 8) * 200
    found = project(levels)
    assert found.square().sum(1).sqrt().max() <= 2 * BOUND * 1.0001
    assert_close(project(found), found)
    assert natural_noise((2, 3, 8, 8), 0).shape == (2, 3, 8, 8)


def test_a_spectrum_keeps_its_frequencies_at_any_size() -> None:
    shown = torch.stack([photo(64)[0], photo(64)[0].flip(2)])
    found = estimate_spectrum(shown)
    assert_close(found.sized(64, 64), found.magnitude)
    larger = found.sized(128, 96)
    assert larger.shape == (3, 128, 49)
    assert_close(larger[:, 2::32, 0], found.magnitude[:, 1::16, 0])
    assert found.magnitude[0, 1:4, 1:4].mean() > 5 * found.magnitude[0, 28:32, 28:32].mean()
    assert_close(decorrelated_colours(torch.zeros(1, 3, 2, 2)), torch.full((1, 3, 2, 2), 0.5))
    with pytest.raises(UsageError, match="cannot be estimated"):
        estimate_spectrum(torch.rand(1, 3, 8, 9))


def test_inversion_recovers_what_a_layer_keeps() -> None:
    torch.manual_seed(0)
    phi = phi_of(nn.Sequential(nn.Conv2d(3, 12, 2, stride=2, bias=False), nn.AdaptiveAvgPool2d(1)), 16)
    nn.init.orthogonal_(phi.backbone.module[0].weight.view(12, 12))
    image = soft(16)
    found = invert(phi, image, "module.0", weight=1000.0, steps=(150, 50), restarts=2)
    assert found.images.shape == (1, 2, 3, 16, 16)
    assert found.errors.max() < 0.1
    assert (found.images[:, 0] - image).abs().mean() < 0.03
    forgotten = invert(phi, image, None, weight=1000.0, steps=(60, 20), restarts=2)
    assert forgotten.spread()[0] > 3 * found.spread()[0]
    again = invert(phi, image, "module.0", weight=1000.0, steps=(150, 50), restarts=2)
    assert torch.equal(again.images, found.images)


def test_smoothness_prior_removes_high_frequencies() -> None:
    phi, image = phi_of(chain()[:-1]), pictures(1)
    rough, plain = (invert(phi, image, prior=Prior(smooth=smooth), steps=(40, 0)).images[:, 0] for smooth in (0.0, 1.0))
    assert total_variation(255 * plain)[0] < 0.5 * total_variation(255 * rough)[0]


def test_a_caricature_increases_activations() -> None:
    phi, image = phi_of(chain()[:-1]), soft(16)
    before = phi.grid(image, "module.4").detach()
    found = caricature(phi, image, "module.4", steps=(30, 0))
    after = phi.grid(found, "module.4").detach()
    assert float((after * before).sum()) > 1.05 * float((before * before).sum())
    assert found.shape == image.shape
    assert 0 <= found.min() <= found.max() <= 1


@pytest.mark.parametrize("layer", ["stages.0", "stages.1", "stages.2", None])
def test_a_caricature_increases_activations_of_every_layer(layer: str | None) -> None:
    phi, images = untrained("resnet_tiny", size=32), torch.cat([photo(32), soft(32)])  # strong contrast, little contrast

    def product(shown: torch.Tensor) -> torch.Tensor:
        with torch.no_grad(), eval_mode(phi.backbone):
            reference = activations(phi, phi.normalise(images), layer).clamp(min=0)
            return (activations(phi, phi.normalise(shown), layer) * reference).flatten(1).sum(1)

    assert (product(caricature(phi, images, layer, steps=(60, 0))) > 1.1 * product(images)).all()


def test_a_caricature_of_an_image_without_features_is_finite() -> None:
    phi = untrained("resnet_tiny", size=32)  # without biases: all its features of the mean colour are zero
    flat = torch.tensor(phi.mean).view(1, 3, 1, 1).expand(1, 3, 32, 32)
    assert_close(caricature(phi, flat, "stages.1", steps=(5, 0)), flat)


def test_deep_image_prior_prefers_photographs() -> None:
    picture = photo(32)[0]
    rng = torch.Generator().manual_seed(0)
    shuffled = picture.flatten(1)[:, torch.randperm(1024, generator=rng)].view(3, 32, 32)
    fitted, slow = (fit_hourglass(each, steps=60)[-1] / float(each.var()) for each in (picture, shuffled))
    assert fitted < 0.6 * slow


def test_deep_image_prior_inverts_without_changing_the_network() -> None:
    net = chain()[:-1]
    phi, image = phi_of(net), photo(16)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found = invert_with_deep_prior(phi, image, "module.1", steps=60)
    assert found.images.shape == (1, 1, 3, 16, 16)
    assert found.errors[0, 0] < invert_with_deep_prior(phi, image, "module.1", steps=2).errors[0, 0]
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
