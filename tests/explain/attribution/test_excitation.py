"""Excitation backpropagation: compared with zennit, and conservation of relevance."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.testing import assert_close
from zennit.attribution import Gradient
from zennit.composites import ExcitationBackprop

from selfsight.backbones.loading import untrained
from selfsight.core.errors import UsageError
from selfsight.explain.attribution.excitation import contrastive_excitation, excitation
from selfsight.explain.attribution.saliency import deconvnet, guided
from selfsight.explain.targets import direction

from nets import Ways, chain, logit, phi_of, pictures


def test_equals_zennit() -> None:
    net, images = chain(), pictures()
    phi = phi_of(net)
    given = phi.normalise(images).abs()
    phi.mean, phi.std = (0.0,) * 3, (1.0,) * 3
    composite = ExcitationBackprop(stabilizer=1e-20, zero_params=["bias"])
    with Gradient(model=net, composite=composite) as attributor:
        _, relevance = attributor(given.clone().requires_grad_(), torch.eye(5)[[1] * 3])
    assert torch.equal(excitation(phi, given, logit(), at=""), relevance.sum(1, keepdim=True).detach())


@pytest.mark.parametrize("way", ["plain", "in place", "functional", "clamp"])
def test_relevance_is_conserved(way: str) -> None:
    class Plain(Ways):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            low = self.pool(self.act(0, self.first(images)))
            high = self.act(1, self.second(low)).add(low)
            return self.head(high.mean((2, 3)))

    phi = phi_of(Plain(way))
    phi.mean, phi.std = (0.0,) * 3, (1.0,) * 3
    found = excitation(phi, pictures(), logit(), at="")
    assert_close(found.sum((1, 2, 3)), torch.ones(3), rtol=1e-4, atol=0)
    assert found.min() >= 0


def test_relevance_is_distributed_over_in_place_sums() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first, self.inplace = nn.Conv2d(3, 4, 1), False

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            low = self.first(images).relu()
            high = low * 2
            if self.inplace:
                high += low
            else:
                high = high + low
            return high.mean((2, 3))

    net = Branches()
    phi = phi_of(net)
    expected = excitation(phi, pictures(), logit(), at="")
    net.inplace = True
    assert torch.equal(excitation(phi, pictures(), logit(), at=""), expected)


def test_contrastive_excitation_keeps_evidence_for_one_class() -> None:
    phi = phi_of(chain()[:-1])
    phi.mean, phi.std = (0.0,) * 3, (1.0,) * 3
    one, other = direction(torch.tensor([1.0, 1, 1, 1, -1, -1, -1, -1])), direction(torch.tensor([-1.0, -1, 1, 1, 1, 1, -1, -1]))
    plain = [excitation(phi, pictures(), target, at="module.3") for target in (one, other)]
    against = [contrastive_excitation(phi, pictures(), target, at="module.3") for target in (one, other)]
    assert all(found.min() >= 0 for found in against)

    def likeness(maps: list[torch.Tensor]) -> float:
        return float(torch.nn.functional.cosine_similarity(maps[0].flatten(1), maps[1].flatten(1)).mean())

    assert likeness(against) < likeness(plain)


def test_a_residual_network_is_explained_and_a_transformer_rejected() -> None:
    phi = untrained("resnet_tiny?width=8", size=32)
    images = torch.rand(2, 3, 48, 32)
    for method in (excitation, contrastive_excitation):
        found = method(phi, images, direction(torch.randn(phi.backbone.dim)))
        assert found.shape == (2, 1, 48, 32)
        assert found.isfinite().all()
        assert found.any()
    vit = untrained("vit_nano?blocks=2", size=32)
    with pytest.raises(UsageError, match="not negative"):
        excitation(vit, torch.rand(1, 3, 32, 32), direction(torch.randn(vit.backbone.dim)))


class Called(nn.Module):
    """Convolution, rectifier, pooling, a branch and a linear layer, with tensors passed by position or by name."""

    def __init__(self, *, named: bool) -> None:
        super().__init__()
        self.named = named
        rng = torch.Generator().manual_seed(3)
        self.filters = nn.Parameter(torch.randn(6, 3, 3, 3, generator=rng))
        self.weight = nn.Parameter(torch.randn(4, 6, generator=rng))
        self.pooled = nn.Identity()

    def forward(self, images):
        if self.named:
            maps = functional.relu(input=functional.conv2d(input=images, weight=self.filters, padding=1))
            maps = functional.max_pool2d(input=maps, kernel_size=2)
            maps = self.pooled(torch.add(input=maps, other=functional.avg_pool2d(input=maps, kernel_size=3, stride=1, padding=1)))
            return functional.linear(input=torch.mean(input=maps, dim=(2, 3)), weight=self.weight)
        maps = functional.max_pool2d(functional.relu(functional.conv2d(images, self.filters, padding=1)), 2)
        maps = self.pooled(torch.add(maps, functional.avg_pool2d(maps, 3, 1, 1)))
        return functional.linear(torch.mean(maps, (2, 3)), self.weight)


@pytest.mark.parametrize("method", [excitation, deconvnet, guided], ids=["excitation", "deconvnet", "guided"])
def test_keyword_tensors_are_explained_like_positional_ones(method) -> None:
    images = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(4))
    ways = [phi_of(Called(named=named)) for named in (False, True)]
    at = {"at": ""} if method is excitation else {}
    plain, named = (method(phi, images, logit(1), **at) for phi in ways)
    assert plain.abs().max() > 0
    torch.testing.assert_close(plain, named)
