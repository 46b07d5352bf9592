"""Captured activations, and representations."""

import threading

import pytest
import torch
from torch import Tensor, nn

from selfsight.backbones.table import build_backbone
from selfsight.core.errors import UsageError
from selfsight.core.hooks import capture_activations, find_layer, tensor_of
from selfsight.core.pixels import as_normalised
from selfsight.core.representation import Backbone, Features, Representation
from selfsight.explain.attribution.backprop import reverse
from selfsight.explain.targets import unit


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Sequential(nn.Linear(4, 2)))


def hooks(module: nn.Module) -> int:
    return sum(len(layer._forward_hooks) + len(layer._forward_pre_hooks) for layer in module.modules())


def test_activations_of_outputs_and_inputs_are_captured():
    net, x = network(), torch.randn(5, 3)
    with capture_activations(net, "0", "2.0") as captured:
        y = net(x)
    torch.testing.assert_close(captured["0"], net[0](x))
    torch.testing.assert_close(captured["2.0"], y)
    with capture_activations(net, "2.0", inputs=True) as captured:
        net(x)
    torch.testing.assert_close(captured["2.0"], net[0](x).relu())


def test_activations_are_edited():
    net, x = network(), torch.randn(5, 3)
    with capture_activations(net, "1", edit={"0": lambda value: value * 0 - 1}) as captured:
        edited = net(x)
    assert captured["1"].eq(0).all()
    torch.testing.assert_close(edited, net[2](torch.zeros(5, 4)))
    assert not torch.equal(net(x), edited)


def test_hooks_are_removed_after_an_exception():
    net, x = network(), torch.randn(5, 3)
    before = net(x)

    def breaks(value: Tensor) -> Tensor:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), capture_activations(net, "0", edit={"1": breaks}):
        net(x)
    assert hooks(net) == 0
    torch.testing.assert_close(net(x), before, rtol=0, atol=0)
    with pytest.raises(UsageError), capture_activations(net, "0", "nothing"):
        pass
    assert hooks(net) == 0


def test_other_threads_are_not_captured():
    net, x, other = network(), torch.zeros(1, 3), torch.ones(7, 3)
    expected, found = net(other), []
    with capture_activations(net, "0", edit={"2": lambda value: value + 100}) as captured:
        net(x)
        thread = threading.Thread(target=lambda: found.append(net(other)))
        thread.start()
        thread.join()
        assert len(captured["0"]) == 1
    torch.testing.assert_close(found[0], expected)


def test_missing_layer_is_rejected_with_a_suggestion():
    with pytest.raises(UsageError, match=r"no layer 'stages.7'") as refusal:
        find_layer(build_backbone("resnet_tiny", size=16), "stages.7")
    assert "stages." in refusal.value.remedy


def phi(spec: str, size: int = 16) -> Representation:
    torch.manual_seed(0)
    return Representation(build_backbone(spec, size=size), mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), size=size, name=spec, spec=spec)


