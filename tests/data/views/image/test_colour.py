"""Colour operations compared with torchvision, alone and in chains."""

import pytest
import torch
from skimage import data
from torch import Tensor
from torch.testing import assert_close
from torchvision.transforms.v2 import functional as oracle

from selfsight.core.clock import Clock
from selfsight.core.edges import sobel
from selfsight.data.views.image.blur import gaussian_blur
from selfsight.data.views.image.colour import Jitter, adjust, chain, exact_chain, solarised
from selfsight.data.views.keyed_random import KeyedRandom

THEIRS = (oracle.adjust_brightness, oracle.adjust_contrast, oracle.adjust_saturation, oracle.adjust_hue)


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    sources = [data.astronaut()[:480:4, :480:4], data.chelsea()[:240:2, 100:340:2], data.coffee()[:360:3, :360:3]]
    found = [torch.from_numpy(source.copy()).permute(2, 0, 1)[:, :120, :120] / 255 for source in sources]
    return torch.stack(found)


def composed(images: Tensor, factors: Tensor, order: Tensor, grey: Tensor | None = None) -> Tensor:
    affine = chain(factors, order, grey).affine(images.mean((2, 3)))
    mixed = torch.einsum("bij,bjhw->bihw", affine[..., :3], images) + affine[..., 3, None, None]
    return mixed.clamp(0, 1)


@pytest.mark.parametrize("what", [0, 1, 2, 3])
@pytest.mark.parametrize("size", [-0.8, -0.37, 0.0, 0.21, 0.8])
def test_each_function_alone_equals_torchvision(pictures: Tensor, what: int, size: float) -> None:
    factor = size / 2 if what == 3 else 1 + size
    factors = torch.tensor([1.0, 1, 1, 0]).repeat(len(pictures), 1)
    factors[:, what] = factor
    wanted = THEIRS[what](pictures, factor)
    assert_close(adjust(pictures, what, factors[:, what]), wanted, rtol=0, atol=1e-5)
    if what < 3:
        order = torch.rand(len(pictures), 4).argsort(1)
        assert_close(composed(pictures, factors, order), wanted, rtol=0, atol=1e-5)


def test_greyscale_equals_torchvision(pictures: Tensor) -> None:
    affine = chain(None, None, torch.tensor([True, False, True])).affine(pictures.mean((2, 3)))
    mixed = torch.einsum("bij,bjhw->bihw", affine[..., :3], pictures) + affine[..., 3, None, None]
    assert_close(mixed[::2], oracle.rgb_to_grayscale(pictures[::2], 3), rtol=0, atol=1e-5)
    assert_close(mixed[1], pictures[1])


def test_inversion_equals_torchvision(pictures: Tensor) -> None:
    factors = torch.tensor([0.7, 1.2, 0.8, 0.0]).repeat(len(pictures), 1)
    positive, mean = chain(factors, torch.arange(4).expand(len(pictures), 4), None), pictures.mean((2, 3))

    def mixed(affine: Tensor) -> Tensor:
        return torch.einsum("bij,bjhw->bihw", affine[..., :3], pictures) + affine[..., 3, None, None]

    before, after = mixed(positive.affine(mean)), mixed(positive.inverted(torch.tensor([True, False, True])).affine(mean))
    assert_close(after[::2], oracle.invert(before[::2]), rtol=0, atol=1e-5)
    assert_close(after[1], before[1])


def their_chain(images: Tensor, factors: Tensor, order: Tensor) -> Tensor:
    made = []
    for image, factor, steps in zip(images, factors, order, strict=True):
        for what in steps.tolist():
            image = THEIRS[what](image, factor[what].item())
        made.append(image)
    return torch.stack(made)


