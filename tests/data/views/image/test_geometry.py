"""Crops, flips and blur compared with torchvision."""

import pytest
import torch
from skimage import data
from torch import Tensor
from torch.testing import assert_close
from torchvision.transforms.v2 import RandomResizedCrop
from torchvision.transforms.v2 import functional as oracle

from selfsight.core.clock import Clock
from selfsight.core.views import Images
from selfsight.data.views.image.geometry import Crop, CropGeometry, Normalise, central_square, extents, relative, resample, rotate
from selfsight.data.views.keyed_random import KeyedRandom


@pytest.fixture(scope="module")
def photograph() -> Tensor:
    return torch.from_numpy(data.astronaut()[::2, ::2].copy()).permute(2, 0, 1)[None].contiguous()


@pytest.mark.parametrize("size", [32, 100, 224])
@pytest.mark.parametrize("box", [(0, 0, 256, 256), (200, 180, 56, 76), (17, 30, 9, 11)])
def test_crop_flip_and_blur_equal_torchvision(photograph: Tensor, size: int, box: tuple[int, int, int, int]) -> None:
    left, top, width, height = box
    kernel = max(3, size // 10 | 1)
    plain = oracle.resized_crop(photograph / 255, top, left, height, width, [size, size], antialias=True)
    for flip in (False, True):
        for sigma in (0.0, 0.3, 2.0):
            wanted = oracle.hflip(plain) if flip else plain
            wanted = oracle.gaussian_blur(wanted, [kernel, kernel], [sigma, sigma]) if sigma else wanted
            placing = CropGeometry(torch.tensor([box]), torch.tensor([flip]), torch.tensor([sigma]), kernel)
            assert_close(resample(photograph, placing, size) / 255, wanted, rtol=0, atol=1e-5)


def test_floating_point_images(photograph: Tensor) -> None:
    placing = CropGeometry(torch.tensor([[3, 10, 100, 57]]))
    for size in (32, 100):
        assert_close(resample(photograph / 255, placing, size), resample(photograph, placing, size) / 255, rtol=0, atol=1e-5)


def test_dense_and_banded_forms_agree(photograph: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = Crop().boxes(*Crop().draw(KeyedRandom(6, Clock())).values(), torch.full((6, 2), 256))
    placing = CropGeometry(boxes, torch.arange(6) % 2 == 0, torch.tensor([0.0, 0.5, 1, 1.5, 2, 0]), 11)
    images = photograph.expand(6, -1, -1, -1)
    banded = resample(images, placing, 110)
    monkeypatch.setattr("selfsight.data.views.image.geometry._BANDED_FROM", 1000)
    assert_close(resample(images, placing, 110), banded, rtol=0, atol=2e-3)  # of 255


def test_padding_is_never_visible() -> None:
    pixels = torch.full((3, 3, 40, 50), 255, dtype=torch.uint8)
    extent = torch.tensor([[40, 50], [20, 50], [30, 7]])
    for row, (height, width) in enumerate(extent.tolist()):
        pixels[row, :, :height, :width] = 100
    images = Images(pixels, torch.arange(3), extent)
    for size in (16, 128):
        boxes = Crop().boxes(*Crop().draw(KeyedRandom(3, Clock(5))).values(), extents(images))
        assert_close(resample(pixels, CropGeometry(boxes), size), torch.full((3, 3, size, size), 100.0))
        assert_close(central_square(images, size), torch.full((3, 3, size, size), 100 / 255))


def test_crops_are_distributed_as_in_torchvision() -> None:
    n, height, width = 4000, 60, 100
    boxes = Crop().boxes(*Crop().draw(KeyedRandom(n, Clock(1))).values(), torch.tensor([[height, width]]).expand(n, 2))
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 0] + boxes[:, 2] <= width).all()
    assert (boxes[:, 1] + boxes[:, 3] <= height).all()
    torch.manual_seed(0)
    theirs = RandomResizedCrop(8)
    picture = torch.zeros(3, height, width)
    drawn = [theirs.make_params([picture]) for _ in range(n)]
    wanted = torch.tensor([[params["left"], params["top"], params["width"], params["height"]] for params in drawn]).float()
    spread = wanted.std(0) / n**0.5
    assert ((boxes.mean(0) - wanted.mean(0)).abs() < 5 * spread).all()
    assert_close(boxes.std(0), wanted.std(0), rtol=0.06, atol=0)


def test_an_impossible_ratio_falls_back_to_the_centre() -> None:
    crop = Crop((0.9, 1.0))
    boxes = crop.boxes(*crop.draw(KeyedRandom(50, Clock())).values(), torch.tensor([[10, 100]]).expand(50, 2))
    assert_close(boxes, torch.tensor([[43.0, 0, 13, 10]]).expand(50, 4))


def test_boxes_as_fractions() -> None:
    found = relative(torch.tensor([[10.0, 5, 20, 10]]), torch.tensor([[20, 40]]))
    assert_close(found, torch.tensor([[0.25, 0.25, 0.75, 0.75]]))


def test_rotations_are_exact(photograph: Tensor) -> None:
    once = rotate(photograph, 1)
    assert torch.equal(once[..., 0, :], photograph[..., -1])  # anticlockwise: the right edge becomes the top
    assert torch.equal(rotate(rotate(once, 1), 2), photograph)


def test_central_view(photograph: Tensor) -> None:
    wide = photograph[:, :, :200]
    images = Images(wide, torch.arange(1))
    wanted = oracle.resized_crop(wide / 255, 0, 28, 200, 200, [32, 32], antialias=True)
    assert_close(central_square(images, 32), wanted, rtol=0, atol=1e-5)
    norm = Normalise()
    assert_close(central_square(images, 32, norm), oracle.normalize(wanted, list(norm.mean), list(norm.std)), rtol=0, atol=5e-5)
    assert central_square(images, 224).shape == (1, 3, 224, 224)
    assert central_square(Images(wide[:, :1], torch.arange(1)), 32, norm).shape == (1, 1, 32, 32)