def pictures(count: int = 3, height: int = 16, width: int = 16) -> Tensor:
    return torch.randint(0, 256, (count, 3, height, width), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def test_uint8_and_float_images_are_equivalent():
    found, images = phi("resnet_tiny"), pictures()
    torch.testing.assert_close(found.pooled(images), found.pooled(images / 255))
    slow = (images[0, 1, 2, 3].item() / 255 - 0.5) / 0.3
    assert float(found.normalise(images)[0, 1, 2, 3]) == pytest.approx(slow, rel=1e-5)
    assert not found.backbone.training


@pytest.mark.parametrize("spec", ["resnet_tiny", "vit_nano", "vit_nano?registers=2&pool=mean", "dcgan?width=8"])
def test_every_layer_has_a_vector(spec):
    found, images = phi(spec, 32), pictures(2, 32, 32)
    assert found.layers
    assert len(set(found.layers)) == len(found.layers)
    for layer in found.layers:
        vectors = found.pooled(images, layer)
        assert vectors.shape[0] == 2
        assert vectors.ndim == 2
        assert torch.isfinite(vectors).all()
    assert found.pooled(images).shape == (2, found.backbone.dim)
    side = 32 // found.backbone.stride
    assert found.grid(images).shape[2:] == (side, side)


def test_layers_of_a_convolutional_network():
    found, images = phi("resnet_tiny"), pictures()
    grid = found.grid(images, "stages.1")
    assert grid.shape == (3, 64, 8, 8)
    torch.testing.assert_close(found.pooled(images, "stages.1"), grid.mean((2, 3)))
    torch.testing.assert_close(found.pooled(images), found.grid(images).mean((2, 3)))
    torch.testing.assert_close(found.grid(images, "stages.3"), found.grid(images))


@pytest.mark.parametrize("registers", [0, 3])
def test_layers_of_a_transformer_exclude_prefix_tokens(registers):
    found, images = phi(f"vit_nano?registers={registers}"), pictures(2, 16, 24)
    grid = found.grid(images, "blocks.1")
    assert grid.shape == (2, 192, 4, 6)
    with capture_activations(found.backbone, "blocks.1") as captured:
        found.features(images)
    tokens = captured["blocks.1"]
    assert tokens.shape[1] == 1 + registers + 24
    torch.testing.assert_close(grid[:, :, 1, 2], tokens[:, 1 + registers + 6 + 2])
    torch.testing.assert_close(found.pooled(images, "blocks.1"), tokens[:, 0])
    mean = phi(f"vit_nano?registers={registers}&pool=mean")
    torch.testing.assert_close(mean.pooled(images, "blocks.1"), mean.grid(images, "blocks.1").mean((2, 3)))
    torch.testing.assert_close(mean.pooled(images), mean.grid(images).mean((2, 3)))


@pytest.mark.parametrize("block", [0, -1])
def test_attention_equals_the_explicit_computation(block):
    found, images = phi("vit_nano?registers=1"), pictures(2)
    attention = found.attention(images, block)
    assert attention.shape == (2, 3, 18, 18)
    torch.testing.assert_close(attention.sum(3), torch.ones(2, 3, 18))
    layer = found.backbone.blocks[block].attn
    with torch.no_grad(), capture_activations(found.backbone, f"blocks.{block % 4}.attn", inputs=True) as captured:
        found.features(images)
        given = captured[f"blocks.{block % 4}.attn"]
        spoken = layer(given)
        values = layer.qkv(given).view(2, 18, 3, 3, 64)[:, :, 2].transpose(1, 2)
        explicit = layer.proj((attention @ values).transpose(1, 2).reshape(2, 18, 192))
        queries, keys = (layer.qkv(given).view(2, 18, 3, 3, 64)[0, :, part, 1] for part in (0, 1))
    torch.testing.assert_close(explicit, spoken, rtol=1e-4, atol=1e-5)
    slow = torch.stack([torch.stack([(queries[i] * keys[j]).sum() / 8 for j in range(18)]).softmax(0) for i in range(18)])
    torch.testing.assert_close(attention[0, 1], slow, rtol=1e-4, atol=1e-6)


def test_attention_of_other_networks_is_rejected():
    with pytest.raises(UsageError, match="no attention"):
        phi("resnet_tiny").attention(pictures())


class Flat(Backbone):
    """No feature maps after the first layer."""

    dim, stride, channels, layers = 4, 1, 3, ("see", "say")

    def __init__(self) -> None:
        super().__init__()
        self.see, self.say = nn.Conv2d(3, 4, 1), nn.Linear(4, 4)

    def forward(self, images: Tensor) -> Features:
        grid = self.see(images)
        return Features(self.say(grid.mean((2, 3))), grid)


def test_layer_without_a_grid():
    found = Representation(Flat(), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), size=16)
    torch.testing.assert_close(found.pooled(pictures(), "say"), found.pooled(pictures()))
    with pytest.raises(UsageError, match="no spatial grid"):
        found.grid(pictures(), "say")


def test_tensor_in_the_output_of_a_layer():
    value = torch.zeros(2, 3)
    assert tensor_of(value) is value
    assert tensor_of((value, None)) is value
    assert tensor_of([(value,)]) is value


def test_gradient_reaches_the_image():
    images = torch.rand(2, 3, 16, 16, requires_grad=True)
    phi("resnet_tiny").pooled(images).sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


class InPlace(Backbone):
    """Two convolutions, each followed by a rectifier."""

    dim, stride, channels, layers = 4, 1, 3, ("conv", "second")

    def __init__(self, *, inplace: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.relu = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace)
        self.second, self.relu2 = nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(inplace)

    def forward(self, images: Tensor) -> Features:
        grid = self.relu2(self.second(self.relu(self.conv(images))))
        return Features(grid.mean((2, 3)), grid)


@pytest.mark.parametrize("layer", ["conv", "second"])
def test_operations_in_place_after_a_layer_do_not_change_what_is_read(layer: str):
    """For features, targets and derivatives: what a network without operations in place gives."""
    images = torch.rand(2, 3, 8, 8)
    found = []
    for inplace in (False, True):
        backbone = InPlace(inplace=inplace)
        phi = Representation(backbone, mean=(0.0,) * 3, std=(1.0,) * 3, size=8)
        with capture_activations(backbone, "relu", "relu2", inputs=True) as captured:
            backbone(images)
        gradient = reverse(phi, as_normalised(images), unit("second", 1), at=(layer, ""))
        guided = reverse(phi, as_normalised(images), unit("second", 1), at=(layer, ""), rule="guided")
        read = [phi.grid(images, layer), phi.pooled(images, layer), *captured.values(), gradient.score, guided.score]
        found.append([*read, *gradient.derivatives.values(), *guided.derivatives.values()])
    assert (found[0][0] < 0).any()
    for plain, inplace in zip(*found, strict=True):
        torch.testing.assert_close(inplace, plain, rtol=0, atol=1e-6)


def test_layers_of_the_own_network_are_read_before_its_rectifiers():
    phi = Representation(build_backbone("resnet_tiny?width=8", size=32), mean=(0.5,) * 3, std=(0.2,) * 3, size=32)
    phi.backbone.eval()
    images = torch.rand(2, 3, 32, 32)
    stem, block = phi.backbone.get_submodule("stem"), phi.backbone.get_submodule("stages.0.0")
    with torch.no_grad():
        first = stem.get_submodule("1")(stem.get_submodule("0")(phi.normalise(images)))
        second = block.get_submodule("norm1")(block.get_submodule("conv1")(stem(phi.normalise(images))))
        for layer, expected in (("stem.1", first), ("stages.0.0.norm1", second)):
            assert (expected < 0).float().mean() > 0.2
            torch.testing.assert_close(phi.grid(images, layer), expected)