@pytest.mark.parametrize(
    ("spread", "mean", "largest", "share"),
    [
        ((0.4, 0.1), 0.025, 0.35, 0.59),
        ((0.4, 0.0), 0.0013, 0.16, 0.03),
        ((0.8, 0.2), 0.029, 0.87, 0.54),
        ((0.8, 0.0), 0.0057, 0.56, 0.11),
    ],
)
def test_difference_of_the_composed_chain_from_the_exact_one(
    pictures: Tensor, spread: tuple[float, float], mean: float, largest: float, share: float
) -> None:
    """The numbers in colour.py: mean and largest difference, and the fraction of values that differ by more than 0.01."""
    images = pictures[..., ::3, ::3].repeat(80, 1, 1, 1)
    drawn = Jitter(spread[0], spread[0], spread[0], spread[1], p=1.0).draw(KeyedRandom(len(images), Clock()))
    apart = (composed(images, **drawn) - exact_chain(images, **drawn, grey=None)).abs()
    assert apart.mean().item() == pytest.approx(mean, rel=0.1)
    assert apart.max().item() == pytest.approx(largest, rel=0.1)
    assert (apart > 0.01).float().mean().item() == pytest.approx(share, rel=0.1)


def test_the_exact_chain_equals_torchvision(pictures: Tensor) -> None:
    images = pictures[..., ::3, ::3].repeat(4, 1, 1, 1)
    drawn = Jitter(0.8, 0.8, 0.8, 0.2, p=1.0).draw(KeyedRandom(len(images), Clock()))
    assert_close(exact_chain(images, **drawn, grey=None), their_chain(images, **drawn), rtol=0, atol=1e-4)


def test_hue_rotates_in_the_direction_of_hsv() -> None:
    red = torch.tensor([1.0, 0.0, 0.0])[None, :, None, None]
    order = torch.arange(4)[None]
    for turn in (1 / 3, -1 / 3):  # from one primary colour to the next, both ways of turning agree
        wanted = oracle.adjust_hue(red, turn)
        assert_close(composed(red, torch.tensor([[1.0, 1, 1, turn]]), order), wanted, rtol=0, atol=1e-5)


def test_the_fraction_of_changed_images() -> None:
    drawn = Jitter(p=0.8).draw(KeyedRandom(5000, Clock()))
    changed = (drawn["factors"] != torch.tensor([1.0, 1, 1, 0])).any(1).float().mean()
    assert abs(changed.item() - 0.8) < 0.03
    assert torch.equal(drawn["order"].sort(1).values, torch.arange(4).expand(5000, 4))
    assert drawn["factors"][:, :3].min() >= 0.6
    assert drawn["factors"][:, 3].abs().max() <= 0.1


def test_solarise_equals_torchvision(pictures: Tensor) -> None:
    made = solarised(pictures.clone(), torch.tensor([True, False, True]), torch.zeros(3), torch.ones(3))
    assert_close(made[::2], oracle.solarize(pictures[::2], 0.5))
    assert torch.equal(made[1], pictures[1])


def test_blur_equals_torchvision(pictures: Tensor) -> None:
    made = gaussian_blur(pictures, torch.tensor([0.1, 1.3, 0.0]), 9)
    assert_close(made[:1], oracle.gaussian_blur(pictures[:1], [9, 9], [0.1, 0.1]), rtol=0, atol=1e-5)
    assert_close(made[1:2], oracle.gaussian_blur(pictures[1:2], [9, 9], [1.3, 1.3]), rtol=0, atol=1e-5)
    assert_close(made[2], pictures[2])


def test_sobel_detects_edges() -> None:
    step = torch.zeros(1, 3, 8, 8)
    step[..., 4:] = 1
    edges = sobel(step)
    assert edges.shape == (1, 2, 8, 8)
    assert edges[0, 0, 2:6, 3:5].abs().min() == 4
    assert edges[0, 1, 2:6].abs().max() == 0


def test_one_channel() -> None:
    drawn = Jitter(p=1.0).draw(KeyedRandom(4, Clock()))
    affine = chain(drawn["factors"], drawn["order"], torch.ones(4, dtype=torch.bool), channels=1).affine(torch.full((4, 1), 0.5))
    assert affine.shape == (4, 1, 2)
    flat = torch.full((4, 1, 2, 2), 0.5)
    wanted = flat * drawn["factors"][:, 0, None, None, None]
    assert_close(affine[:, :, :1, None] * flat + affine[:, :, 1:, None], wanted)
