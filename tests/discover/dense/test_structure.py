import numpy as np
import pytest
import torch
from torch import Tensor

from selfsight.data.opening import open_source
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
