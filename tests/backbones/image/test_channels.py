"""Networks on lightness, on colour, and on complementary channels."""

import pytest
import torch
from skimage.color import rgb2lab
from torch.testing import assert_close

from selfsight.backbones.table import build_backbone
from selfsight.core.errors import UsageError
from selfsight.core.lab import gamut, lab
from selfsight.core.representation import need_colour, need_halves
from selfsight.data.views.image.geometry import IMAGENET


def pictures(seed: int = 0) -> torch.Tensor:
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def normalised(images: torch.Tensor) -> torch.Tensor:
    mean, std = IMAGENET.tensors(3, images.device)
    return (images - mean[:, None, None]) / std[:, None, None]


def test_lab_equals_skimage():
    images = pictures().double()
    expected = torch.from_numpy(rgb2lab(images.permute(0, 2, 3, 1).numpy())).permute(0, 3, 1, 2)
    assert_close(lab(images), expected, rtol=0, atol=0.02)  # their matrix has other digits
    dark = torch.full((1, 3, 1, 1), 0.01, dtype=torch.float64, requires_grad=True)
    lab(dark).sum().backward()
    assert torch.isfinite(dark.grad).all()  # pyright: ignore[reportArgumentType]


def test_gamut_is_nearly_that_of_the_paper():
    assert len(gamut()) == 309
    colours = lab(pictures(1))[:, 1:].permute(0, 2, 3, 1).flatten(0, 2)
    assert torch.cdist(colours, gamut()).amin(1).max() < 50**0.5 + 1e-3  # all within half a cell's diagonal
    assert gamut().abs().max() <= 110
    assert [0.0, 0.0] in gamut().tolist()


def test_only_lightness_is_used():
    network = build_backbone("channels?network=resnet_tiny", size=16).eval()
    images = pictures()
    light = lab(images)[:, :1]
    grey = images.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    assert network.layers[0] == "network.stem"
    same = network(normalised(images)).pooled
    assert same.shape == (2, network.dim)
    assert not torch.allclose(network(normalised(grey)).pooled, same)  # another light
    changed = images.clone().requires_grad_()
    network(normalised(changed)).pooled.sum().backward()
    assert need_colour(network, "Colorize") is network
    assert_close(network.lab(normalised(images))[:, :1], (light - 50) / 25, rtol=0, atol=1e-4)  # pyright: ignore[reportCallIssue]


def test_halves_use_complementary_channels():
    network = need_halves(build_backbone("channel_split?network=resnet_tiny&space=rgb&first=0", size=16).eval(), "CMC")
    images = pictures()
    red = images.clone()
    red[:, 0] = 0.5
    before, after = network.halves(images), network.halves(red)
    assert not torch.equal(before[0].pooled, after[0].pooled)
    assert torch.equal(before[1].pooled, after[1].pooled)
    whole = network(images)
    assert_close(whole.pooled, torch.cat([half.pooled for half in before], 1))
    assert whole.grid.shape[1] == network.dim


@pytest.mark.parametrize("digits", ["3", "x", "123"])
def test_missing_channels_are_rejected(digits):
    with pytest.raises(UsageError, match="one or two of three channels"):
        build_backbone(f"channel_split?network=resnet_tiny&first={digits}", size=16)


def test_grey_images_and_networks_on_all_channels_are_rejected():
    with pytest.raises(UsageError, match="lightness and colour"):
        build_backbone("seen", size=16, channels=1)
    plain = build_backbone("resnet_tiny", size=16)
    with pytest.raises(UsageError, match="uses all"):
        need_colour(plain, "Colorize")
    with pytest.raises(UsageError, match="two halves"):
        need_halves(plain, "CMC")
