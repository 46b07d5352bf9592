"""Results of explanations: raw maps, files, a sheet."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from selfsight.backbones.loading import untrained
from selfsight.core.errors import UsageError
from selfsight.explain.attribution.explanation import explain, score_drop
from selfsight.explain.attribution.perturbation import extremal_channels
from selfsight.explain.attribution.saliency import gradient, scores
from selfsight.explain.attribution.table import ATTRIBUTIONS
from selfsight.explain.inversion.descent import caricature, invert, invert_with_deep_prior
from selfsight.explain.synthesis.activation import deep_dream, maximise, synthesise_style
from selfsight.explain.targets import Target, direction, unit
from selfsight.render.sheet import unique_names

from nets import Ways, logit, phi_of, pictures


def test_every_registered_method_can_be_loaded() -> None:
    assert list(ATTRIBUTIONS) == sorted(ATTRIBUTIONS)
    assert all(callable(ATTRIBUTIONS.load(name)) for name in ATTRIBUTIONS)
    assert ATTRIBUTIONS.load("gradcam") is ATTRIBUTIONS.load("grad_cam")
    with pytest.raises(UsageError, match="no attribution method"):
        ATTRIBUTIONS.load("magic")


def test_a_result_keeps_raw_maps_and_says_how_it_was_made(tmp_path: Path) -> None:
    phi, images = phi_of(Ways("plain")), pictures()
    said: list[str] = []
    found = explain(phi, images, logit(), ["gradient", "gradcam"], names=["a", "b", "c"], progress=said.append)
    assert said == ["gradient of 3 images", "grad_cam of 3 images"]
    assert torch.equal(found.maps["gradient"], gradient(phi, images, logit()))
    paths = found.save(tmp_path)
    with np.load(paths[1]) as kept:
        assert np.array_equal(kept["gradient"], found.maps["gradient"].numpy())
        assert kept["images"].dtype == np.uint8
    plain = json.loads(paths[2].read_text())
    assert plain["images"] == ["a", "b", "c"]
    assert plain["methods"]["grad_cam"][0]["high"] == pytest.approx(float(found.maps["grad_cam"][0].max()))
    with Image.open(io.BytesIO(paths[0].read_bytes())) as sheet:
        assert sheet.width > sheet.height / 2 > 100


def test_the_completeness_error_of_integrated_gradients_is_stated() -> None:
    phi, images = phi_of(Ways("plain")), pictures()
    said: list[str] = []
    found = explain(phi, images, logit(), ["integrated_gradients"], progress=said.append)
    given = phi.normalise(images)
    whole = scores(phi, given, logit()) - scores(phi, torch.zeros_like(given), logit())
    expected = ((found.maps["integrated_gradients"].sum((1, 2, 3)) - whole) / whole).abs()
    errors = found.to_json()["completeness error"]
    assert errors == pytest.approx(expected.tolist(), rel=1e-2, abs=2e-6)
    assert max(errors) <= 0.01
    assert f"completeness error at most {100 * max(errors):.2g} %" in said[-1]


def test_all_selects_the_methods_that_support_the_network() -> None:
    phi = untrained("vit_nano?blocks=2", size=16)
    said: list[str] = []
    found = explain(phi, pictures(1), direction(torch.ones(phi.backbone.dim)), ["all"], names=["a"], progress=said.append)
    left = found.to_json()["left out"]
    assert set(left) == {"deconvnet", "guided", "excitation", "contrastive_excitation"}
    assert set(found.maps) | set(left) == set(ATTRIBUTIONS)
    assert sum("is skipped" in words for words in said) == 4
    with pytest.raises(UsageError):
        explain(phi, pictures(1), direction(torch.ones(phi.backbone.dim)), ["gradient", "guided"])


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["resnet_tiny", "vit_tiny?patch=16", "timm:test_convnext", "timm:test_vit2"])
def test_all_methods_run_on_any_network_and_shape(spec: str) -> None:
    phi = untrained(spec, size=64)
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    target = direction(torch.randn(phi.backbone.dim, generator=torch.Generator().manual_seed(1)))
    found = explain(phi, images, target, ["all"])
    assert all(one.shape == (2, 1, 64, 96) and bool(one.isfinite().all()) for one in found.maps.values())
    assert len(found.maps) >= 11  # rollout asks for attention, others for rectifiers
    layer = phi.layers[-2]
    assert extremal_channels(phi, images, target, layer, steps=10).masks.shape[:2] == (2, 1)
    assert invert(phi, images, layer, steps=(5, 2)).images.shape == (2, 1, 3, 64, 96)
    assert invert_with_deep_prior(phi, images, layer, steps=3).images.shape == (2, 1, 3, 64, 96)
    assert deep_dream(phi, images, layer, octaves=1, steps=2).shape == images.shape
    assert caricature(phi, images, layer, steps=(3, 0)).shape == images.shape
    assert synthesise_style(phi, images, [layer], steps=2)[0].shape == images.shape
    assert maximise(phi, unit(layer, 3), steps=3).images.shape == (1, 3, 64, 64)
    assert not any(module._forward_hooks for module in phi.backbone.modules())


def test_images_with_the_same_name_have_separate_rows() -> None:
    assert unique_names(["a", "b", "a", "a"]) == ("a", "b", "a (2)", "a (3)")


def test_hiding_the_only_relevant_region_loses_the_whole_score() -> None:
    phi = phi_of(nn.Sequential(nn.Conv2d(3, 1, 1), nn.Flatten()))

    def read(rows: torch.Tensor) -> torch.Tensor:
        return rows.view(-1, 16, 16)[:, 4:8, 4:8].std((1, 2))[:, None]

    given, target = phi.normalise(pictures(2)), Target("square", read)
    there = torch.zeros(2, 1, 16, 16)
    there[:, :, 4:8, 4:8] = 1
    assert score_drop(phi, given, target, there).tolist() == pytest.approx([1.0, 1.0], abs=0.05)
    elsewhere = torch.zeros(2, 1, 16, 16)
    elsewhere[:, :, 10:15, 10:15] = 1
    assert score_drop(phi, given, target, elsewhere).tolist() == [0.0, 0.0]
