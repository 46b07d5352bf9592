"""timm's models and any module as backbones."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.testing import assert_close

from selfsight.backbones import loading
from selfsight.backbones.image.resnet import resnet_tiny
from selfsight.backbones.loading import load_representation
from selfsight.backbones.pretrained import published_size, timm_backbone, wrap_backbone
from selfsight.backbones.table import build_backbone
from selfsight.core.errors import EnvironmentFault, UsageError
from selfsight.methods.contrastive.simclr import SimCLR
from selfsight.workflows.train import run


@pytest.mark.parametrize(
    ("name", "size", "cells", "prefix"),
    [
        ("resnet18", 64, 2, 0),
        ("mobilenetv3_small_050", 64, 2, 0),
        ("vit_tiny_patch16_224", 64, 4, 1),
        ("vit_small_patch14_reg4_dinov2", 56, 4, 5),
        ("swin_tiny_patch4_window7_224", 64, 2, 0),
    ],
)
def test_timm(name: str, size: int, cells: int, prefix: int) -> None:
    network = timm_backbone(name, pretrained=False, size=size, options={"depth": 2} if name.startswith("vit") else None).eval()
    with torch.no_grad():
        features = network(torch.randn(2, 3, size, size))
    assert features.pooled.shape == (2, network.dim)
    assert features.grid.shape[2:] == (cells, cells)
    assert network.stride == size // cells
    assert network.prefix == prefix
    names = dict(network.named_modules())
    assert network.layers
    assert all(layer in names for layer in network.layers)


def test_a_local_folder(tmp_path: Path) -> None:
    before = timm_backbone("resnet18", pretrained=False).eval()
    config = {
        "architecture": "resnet18",
        "num_classes": 0,
        "pretrained_cfg": {"input_size": [3, 64, 64], "mean": [0.5] * 3, "std": [0.2] * 3},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(before.model.state_dict(), tmp_path / "model.safetensors")
    after = timm_backbone(f"local-dir:{tmp_path}", pretrained=True).eval()
    images = torch.randn(1, 3, 64, 64)
    assert_close(after(images).pooled, before(images).pooled)
    assert after.mean == (0.5, 0.5, 0.5)
    loaded = load_representation(f"timm:local-dir:{tmp_path}")
    assert (loaded.size, loaded.mean, loaded.std) == (64, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    with pytest.raises(UsageError, match="does not exist"):
        timm_backbone("local-dir:/nowhere", pretrained=True)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("resnet18", 224),
        ("test_vit?depth=2", 160),
        ("efficientnet_b1", 240),
        ("swinv2_tiny_window8_256", 256),
        ("convnext_base.fb_in22k_ft_in1k_384", 384),
        ("vit_small_patch14_reg4_dinov2", 518),
        ("vit_small_patch14_reg4_dinov2?img_size=56", 56),
    ],
)
def test_published_size(name: str, size: int) -> None:
    assert published_size(name) == size


@pytest.mark.parametrize(
    ("name", "size", "cells", "mean"), [("test_vit", 160, 10, (0.5,) * 3), ("mobilenetv3_small_050", 224, 7, (0.485, 0.456, 0.406))]
)
def test_loaded_models_have_their_own_size(
    monkeypatch: pytest.MonkeyPatch, name: str, size: int, cells: int, mean: tuple[float, ...]
) -> None:
    monkeypatch.setattr(loading, "build_backbone", lambda spec, **more: build_backbone(spec, **more | {"pretrained": False}))
    phi = load_representation(f"timm:{name}")
    assert (phi.size, phi.mean) == (size, mean)
    with torch.no_grad():
        assert phi.features(torch.zeros(1, 3, size, size)).grid.shape[2:] == (cells, cells)
    assert load_representation(f"timm:{name}", size=96).size == 96


def test_weights_of_a_model_fit_a_backbone_of_another_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "build_backbone", lambda spec, **more: build_backbone(spec, **more | {"pretrained": False}))
    method: Any = SimCLR(build_backbone("timm:test_vit", size=64))
    before = method.backbone.model.pos_embed.clone()
    run._initialise(method, "timm:test_vit", 64)  # its own size is 160
    assert not torch.equal(method.backbone.model.pos_embed, before)


def test_unavailable_models_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="resnet18"):
        timm_backbone("resnet18x", pretrained=False)

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    with pytest.raises(EnvironmentFault, match="local-dir"):
        timm_backbone("resnet18", pretrained=True)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: "copy.safetensors")
    monkeypatch.setattr("timm.create_model", refuse)
    with pytest.raises(EnvironmentFault, match="no network"):
        timm_backbone("resnet18", pretrained=True)


def test_any_module() -> None:
    maps = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 6, 3, 2, 1))
    network = wrap_backbone(maps, size=32)
    assert (network.dim, network.stride, network.channels) == (6, 4, 1)
    assert network.layers == ("module.0", "module.1", "module.2")
    assert network(torch.randn(2, 1, 32, 48)).grid.shape == (2, 6, 8, 12)
    vectors = wrap_backbone(nn.Sequential(nn.Flatten(), nn.Linear(48, 5)), size=4)
    assert vectors(torch.randn(2, 3, 4, 4)).pooled.shape == (2, 5)
    ours = resnet_tiny()
    assert wrap_backbone(ours, size=32) is ours


def test_tokens() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patch = nn.Conv2d(3, 7, 8, 8)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            patches = self.patch(images).flatten(2).transpose(1, 2)
            return torch.cat([patches.mean(1, keepdim=True), patches], 1)

    network = wrap_backbone(Tokens(), size=32)
    features = network(torch.randn(2, 3, 32, 64))
    assert features.grid.shape == (2, 7, 4, 8)
    assert network.stride == 8
