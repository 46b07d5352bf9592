"""Histograms of oriented gradients: against scikit-image, and as a network that can be inverted."""

import pytest
import torch
from skimage.feature import hog
from torch.testing import assert_close

from selfsight.backbones.image.hog import HOG
from selfsight.backbones.loading import load_representation
from selfsight.core.errors import UsageError


@pytest.mark.parametrize(("cell", "orientations"), [(8, 9), (4, 6)])
def test_hog_equals_scikit_image(cell: int, orientations: int) -> None:
    images = torch.rand(2, 3, 32, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    network = HOG(size=32, cell=cell, orientations=orientations, soft=False).double()
    found = network(images).grid  # directions, then the four cells of a block
    for one, image in zip(found, images, strict=True):
        expected = hog(
            image.permute(1, 2, 0).numpy(),
            orientations=orientations,
            pixels_per_cell=(cell, cell),
            cells_per_block=(2, 2),
            channel_axis=2,
            feature_vector=False,
        )
        blocks = one.unflatten(0, (orientations, 2, 2)).permute(3, 4, 1, 2, 0)
        assert_close(blocks, torch.from_numpy(expected), rtol=0, atol=1e-7)  # which sums in single precision


def test_weights_of_a_gradient_sum_to_one() -> None:
    network = HOG(size=16)
    down, across = torch.randn(2, 1, 1, 5, 5)
    assert_close(network._direction_weights(down, across).sum(1), torch.ones(1, 5, 5))


def test_is_a_representation_by_name() -> None:
    phi = load_representation("untrained:hog?cell=4", size=32)
    assert phi.layers == ("blocks",)
    assert phi.grid(torch.rand(2, 3, 32, 32), "blocks").shape == (2, 36, 7, 7)
    with pytest.raises(UsageError, match="no block"):
        load_representation("untrained:hog?cell=32", size=32)
