"""Excitation backpropagation (Zhang et al. 2016, arXiv:1608.00507): the winners of each layer share what comes from above.

A layer hands its relevance down in proportion to what each input adds to it with a positive weight,

    p_i = x_i Σ_j w⁺_ij p_j / Σ_k x_k w⁺_kj

with biases left out; average pools do the same with equal weights, sums of branches with the branches, batch norm hands it on, and
rectifiers and max pools run backwards as ever. What arrives sums to what set out, wherever inputs are not negative.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Num
from torch import Tensor
from torch.overrides import TorchFunctionMode

from selfsight.core.errors import UsageError
from selfsight.core.hooks import capture_activations, eval_mode, tensor_of
from selfsight.core.representation import Representation
from selfsight.explain.attribution.saliency import Maps, enlarged, maps_before, parts
from selfsight.explain.targets import Target

__all__ = ["contrastive_excitation", "excitation"]

TINY = 1e-20
"""Keeps a share of nothing from being divided by nothing."""


class _Share(torch.autograd.Function):
    """A linear operation; on the way back its inputs share what comes from above as their positive contributions do."""

    @staticmethod
    def forward(ctx: Any, given: Tensor, run: Callable[[Tensor], Tensor], share: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.save_for_backward(given)
        ctx.share = share
        return run(given)

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> Any:
        given = ctx.saved_tensors[0].detach().requires_grad_()
        with torch.enable_grad():
            sums = ctx.share(given)
        (down,) = torch.autograd.grad(sums, given, above[0] / (sums.detach() + TINY))
        return given.detach() * down, None, None


class _Pass(torch.autograd.Function):
    """Something that relevance goes through unchanged."""

    @staticmethod
    def forward(ctx: Any, given: Tensor, output: Tensor) -> Tensor:  # noqa: ARG004
        return output.clone()

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> Any:  # noqa: ARG004
        return above[0], None


class _Split(torch.autograd.Function):
    """A sum of two branches, which share what comes from above as they share the sum."""

    @staticmethod
    def forward(ctx: Any, first: Tensor, second: Tensor) -> Tensor:
        ctx.save_for_backward(first, second)
        return first + second

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> Any:
        first, second = ctx.saved_tensors
        each = above[0] / _away(first + second)
        return (first * each).sum_to_size(first.shape), (second * each).sum_to_size(second.shape)


def _away(values: Tensor) -> Tensor:
    """The same numbers, none of them zero."""
    return torch.where(values == 0, TINY, values)


def _weighted(
    function: Callable[..., Tensor], given: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any, **named: Any
) -> Tensor:
    positive = weight.clamp(min=0)
    return _Share.apply(given, lambda x: function(x, weight, bias, *rest, **named), lambda x: function(x, positive, None, *rest, **named))


def _pooled(function: Callable[..., Tensor], given: Tensor, *rest: Any, **named: Any) -> Tensor:
    return _Share.apply(given, lambda x: function(x, *rest, **named), lambda x: function(x, *rest, **named))


def _added(function: Callable[..., Tensor], given: Any, other: Any, **named: Any) -> Any:
    first, second = (isinstance(each, Tensor) for each in (given, other))
    if not (first and second) or named:
        return function(given, other, **named)
    if getattr(function, "__name__", "") in ("add_", "__iadd__"):
        return given.copy_(_Split.apply(given.clone(), other))
    return _Split.apply(given, other)


def _handed_on(function: Callable[..., Tensor], given: Tensor, *rest: Any, **named: Any) -> Tensor:
    return _Pass.apply(given, function(given.detach(), *rest, **named))


_SHARES: Mapping[str, Callable[..., Any]] = {
    **dict.fromkeys(("conv2d", "linear"), _weighted),
    **dict.fromkeys(("avg_pool2d", "adaptive_avg_pool2d", "mean"), _pooled),
    **dict.fromkeys(("add", "add_", "__add__", "__radd__", "__iadd__"), _added),
    "batch_norm": _handed_on,
}
_NOT_DEFINED = ("gelu", "silu", "softmax", "layer_norm", "scaled_dot_product_attention")


class _Excited(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in _NOT_DEFINED:
            raise UsageError(
                f"Excitation backpropagation needs inputs that are not negative, and this network calls {name}.",
                "Use it for convolutional networks with rectifiers; for others gradient_times_input or a perturbation method.",
            )
        if name in _SHARES:
            return _SHARES[name](func, *args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def excitation(
    phi: Representation,
    images: Num[Tensor, "batch channel height width"],
    target: Target,
    *,
    at: str | None = None,
    contrast: str | None = None,
) -> Maps:
    """Excitation backpropagation from a target to a layer, summed over channels.

    It begins at what the target reads, x, with the shares ``x ⊙ g⁺ / Σ x ⊙ g⁺``, g the target's gradient there: for a class of a
    linear probe that is one step of the rule through the probe.

    Args:
        phi, images, target: as for ``saliency``.
        at: the layer; None: the last but one of those that have a map and come before what the target reads.
        contrast: a layer where what comes from the opposite target (-g) is taken away, and only what is left goes on
            (contrastive excitation backpropagation).

    Raises:
        UsageError: the network's layers have no such rule.
    """
    layer = at if at is not None else _before(phi, target)[-2]
    maps = []
    for rows, part in parts(images, phi.device):
        found = _relevance(phi, part, target, rows, layer, contrast)
        found = found if layer == "" else phi.as_grid(found, part.shape[-2:], layer)
        maps.append(enlarged(found.sum(1, keepdim=True).clamp(min=0), part.shape[-2:]))
    return torch.cat(maps)


def contrastive_excitation(
    phi: Representation, images: Num[Tensor, "batch channel height width"], target: Target, *, at: str | None = None
) -> Maps:
    """Contrastive excitation backpropagation: what speaks for the target less what speaks against it, from the last layer on.

    For a target that is a number of the output itself nothing speaks against it: leave the classifier out of the network, and give
    its row as a ``direction``.
    """
    return excitation(phi, images, target, at=at, contrast=_before(phi, target)[-1])


def _before(phi: Representation, target: Target) -> tuple[str, ...]:
    """The layers with a map that come before what the target reads; the first twice where it is the only one."""
    found = tuple(name for name in maps_before(phi, target) if name != target.layer) or ("",)
    return found if len(found) > 1 else found * 2


def _relevance(phi: Representation, images: Tensor, target: Target, rows: Tensor, layer: str, contrast: str | None) -> Tensor:
    """What arrives at a layer; for a contrast, where it is not negative."""
    given = phi.normalise(images).detach().requires_grad_()
    kept = [name for name in (layer, contrast, target.layer) if name]
    with eval_mode(phi.backbone), torch.enable_grad(), capture_activations(phi.backbone, *kept) as captured:
        with _Excited():
            pooled = phi.backbone(given).pooled
        top = tensor_of(captured[target.layer]) if target.layer else pooled
        read = top.detach().requires_grad_()
        (slope,) = torch.autograd.grad(target.pick(target.read_from(phi, read, given.shape[-2:]), rows).sum(), read)
        low = tensor_of(captured[layer]) if layer else given
        if contrast is None or contrast == layer:
            return torch.autograd.grad(top, low, _start(read, slope))[0]
        middle = tensor_of(captured[contrast])
        both = [torch.autograd.grad(top, middle, _start(read, sign * slope), retain_graph=True)[0] for sign in (1, -1)]
        return torch.autograd.grad(middle, low, both[0] - both[1])[0]


def _start(read: Tensor, slope: Tensor) -> Tensor:
    shares = read.detach() * slope.clamp(min=0)
    total = shares.flatten(1).sum(1).view(-1, *(1,) * (shares.ndim - 1))
    return shares / torch.where(total == 0, 1, total)
