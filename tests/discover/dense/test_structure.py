import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from selfsight.data.opening import open_source
from selfsight.data.views.image.geometry import resize_whole
from selfsight.discover.dense.structure import has_structure


def noise(*size: int, low: float = 0, high: float = 1, seed: int = 0) -> Tensor:
    return torch.rand(*size, generator=torch.Generator().manual_seed(seed)) * (high - low) + low


@pytest.mark.parametrize("size", [(64, 64), (96, 160), (33, 41), (16, 16)])
def test_flat_images_and_noise_have_no_structure(size: tuple[int, int]):
    flat = torch.tensor([0.0, 0.3, 1.0])[:, None, None, None].expand(3, 3, *size)
    faint = 0.5 + 3 / 255 * torch.randn(20, 3, *size, generator=torch.Generator().manual_seed(1))
    grey = noise(20, 1, *size).expand(-1, 3, -1, -1)
    for images in (flat, faint, noise(20, 3, *size), grey, (noise(20, 3, *size) > 0.5).float()):
        assert not has_structure(images).any()
    assert not has_structure((flat * 255).round() / 255 + (noise(3, 3, *size, low=-0.4, high=0.4) / 255)).any()


def test_objects_have_structure():
    """By brightness, by colour alone, by texture alone, in noise; all rendered scenes."""
    images = torch.full((4, 3, 64, 64), 0.4)
    images[0, :, 20:32, 30:44] = 0.5
    images[1, 0, 20:32, 30:44], images[1, 1, 20:32, 30:44] = 0.5, 0.3
    images[2, :, 20:40, 30:50] = noise(3, 20, 20, low=0.2, high=0.6)
    images[3] = noise(3, 64, 64, low=0.3, high=0.5)
    images[3, :, 20:40, 20:40] += 0.3
    assert has_structure(images).all()
    scenes = open_source("world:shapes?count=64&size=64").read(np.arange(64)).images
    assert has_structure(torch.from_numpy(scenes) / 255).all()


def encoded(levels: np.ndarray, quality: int) -> np.ndarray:
    """Through JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"))


def as_read(levels: np.ndarray, size: int) -> Tensor:
    """As localisers read an image."""
    return resize_whole(torch.from_numpy(np.array(levels)).permute(2, 0, 1), size, 16)[None]


@pytest.mark.parametrize("size", [64, 224])
@pytest.mark.parametrize("file", [(12, 12), (50, 50), (100, 100), (150, 150), (100, 200), (200, 400), (400, 400)])
def test_resized_and_compressed_noise_has_no_structure(file: tuple[int, int], size: int):
    generator = np.random.default_rng(sum(file) + size)
    drawn = [generator.integers(0, 255, (*file, 3)).astype(np.uint8), generator.normal(128, 40, (*file, 1)).clip(0, 255).astype(np.uint8)]
    images = [np.broadcast_to(levels, (*file, 3)).copy() for levels in drawn]
    images += [np.asarray(Image.fromarray(levels).resize((2 * file[1], 2 * file[0]), Image.Resampling.BICUBIC)) for levels in images[:2]]
    images += [encoded(levels, quality) for levels in images if file[0] > 16 for quality in (30, 90)]
    assert not [number for number, levels in enumerate(images) if has_structure(as_read(levels, size)).any()]


@pytest.mark.parametrize("side", [32, 100])
def test_a_defective_pixel_is_no_structure(side: int):
    levels = np.full((side, side, 3), 90, np.uint8)
    levels[side // 3, side // 2] = 255, 0, 0
    for image in (levels, encoded(levels, 85)):
        assert not any(bool(has_structure(as_read(image, size))) for size in (64, 224))


def test_scenes_of_low_contrast_and_small_objects_have_structure():
    scenes = open_source("world:shapes?count=40&size=96").read(np.arange(40)).images.transpose(0, 2, 3, 1)
    faint = (128 + 0.2 * (scenes - scenes.mean((1, 2, 3), keepdims=True))).round().clip(0, 255).astype(np.uint8)
    small = np.full((100, 100, 3), 120, np.uint8)
    small[30:42, 55:67] = 80, 160, 100
    noisy = (small + np.random.default_rng(0).normal(0, 5, small.shape)).round().clip(0, 255).astype(np.uint8)
    for size in (64, 224):
        assert all(bool(has_structure(as_read(levels, size))) for levels in (*faint, small, noisy, encoded(noisy, 50)))
