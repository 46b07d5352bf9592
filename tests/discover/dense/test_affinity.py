"""Affinity by features of every facet, and by colour."""

import pytest
import torch

from selfsight.backbones.loading import load_representation
from selfsight.core.errors import UsageError
from selfsight.discover.dense.affinity import affinity_graph, chunked_graph, colour_affinity, cosines, location_features


@pytest.fixture(scope="module")
def pictures():
    return torch.rand(3, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def test_colour_affinity_is_symmetric_nearest_neighbours(pictures):
    rows, columns = 8, 12
    found = colour_affinity(pictures, rows, columns)
    count = rows * columns
    torch.testing.assert_close(found, found.transpose(1, 2))
    assert found.sum((1, 2)).tolist() == [60.0 * count] * 3
    assert bool((found.diagonal(dim1=1, dim2=2) == 4).all())
    assert float(found.max()) == 4
    torch.testing.assert_close(found, torch.stack([_slowly(one, rows, columns) for one in pictures]))


def _slowly(picture: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Reference implementation with loops over locations."""
    tiles = picture.unflatten(1, (rows, -1)).unflatten(3, (columns, -1)).mean((2, 4))
    found = torch.zeros(rows * columns, rows * columns)
    for most, weight in ((20, 2.0), (10, 0.1)):
        points = [
            torch.cat([tiles[:, row, column], weight * torch.tensor([column / (columns - 1), row / (rows - 1)])])
            for row in range(rows)
            for column in range(columns)
        ]
        for i, here in enumerate(points):
            distances = torch.stack([(here - there).norm() for there in points])
            for j in distances.argsort()[:most].tolist():
                found[i, j] += 1
                found[j, i] += 1
    return found


@pytest.mark.parametrize("spec", ["untrained:timm:test_vit2?depth=2", "untrained:vit_nano?blocks=2&registers=2"])
def test_keys_equal_those_of_the_attention_layer(spec, pictures):
    phi = load_representation(spec, size=64)
    names = [name for name, module in phi.backbone.named_modules() if hasattr(module, "qkv")]
    captured = []
    layer = phi.backbone.get_submodule(f"{names[-1]}.qkv")
    handle = layer.register_forward_hook(lambda module, given, output: captured.append(output))
    shown = pictures[:, :, :, :64]
    with torch.no_grad():
        phi.features(shown)
    handle.remove()
    prefix = phi.backbone.prefix
    side = 64 // phi.backbone.stride
    for place, facet in enumerate(("query", "key", "value")):
        expected = captured[0].chunk(3, 2)[place][:, prefix:].transpose(1, 2).unflatten(2, (side, side))
        torch.testing.assert_close(location_features(phi, shown, facet=facet), expected)
    torch.testing.assert_close(location_features(phi, shown), location_features(phi, shown, facet="key"))


def test_a_network_without_attention_has_only_feature_maps(pictures):
    phi = load_representation("untrained:resnet_tiny?width=8", size=32)
    torch.testing.assert_close(location_features(phi, pictures), phi.grid(pictures).detach())
    assert location_features(phi, pictures, layer="stages.1").shape[2:] == (32, 48)
    with pytest.raises(UsageError, match="no attention"):
        location_features(phi, pictures, facet="key")
    with pytest.raises(UsageError, match="no values to choose"):
        location_features(phi, pictures, layer="stages.1", facet="value")
    with pytest.raises(UsageError, match="no block 7"):
        location_features(load_representation("untrained:vit_nano", size=32), pictures, facet="key", block=7)


def test_recomputed_weights_equal_stored_ones():
    features = torch.randn(2, 8, 5, 7, generator=torch.Generator().manual_seed(0))
    held, again = affinity_graph(cosines(features)), chunked_graph(features, rows=8)
    torch.testing.assert_close(held.degrees, again.degrees)
    rows = torch.randn(2, 3, 35, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(held.times(rows), again.times(rows))
