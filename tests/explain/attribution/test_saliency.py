"""Attribution: compared with captum where it implements the same rule, and properties of each method."""

import captum.attr as captum
import pytest
import timm.models.swin_transformer
import torch
from torch import nn
from torch.testing import assert_close

from selfsight.backbones.loading import load_representation, untrained
from selfsight.backbones.pretrained import TimmBackbone
from selfsight.core.errors import UsageError
from selfsight.core.hooks import capture_activations
from selfsight.core.representation import Representation
from selfsight.explain.attribution import integrated
from selfsight.explain.attribution import saliency as ours
from selfsight.explain.targets import Target, code, direction

from nets import Ways, chain, logit, phi_of, pictures

pytestmark = pytest.mark.filterwarnings("ignore:Input Tensor:UserWarning")


@pytest.mark.parametrize("layer", ["3", "6"])
def test_grad_cam_and_linear_approximation_equal_captum(layer: str) -> None:
    net, images = chain(), pictures()
    phi = phi_of(net)
    given = phi.normalise(images)
    cam = captum.LayerGradCam(net, net[int(layer)]).attribute(given, target=1, relu_attributions=True)
    expected = captum.LayerAttribution.interpolate(cam, (16, 16), interpolate_mode="bilinear")
    found = ours.saliency(phi, images, logit(), at=f"module.{layer}", combine=ours._positive_sum)
    assert torch.equal(found, expected.detach())
    linear = captum.LayerGradientXActivation(net, net[int(layer)]).attribute(given, target=1).sum(1, keepdim=True)
    expected = captum.LayerAttribution.interpolate(linear, (16, 16), interpolate_mode="bilinear")
    assert torch.equal(ours.linear_approximation(phi, images, logit(), at=f"module.{layer}"), expected.detach())


def test_the_deepest_feature_map_before_a_classifier_is_used() -> None:
    phi, images = phi_of(chain()), pictures()
    assert ours.maps_before(phi, logit())[-1] == "module.7"
    assert ours.maps_before(phi, direction(torch.ones(8), layer="module.3"))[-1] == "module.3"
    found = ours.saliency(phi, images, logit(), at=None, combine=ours._positive_sum)
    assert torch.equal(found, ours.saliency(phi, images, logit(), at="module.7", combine=ours._positive_sum))
    vit = untrained("vit_tiny", size=32, seed=0)
    assert ours.maps_before(vit, direction(torch.ones(vit.backbone.dim)))[-1] == vit.layers[-2]
    with pytest.raises(UsageError, match="no layer with a map"):
        ours.saliency(phi_of(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 5)), 8), pictures(1, 8), logit(), at=None)


def test_gradient_times_input_equals_captum() -> None:
    net, images = chain(), pictures()
    phi = phi_of(net)
    expected = captum.InputXGradient(net).attribute(phi.normalise(images), target=1).sum(1, keepdim=True)
    assert torch.equal(ours.gradient_times_input(phi, images, logit()), expected.detach())


def test_integrated_gradients_equal_captum_with_the_same_rule() -> None:
    net, images = chain(), pictures()
    phi = phi_of(net)
    given = phi.normalise(images)
    expected = captum.IntegratedGradients(net).attribute(given, target=1, n_steps=50, method="gausslegendre")
    assert_close(integrated.path_integral(phi, given, logit(), steps=50), expected, rtol=1e-5, atol=1e-8)


def test_integrated_gradients_are_complete() -> None:
    phi, images = phi_of(Ways("plain")), pictures(6)
    given = phi.normalise(images)
    whole = ours.scores(phi, given, logit()) - ours.scores(phi, torch.zeros_like(given), logit())
    found = integrated.integrated_gradients(phi, images, logit(), steps=4).sum((1, 2, 3))
    assert ((found - whole).abs() <= 0.01 * whole.abs() + 1e-7).all()


