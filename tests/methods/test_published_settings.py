"""Loss scales and views of the papers' settings, against the authors' code written out."""

from dataclasses import replace
from inspect import signature

import pytest
import torch
from torch.nn.functional import normalize
from torch.testing import assert_close

from selfsight.backbones.image.resnet import resnet_tiny
from selfsight.core.clock import Clock
from selfsight.core.views import Views
from selfsight.data.views.image.blur import Blur
from selfsight.data.views.image.colour import Jitter
from selfsight.methods.distillation.byol import BYOL
from selfsight.methods.distillation.dinov2 import DINOv2
from selfsight.methods.distillation.simsiam import SimSiam
from selfsight.methods.table import method_class
from selfsight.objectives.spread import nearest_spread

from small import trial, world


def views() -> Views:
    one, other = torch.randn(2, 6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return Views((one, other), index=torch.arange(6))


def test_the_gradient_of_simsiam_is_the_published_one() -> None:
    torch.manual_seed(0)
    method = SimSiam(resnet_tiny(size=32), dim=16, bottleneck=8)
    given = views()
    weight = method.projector[0].weight
    (found,) = torch.autograd.grad(method(given, Clock(0, 0, 10)).loss, weight)
    z1, z2 = (method.projector(method.backbone(view).pooled) for view in given.large)

    def negative_cosine(p: torch.Tensor, z: torch.Tensor) -> torch.Tensor:  # D of algorithm 1
        return -(normalize(p, dim=1) * normalize(z.detach(), dim=1)).sum(1).mean()

    published = negative_cosine(method.guess(z1), z2) / 2 + negative_cosine(method.guess(z2), z1) / 2
    assert_close(found, torch.autograd.grad(published, weight)[0], rtol=1e-3, atol=1e-5)


def test_the_gradient_of_byol_is_the_published_one() -> None:
    torch.manual_seed(0)
    method = BYOL(resnet_tiny(size=32), hidden=16, dim=8)
    given = views()
    weight = method.projector[0].weight
    outcome = method(given, Clock(0, 0, 10))
    (found,) = torch.autograd.grad(outcome.loss, weight)
    y1, y2 = (method.guess(method.projector(method.backbone(view).pooled)) for view in given.large)
    t1, t2 = method.teacher.each(given.large)

    def regression(guess: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return (normalize(guess, dim=1) - normalize(target.detach(), dim=1)).square().sum(1)

    published = (regression(y1, t2) + regression(y2, t1)).mean()
    assert_close(outcome.loss, published)
    assert_close(found, torch.autograd.grad(published, weight)[0], rtol=1e-3, atol=1e-5)


def test_koleo_of_dinov2_is_summed_over_the_large_views() -> None:
    weight = signature(DINOv2).parameters["distance"].default
    made = trial("dinov2", world(8), options={"distance": weight})
    method = made.method.eval()
    found = method(made.views, made.clock).losses["distance"]
    masks = made.views.hints["mask"].unbind(1)
    tokens = [method.backbone.tokens(view, replace=(mask, method.blank)) for view, mask in zip(made.views.large, masks, strict=True)]
    assert_close(found, 0.1 * sum(nearest_spread(token.cls) for token in tokens))


@pytest.mark.parametrize("name", ["moco", "simsiam", "pcl"])
def test_views_of_moco_v2(name: str) -> None:
    recipe = signature(method_class(name)).parameters["recipe"].default
    for view in (recipe.first, recipe.second):
        assert view.crop.scale == (0.2, 1.0)
        assert view.jitter == Jitter(0.4, 0.4, 0.4, 0.1, p=0.8)
        assert (view.grey, view.flip, view.solarise) == (0.2, 0.5, 0)
        assert view.blur == Blur(0.5, 0.1, 2.0)


@pytest.mark.parametrize("name", ["swav", "deepcluster_v2"])
def test_views_of_swav(name: str) -> None:
    recipe = signature(method_class(name)).parameters["recipe"].default
    assert recipe.first == recipe.second
    assert (recipe.first.crop.scale, recipe.small.crop.scale, recipe.count) == ((0.14, 1.0), (0.05, 0.14), 6)
    assert recipe.small == replace(recipe.first, crop=recipe.small.crop)
    assert recipe.first.jitter == Jitter(0.8, 0.8, 0.8, 0.2, p=0.8)
    assert (recipe.first.grey, recipe.first.flip, recipe.first.blur) == (0.2, 0.5, Blur(0.5, 0.1, 2.0))
