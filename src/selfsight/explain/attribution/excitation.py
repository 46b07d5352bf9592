"""Excitation backpropagation (Zhang et al. 2016, arXiv:1608.00507).

Each layer distributes relevance to its inputs in proportion to their positively weighted contributions,

    p_i = x_i Σ_j w⁺_ij p_j / Σ_k x_k w⁺_kj

without biases. Average pools use equal weights, sums of branches distribute by the value of each branch, and batch norm passes relevance
on unchanged. Rectifiers and max pools run backwards as usual. The total relevance is conserved where inputs are not negative.
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
from selfsight.explain.attribution.backprop import positional
from selfsight.explain.attribution.saliency import Maps, enlarged, maps_before, parts
from selfsight.explain.targets import Target

__all__ = ["contrastive_excitation", "excitation"]

TINY = 1e-20
"""Added to denominators that can be zero."""


class _Share(torch.autograd.Function):
    """A linear operation whose backward pass distributes relevance in proportion to positive contributions."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, run: Callable[[Tensor], Tensor], share: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.save_for_backward(inputs)
        ctx.share = share
        return run(inputs)

    @staticmethod
    def backward(ctx: Any, *relevance: Tensor) -> Any:
        inputs = ctx.saved_tensors[0].detach().requires_grad_()
        with torch.enable_grad():
            sums = ctx.share(inputs)
        (down,) = torch.autograd.grad(sums, inputs, relevance[0] / (sums.detach() + TINY))
        return inputs.detach() * down, None, None


class _Pass(torch.autograd.Function):
    """An operation that passes relevance on unchanged."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, output: Tensor) -> Tensor:  # noqa: ARG004
        return output.clone()

    @staticmethod
    def backward(ctx: Any, *relevance: Tensor) -> Any:  # noqa: ARG004
        return relevance[0], None


class _Split(torch.autograd.Function):
    """A sum of two branches whose backward pass distributes relevance in proportion to the branches."""

    @staticmethod
    def forward(ctx: Any, first: Tensor, second: Tensor) -> Tensor:
        ctx.save_for_backward(first, second)
        return first + second

    @staticmethod
    def backward(ctx: Any, *relevance: Tensor) -> Any:
        first, second = ctx.saved_tensors
        ratio = relevance[0] / _nonzero(first + second)
        return (first * ratio).sum_to_size(first.shape), (second * ratio).sum_to_size(second.shape)


def _nonzero(values: Tensor) -> Tensor:
    """The values, with zeros replaced by a tiny number."""
    return torch.where(values == 0, TINY, values)


def _weighted(
    function: Callable[..., Tensor], inputs: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any, **named: Any
) -> Tensor:
    positive = weight.clamp(min=0)
    return _Share.apply(inputs, lambda x: function(x, weight, bias, *rest, **named), lambda x: function(x, positive, None, *rest, **named))


def _pooled(function: Callable[..., Tensor], inputs: Tensor, *rest: Any, **named: Any) -> Tensor:
    return _Share.apply(inputs, lambda x: function(x, *rest, **named), lambda x: function(x, *rest, **named))


def _added(function: Callable[..., Tensor], left: Any, right: Any, **named: Any) -> Any:
    if not (isinstance(left, Tensor) and isinstance(right, Tensor)) or named:
        return function(left, right, **named)
    if getattr(function, "__name__", "") in ("add_", "__iadd__"):
        return left.copy_(_Split.apply(left.clone(), right))
    return _Split.apply(left, right)


def _passed_on(function: Callable[..., Tensor], inputs: Tensor, *rest: Any, **named: Any) -> Tensor:
    return _Pass.apply(inputs, function(inputs.detach(), *rest, **named))


_SHARES: Mapping[str, Callable[..., Any]] = {
    **dict.fromkeys(("conv2d", "linear"), _weighted),
    **dict.fromkeys(("avg_pool2d", "adaptive_avg_pool2d", "mean"), _pooled),
    **dict.fromkeys(("add", "add_", "__add__", "__radd__", "__iadd__"), _added),
    "batch_norm": _passed_on,
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
            args, kwargs = positional(args, kwargs)
            return _SHARES[name](func, *args, **kwargs)
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

    It starts at the target's input x with the relevance ``x ⊙ g⁺ / Σ x ⊙ g⁺``, where g is the gradient of the target at x. For a class
    of a linear probe this is one step of the rule through the probe.

    Args:
        phi: the representation.
        images: images ``(B, C, H, W)``, uint8 or in [0, 1].
        target: the score that is explained.
        at: the layer; None: the last but one of the layers with a feature map before the one that the target reads.
        contrast: a layer where the relevance of the opposite target (-g) is subtracted before relevance passes on (contrastive
            excitation backpropagation); None: no contrast.

    Raises:
        UsageError: the rule is not defined for a layer of the network.
    """
    layer = at if at is not None else _before(phi, target)[-2]
    maps = []
    for rows, part in parts(images, phi.device):
        relevance = _relevance(phi, part, target, rows, layer, contrast)
        relevance = relevance if layer == "" else phi.as_grid(relevance, part.shape[-2:], layer)
        maps.append(enlarged(relevance.sum(1, keepdim=True).clamp(min=0), part.shape[-2:]))
    return torch.cat(maps)


def contrastive_excitation(
    phi: Representation, images: Num[Tensor, "batch channel height width"], target: Target, *, at: str | None = None
) -> Maps:
    """Contrastive excitation backpropagation: relevance of the target minus that of its opposite, from the last layer on.

    A target that is a component of the network's own output has no opposite: remove the classifier from the network and pass its weight
    row as a ``direction``.

    Args:
        phi: the representation.
        images: images ``(B, C, H, W)``, uint8 or in [0, 1].
        target: the score that is explained.
        at: the layer; None: as for ``excitation``.
    """
    return excitation(phi, images, target, at=at, contrast=_before(phi, target)[-1])


def _before(phi: Representation, target: Target) -> tuple[str, ...]:
    """Layers with a feature map before the one that the target reads; a single layer is repeated."""
    layers = tuple(name for name in maps_before(phi, target) if name != target.layer) or ("",)
    return layers if len(layers) > 1 else layers * 2


def _relevance(phi: Representation, images: Tensor, target: Target, rows: Tensor, layer: str, contrast: str | None) -> Tensor:
    """Relevance at a layer; with a contrast its difference."""
    inputs = phi.normalise(images).detach().requires_grad_()
    kept = [name for name in (layer, contrast, target.layer) if name]
    with eval_mode(phi.backbone), torch.enable_grad(), capture_activations(phi.backbone, *kept) as captured:
        with _Excited():
            pooled = phi.backbone(inputs).pooled
        top = tensor_of(captured[target.layer]) if target.layer else pooled
        read = top.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(target.pick(target.read_from(phi, read, inputs.shape[-2:]), rows).sum(), read)
        lower = tensor_of(captured[layer]) if layer else inputs
        if contrast is None or contrast == layer:
            return torch.autograd.grad(top, lower, _start(read, gradient))[0]
        middle = tensor_of(captured[contrast])
        relevances = [torch.autograd.grad(top, middle, _start(read, sign * gradient), retain_graph=True)[0] for sign in (1, -1)]
        return torch.autograd.grad(middle, lower, relevances[0] - relevances[1])[0]


def _start(read: Tensor, gradient: Tensor) -> Tensor:
    relevance = read.detach() * gradient.clamp(min=0)
    total = relevance.flatten(1).sum(1).view(-1, *(1,) * (relevance.ndim - 1))
    return relevance / torch.where(total == 0, 1, total)
