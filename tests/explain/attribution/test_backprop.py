"""Backward rules: compared with captum for all implementations of rectifiers, without modifying the network."""

import threading
from typing import Any

import captum.attr as captum
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from selfsight.core.errors import UsageError
from selfsight.core.hooks import eval_mode
from selfsight.explain.attribution.backprop import Rule, jacobian_bytes, reverse, same_switches, switches
from selfsight.explain.targets import direction, unit

from nets import CLASSES, WAYS, Ways, chain, logit, phi_of, pictures

pytestmark = [
    pytest.mark.filterwarnings("ignore:Input Tensor:UserWarning"),
    pytest.mark.filterwarnings("ignore:Setting backward hooks:UserWarning"),
]
ORACLES: dict[Rule, Any] = {"gradient": captum.Saliency, "deconvnet": captum.Deconvolution, "guided": captum.GuidedBackprop}


@pytest.mark.parametrize("rule", ORACLES)
@pytest.mark.parametrize("way", WAYS)
def test_equals_captum_for_any_implementation_of_rectifiers(way: str, rule: Rule) -> None:
    plain, net = Ways("plain").eval(), Ways(way).eval()
    phi, images = phi_of(net), pictures()
    more = {"abs": False} if rule == "gradient" else {}
    expected = ORACLES[rule](plain).attribute(phi.normalise(images), target=1, **more)
    found = reverse(phi, phi.normalise(images), logit(), rule=rule)
    assert_close(found.derivatives[""], expected, rtol=0, atol=0 if way not in ("clamp", "clamp_min") else 1e-9)


@pytest.mark.parametrize("rule", ORACLES)
def test_equals_captum_on_a_chain(rule: Rule) -> None:
    net, images = chain(), pictures()
    phi = phi_of(net)
    more = {"abs": False} if rule == "gradient" else {}
    expected = ORACLES[rule](net).attribute(phi.normalise(images), target=2, **more)
    assert torch.equal(reverse(phi, phi.normalise(images), logit(2), rule=rule).derivatives[""], expected)


def test_the_rules_differ() -> None:
    phi, images = phi_of(chain()), pictures()
    found = [reverse(phi, phi.normalise(images), logit(), rule=rule).derivatives[""] for rule in ORACLES]
    assert not any(torch.equal(one, other) for one, other in [found[:2], found[1:], found[::2]])


def test_relu6_is_bounded_from_above() -> None:
    class Bounded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act, self.weight = nn.ReLU6(), nn.Parameter(torch.ones(3, 1, 1))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.act(images * self.weight).flatten(1)

    phi = phi_of(Bounded(), 4)
    given = torch.tensor([-1.0, 3.0, 7.0]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    target = direction(torch.ones(48))
    guided = reverse(phi, given, target, rule="guided").derivatives[""]
    assert guided[0, :, 0, 0].tolist() == [0, 1, 0]
    assert reverse(phi, given, target, rule="deconvnet").derivatives[""].min() == 1


def test_a_network_without_rectifiers_is_rejected() -> None:
    phi = phi_of(nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU()))
    with pytest.raises(UsageError, match="has none"):
        reverse(phi, phi.normalise(pictures()), direction(torch.ones(4)), rule="guided")
    assert reverse(phi, phi.normalise(pictures()), direction(torch.ones(4))).derivatives[""].any()


def test_a_target_that_does_not_depend_on_a_layer_is_rejected() -> None:
    phi = phi_of(chain())
    with pytest.raises(UsageError, match="does not depend"):
        reverse(phi, phi.normalise(pictures()), unit("module.1", 0), at=("module.6",))
    with pytest.raises(UsageError, match="no layer"):
        reverse(phi, phi.normalise(pictures()), unit("module.99", 0))


def _state(net: nn.Module) -> tuple[Any, ...]:
    hooks = [(len(part._forward_hooks), len(part._forward_pre_hooks), len(part._backward_hooks)) for part in net.modules()]
    kept = {name: value.clone() for name, value in net.state_dict().items()}
    return (
        kept,
        [part.training for part in net.modules()],
        [p.grad for p in net.parameters()],
        [p.requires_grad for p in net.parameters()],
        hooks,
    )


@pytest.mark.parametrize("rule", ORACLES)
@pytest.mark.parametrize("fails", [False, True])
def test_the_network_is_not_modified(rule: Rule, fails: bool) -> None:
    net = Ways("in place")
    phi, images = phi_of(net), pictures()
    net.train()
    net.norm.eval()
    next(net.parameters()).grad = torch.ones_like(next(net.parameters()))
    before, given = _state(net), images.clone()
    if fails:
        with pytest.raises(UsageError):
            reverse(phi, phi.normalise(images), logit(CLASSES), rule=rule)
    else:
        reverse(phi, phi.normalise(images), logit(), rule=rule)
    after = _state(net)
    assert all(torch.equal(before[0][name], after[0][name]) for name in before[0])
    assert before[1] == after[1]
    assert [None if g is None else g.sum() for g in before[2]] == [None if g is None else g.sum() for g in after[2]]
    assert before[3:] == after[3:]
    assert torch.equal(images, given)
    assert not images.requires_grad


def test_threads_do_not_mix_their_rules() -> None:
    phi, images = phi_of(Ways("functional")), pictures(8, 32)
    alone = {rule: reverse(phi, phi.normalise(images), logit(), rule=rule).derivatives[""] for rule in ORACLES}
    wrong: list[str] = []

    def work(rule: Rule) -> None:
        for _ in range(20):
            if not torch.equal(reverse(phi, phi.normalise(images), logit(), rule=rule).derivatives[""], alone[rule]):
                wrong.append(rule)

    threads = [threading.Thread(target=work, args=(rule,)) for rule in ORACLES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_eval_mode_restores_each_module() -> None:
    net = chain().train()
    net[1].eval()
    modes: list[bool] = []

    def fail() -> None:
        with eval_mode(net):
            modes.extend(part.training for part in net.modules())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not any(modes)
    assert [part.training for part in net] == [number != 1 for number in range(len(net))]


def test_the_backward_pass_is_linear_in_the_output_gradient() -> None:
    phi, images = phi_of(Ways("plain")), pictures()
    one, two = torch.eye(CLASSES)[0], torch.eye(CLASSES)[1]
    parts = [reverse(phi, phi.normalise(images), direction(vector)).derivatives[""] for vector in (one, two, one + 3 * two)]
    assert_close(parts[0] + 3 * parts[1], parts[2], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("way", ["plain", "in place", "functional", "clamp"])
def test_masks_and_switches_determine_the_gradient(way: str) -> None:
    phi, images = phi_of(Ways(way)), pictures()
    found = switches(phi, images)
    assert len(found.open) == 3
    assert len(found.places) == 1
    assert found.bits == 3 * (8 * 256 + 8 * 64 + 8 * 64) + 3 * 8 * 64 * 2
    other = pictures(3).flip(0).flip(3)
    with same_switches(found):
        replayed = reverse(phi, phi.normalise(other), logit()).derivatives[""]
    assert torch.equal(replayed, reverse(phi, phi.normalise(images), logit()).derivatives[""])
    assert not torch.equal(replayed, reverse(phi, phi.normalise(other), logit()).derivatives[""])


def test_size_of_the_jacobian() -> None:
    phi = phi_of(chain())
    whole, product = jacobian_bytes(phi, "module.1")
    assert whole == 4 * (8 * 16 * 16) * (3 * 16 * 16)
    assert product == 4 * 3 * 16 * 16