def test_integrated_gradients_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A score that oscillates along the path is never within the tolerance."""
    phi, images = phi_of(Ways("plain")), pictures(2)
    rules, whole = [], integrated.path_integral

    def counted(*given: object, steps: int, **more: object) -> torch.Tensor:
        rules.append(steps)
        return whole(*given, steps=steps, **more) * (1 + 1 / steps)

    monkeypatch.setattr(integrated, "path_integral", counted)
    found = integrated.integrated_gradients(phi, images, logit(), error=1e-9, steps=4, most=16)
    assert rules == [4, 8, 16]
    errors = integrated.completeness_error(phi, images, logit(), found)
    assert_close(errors, torch.full_like(errors, 1 / 16), rtol=0.1, atol=0)
    rules.clear()
    integrated.integrated_gradients(phi, images, logit(), error=1e-9, steps=32, most=16)
    assert rules == [16]


@pytest.mark.parametrize(
    ("network", "side", "nodes"),
    [
        ("resnet_tiny", 32, 1024),
        ("timm:resnet18", 224, 64),
        ("timm:resnet50", 224, 28),
        ("timm:vit_small_patch16_224", 224, 25),
        ("timm:vit_base_patch16_224", 224, 8),
    ],
)
def test_larger_networks_have_fewer_nodes(network: str, side: int, nodes: int) -> None:
    """All cost at most as much as 64 forward and backward passes of a ResNet-18, so that four images of 224 px take minutes on a CPU."""
    assert integrated._nodes(load_representation(f"untrained:{network}", size=side), side) == nodes


def test_gradient_times_input_is_exact_for_a_linear_network() -> None:
    torch.manual_seed(0)
    phi = phi_of(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 5, bias=False)), 8)
    images = pictures(2, 8)
    whole = ours.scores(phi, phi.normalise(images), logit())
    for method in (ours.gradient_times_input, integrated.integrated_gradients):
        assert_close(method(phi, images, logit()).sum((1, 2, 3)), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("window", "stride"), [(5, 3), (4, 4), (16, 1), (3, 1)])
def test_occlusion_equals_captum(window: int, stride: int) -> None:
    net, images = chain(), pictures(2)
    phi = phi_of(net)
    sizes = {"sliding_window_shapes": (3, window, window), "strides": (3, stride, stride)}
    expected = captum.Occlusion(net).attribute(phi.normalise(images), **sizes, baselines=0, target=1)[:, :1]
    assert_close(ours.occlusion(phi, images, logit(), window=window, stride=stride), expected, rtol=1e-5, atol=1e-8)


def test_occlusion_covers_every_pixel_of_any_shape() -> None:
    phi = phi_of(chain())
    tall = torch.rand(2, 3, 24, 13)
    assert ours.occlusion(phi, tall, logit(), window=5, stride=4).isfinite().all()
    with pytest.raises(UsageError, match="exceeds the window"):
        ours.occlusion(phi, tall, logit(), window=2, stride=4)


def test_smooth_gradients_are_deterministic_for_any_batching(monkeypatch: pytest.MonkeyPatch) -> None:
    phi, images = phi_of(chain()), pictures(5)
    whole = ours.smooth_grad(phi, images, logit(), samples=3)
    assert torch.equal(whole, ours.smooth_grad(phi, images, logit(), samples=3))
    assert not torch.equal(whole, ours.smooth_grad(phi, images, logit(), samples=3, seed=1))
    monkeypatch.setattr(ours, "CHUNK", 2)
    assert_close(whole, ours.smooth_grad(phi, images, logit(), samples=3))
    still = ours.smooth_grad(phi, images, logit(), samples=2, noise=0.0)
    assert_close(still, ours.gradient(phi, images, logit()))
    assert_close(ours.var_grad(phi, images, logit(), samples=2, noise=0.0), torch.zeros_like(still), atol=1e-7, rtol=0)


def test_batch_size_depends_on_the_device() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert [ours.at_once((side, side), cpu) for side in (8, 32, 96, 224)] == [128, 32, 4, 4]
    assert [ours.at_once((side, side), cuda) for side in (8, 32, 224, 2000)] == [128, 128, 41, 1]
    parts = [(rows.tolist(), len(part)) for rows, part in ours.parts(torch.zeros(10, 3, 96, 96), cpu)]
    assert parts == [([0, 1, 2, 3], 4), ([4, 5, 6, 7], 4), ([8, 9], 2)]


def test_rise_finds_the_only_relevant_region() -> None:
    def read(rows: torch.Tensor) -> torch.Tensor:
        return rows.view(-1, 3, 24, 24)[:, :, 4:8, 14:18].mean((1, 2, 3))[:, None]

    phi = phi_of(nn.Sequential(nn.Conv2d(3, 3, 1), nn.Flatten()), 24)
    with torch.no_grad():
        phi.backbone.module[0].weight.copy_(torch.eye(3)[:, :, None, None])
        phi.backbone.module[0].bias.zero_()
    found = ours.rise(phi, torch.full((1, 3, 24, 24), 1.0), Target("corner", read), masks=1500)[0, 0]
    row, column = divmod(int(found.argmax()), 24)
    assert abs(row - 5.5) <= 3
    assert abs(column - 15.5) <= 3
    assert found[18:, :8].max() < 0.85 * found.max()


def test_attention_rollout_is_a_positive_map_of_the_image_size() -> None:
    phi = untrained("vit_nano", size=32)
    found = ours.attention_rollout(phi, torch.rand(2, 3, 32, 32), direction(torch.ones(1)))
    assert found.shape == (2, 1, 32, 32)
    assert found.min() > 0


def test_channels_last_layers_are_explained() -> None:
    swin = timm.models.swin_transformer.SwinTransformer(
        img_size=32, patch_size=2, window_size=4, embed_dim=8, depths=(1, 1), num_heads=(2, 2), num_classes=0
    )
    phi = Representation(TimmBackbone(swin.eval()), mean=(0.5,) * 3, std=(0.25,) * 3, size=32)
    images, layer = torch.rand(2, 3, 32, 32), phi.layers[0]
    given = phi.normalise(images)
    with capture_activations(phi.backbone, layer) as captured:
        score = (phi.backbone(given).pooled @ torch.ones(16)).sum()
    assert captured[layer].shape == (2, 16, 16, 8)
    (slope,) = torch.autograd.grad(score, captured[layer])
    expected = (captured[layer] * slope.mean((1, 2), keepdim=True)).sum(3).clamp(min=0)
    found = ours.saliency(phi, images, direction(torch.ones(16)), at=layer, combine=ours._positive_sum)
    assert_close(found, ours.enlarged(expected[:, None], (32, 32)).detach())
    assert_close(code(phi, images, layer).score(phi, given), torch.ones(2))


@pytest.mark.parametrize(
    "spec", ["resnet_tiny?width=8", "vit_nano?blocks=2", "vit_nano?blocks=2&pool=mean", "timm:test_convnext", "timm:test_vit2?depth=2"]
)
def test_every_method_that_needs_no_rectifier_works_on_any_network_and_shape(spec: str) -> None:
    phi = untrained(spec, size=32)
    images = torch.rand(2, 3, 48, 32)
    target = direction(torch.randn(phi.backbone.dim))
    quick = {
        "gradient": ours.gradient(phi, images, target),
        "product": ours.gradient_times_input(phi, images, target),
        "cam": ours.grad_cam(phi, images, target),
        "linear": ours.linear_approximation(phi, images, target),
        "smooth": ours.smooth_grad(phi, images, target, samples=2),
        "occlusion": ours.occlusion(phi, images, target, window=16, stride=16),
        "rise": ours.rise(phi, images, target, masks=8),
    }
    for name, found in quick.items():
        assert found.shape == (2, 1, *images.shape[-2:]), name
        assert found.isfinite().all(), name
        assert found.any(), name
        assert not found.requires_grad, name
