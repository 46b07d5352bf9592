"""The historic networks: their names, shapes and sizes."""

import pytest
import torch

from selfsight.backbones.image.historic import VGGM, VGGVD16, AlexNet, GoogLeNet
from selfsight.core.hooks import capture_activations
from selfsight.core.representation import Backbone

KINDS = [AlexNet, VGGM, VGGVD16, GoogLeNet]


def parameters(network: Backbone) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(("kind", "batch_norm"), [(AlexNet, False), (VGGM, True), (VGGVD16, False), (GoogLeNet, True)])
def test_small_images(kind: type[Backbone], *, batch_norm: bool) -> None:
    with torch.device("meta"):
        network = kind(size=32, batch_norm=batch_norm)
        features = network(torch.zeros(2, 3, 32, 32))
    assert features.pooled.shape == (2, network.dim)
    assert features.grid.shape[2:] == (32 // network.stride,) * 2
    features.pooled.square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize(("kind", "millions", "side"), [(AlexNet, 61.0, 13), (VGGM, 102.9, 13), (VGGVD16, 138.4, 14), (GoogLeNet, 6.0, 7)])
def test_published_sizes(kind: type[Backbone], millions: float, side: int) -> None:
    with torch.device("meta"):
        network = kind()
        assert network(torch.zeros(1, 3, 224, 224)).grid.shape[2:] == (side, side)
    assert parameters(network) / 1e6 == pytest.approx(millions, abs=0.06)


def test_layers_have_their_usual_names() -> None:
    network = AlexNet(size=32).eval()
    for name in ("conv1", "relu1", "norm1", "pool1", "conv5", "pool5", "fc6", "relu6", "fc7", "relu7", "fc8"):
        assert name in network.layers
    with torch.device("meta"):
        assert "conv5_3" in VGGVD16(size=32).layers
        assert "inception4c" in GoogLeNet(size=32).layers
        assert AlexNet(size=32, outputs=0).dim == 1024
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad(), capture_activations(network, "relu5") as captured:
        assert torch.equal(network(images).grid, captured["relu5"])


@pytest.mark.parametrize("size", [32, 96, 128])
@pytest.mark.parametrize("kind", KINDS)
def test_any_size(kind: type[Backbone], size: int) -> None:
    with torch.device("meta"):
        network = kind(size=size, channels=1)
        assert network(torch.zeros(1, 1, size, size)).pooled.shape == (1, network.dim)
        assert network(torch.zeros(1, 1, size + 32, size)).pooled.shape == (1, network.dim)
