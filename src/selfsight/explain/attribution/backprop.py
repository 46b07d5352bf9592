"""Backward passes with modified rectifiers: gradient, deconvolutional network and guided backpropagation.

With x the input of a rectifier and p the gradient that arrives at its output, the gradient at its input is

    gradient (Simonyan et al. 2013, arXiv:1312.6034)            p · 1[x > 0]
    deconvolutional network (Zeiler & Fergus 2013, 1311.2901)   p · 1[p > 0]
    guided (Springenberg et al. 2014, arXiv:1412.6806)          p · 1[x > 0] · 1[p > 0]

In all three, max pooling uses its switches and all other operations are transposed (Mahendran & Vedaldi 2016, "Salient deconvolutional
networks"). The rule applies to the functions that the network calls, in the current thread and inside a ``with`` block. It covers
modules, ``F.relu``, ``x.relu()`` and ``clamp``, also in place or called repeatedly; the network itself is not modified.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor
from torch.nn.functional import max_pool2d
from torch.overrides import TorchFunctionMode

from selfsight.core.errors import UsageError
from selfsight.core.hooks import capture_activations, eval_mode, tensor_of
from selfsight.core.pixels import Normalised, as_normalised
from selfsight.core.representation import Representation
from selfsight.explain.targets import Target

__all__ = [
    "Reversed",
    "Rule",
    "Switches",
    "jacobian_bytes",
    "positional",
    "reverse",
    "ruled",
    "same_switches",
    "switches",
]

Rule = Literal["gradient", "deconvnet", "guided"]
Clamp = tuple[Tensor, float | None, float | None, bool]
"""Input of a rectifier, its lower and upper bound, and whether it works in place."""


def _relu(tensor: Tensor, inplace: bool = False) -> Clamp:  # noqa: FBT001, FBT002
    return tensor, 0.0, None, inplace


def _relu6(tensor: Tensor, inplace: bool = False) -> Clamp:  # noqa: FBT001, FBT002
    return tensor, 0.0, 6.0, inplace


def _hardtanh(tensor: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Clamp:  # noqa: FBT001, FBT002
    return tensor, min_val, max_val, inplace


def _clamp(tensor: Tensor, min: Any = None, max: Any = None) -> Clamp:
    return tensor, min, max, False


def _threshold(tensor: Tensor, threshold: float, value: float, inplace: bool = False) -> Clamp:  # noqa: FBT001, FBT002
    return tensor, threshold if threshold == value else None, None, inplace


_RECTIFIERS: Mapping[str, Callable[..., Clamp]] = {
    "relu": _relu,
    "relu6": _relu6,
    "hardtanh": _hardtanh,
    "clamp": _clamp,
    "clip": _clamp,
    "clamp_min": _clamp,
    "threshold": _threshold,
    "_threshold": _threshold,
}


def positional(args: tuple[Any, ...], named: Mapping[str, Any] | None) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments of a torch function with the tensors that a network passed as ``input=`` and ``other=`` in front.

    Args:
        args: positional arguments.
        named: keyword arguments.
    """
    rest = dict(named or {})
    for name in ("input", "other"):
        if name in rest:
            args = (*args, rest.pop(name))
    return args, rest


def _rectifier(function: Callable[..., Any], args: tuple[Any, ...], named: Mapping[str, Any]) -> Clamp | None:
    """The arguments of a call that clamps at zero, otherwise None; a function name that ends in ``_`` works in place."""
    name = getattr(function, "__name__", "")
    reads = _RECTIFIERS.get(name) or _RECTIFIERS.get(name.removesuffix("_"))
    if reads is None:
        return None
    args, named = positional(args, named)
    tensor, low, high, inplace = reads(*args, **named)
    plain = isinstance(low, int | float) and low == 0 and (high is None or isinstance(high, int | float))
    return (tensor, 0.0, high, inplace or name.endswith("_")) if plain else None


class _Rectify(torch.autograd.Function):
    """A rectifier whose backward pass follows a rule."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, high: float | None, rule: str, inplace: bool) -> Tensor:  # noqa: FBT001
        if inplace:
            ctx.mark_dirty(inputs)
        output = inputs.clamp_(0, high) if inplace else inputs.clamp(0, high)
        ctx.rule = rule
        if rule == "guided":
            ctx.save_for_backward((output > 0) if high is None else (output > 0) & (output < high))
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        positive = gradients[0].clamp(min=0)
        if ctx.rule == "guided":
            positive = torch.where(ctx.saved_tensors[0], positive, 0)
        return positive, None, None, None


class _Ruled(TorchFunctionMode):
    def __init__(self, rule: Rule) -> None:
        super().__init__()
        self.rule, self.changed = rule, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        rectifier = _rectifier(func, args, kwargs or {})
        if rectifier is None:
            return func(*args, **(kwargs or {}))
        self.changed += 1
        return _Rectify.apply(rectifier[0], rectifier[2], self.rule, rectifier[3])


@contextmanager
def ruled(rule: Rule) -> Iterator[None]:
    """Apply a rule to the rectifiers of all forward passes inside a ``with`` block, in the current thread.

    Raises:
        UsageError: the rule changes rectifiers and the network has none, so that the result would be the plain gradient.
    """
    if rule == "gradient":
        yield
        return
    with _Ruled(rule) as mode:
        yield
    if not mode.changed:
        raise UsageError(
            f"The rule {rule!r} changes how rectifiers run backwards, and this network has none (GELU and SiLU are not rectifiers).",
            "Use gradient, integrated_gradients or a perturbation method.",
        )


@dataclass(frozen=True)
class Reversed:
    """One backward pass: activations of layers, their gradients, and the scores.

    Attributes:
        score: the target's score of each image.
        outputs: activations by layer; ``""`` is the normalised images.
        derivatives: gradients of the score by layer.
    """

    score: Float[Tensor, " batch"]
    outputs: Mapping[str, Tensor]
    derivatives: Mapping[str, Tensor]


def reverse(
    phi: Representation,
    inputs: Float[Normalised, "batch channel height width"],
    target: Target,
    *,
    at: tuple[str, ...] = ("",),
    rule: Rule = "gradient",
    rows: Int[Tensor, " batch"] | None = None,
) -> Reversed:
    """Run a forward pass and a backward pass from a target; the network is not modified.

    Args:
        phi: the representation.
        inputs: normalised images ``(B, C, H, W)``.
        target: the score that is differentiated.
        at: layers whose activations and gradients are returned; ``""``: the normalised images.
        rule: backward rule of the rectifiers.
        rows: ``(B,)`` index of the image that each row shows, for targets that differ between images.

    Raises:
        UsageError: a layer does not exist, the target does not depend on it, or the rule finds no rectifier.
    """
    inputs = as_normalised(inputs.detach().requires_grad_())
    names = [name for name in at if name]
    with eval_mode(phi.backbone), torch.enable_grad(), ruled(rule), capture_activations(phi.backbone, *names) as captured:
        score = target.score(phi, inputs, rows)
        outputs = {name: tensor_of(captured[name]) if name else inputs for name in at if name in captured or not name}
        gradients = torch.autograd.grad(score.sum(), list(outputs.values()), allow_unused=True) if outputs and score.requires_grad else ()
    reached = {name: value for name, value in zip(outputs, gradients, strict=False) if value is not None}
    unreachable = [name or "the images" for name in at if name not in reached]
    if unreachable:
        raise UsageError(f"{target.name} does not depend on {unreachable[0]}.", "Choose a layer before the one that the target reads.")
    return Reversed(score.detach(), {name: value.detach() for name, value in outputs.items()}, reached)


def jacobian_bytes(phi: Representation, layer: str, *, size: int | None = None) -> tuple[int, int]:
    """Size of a layer's full Jacobian for one image, and of one vector-Jacobian product, in bytes of float32.

    A backward pass computes only the product and never forms the Jacobian (Vedaldi's lectures, "back-propagation").

    Args:
        phi: the representation.
        layer: dotted name of the layer.
        size: side of the square image in pixels; None: the size that the network was trained with.

    Returns:
        Bytes of the Jacobian, and bytes of the product.
    """
    side = size or phi.size
    with eval_mode(phi.backbone), torch.no_grad(), capture_activations(phi.backbone, layer) as captured:
        phi.backbone(torch.zeros(1, phi.backbone.channels, side, side, device=phi.device))
        outputs = tensor_of(captured[layer]).numel()
    inputs = phi.backbone.channels * side * side
    return 4 * outputs * inputs, 4 * inputs


@dataclass(frozen=True)
class Switches:
    """Masks of the rectifiers and switches of the max pools of one forward pass, which determine the backward pass.

    Attributes:
        open: per rectifier, True where its input is passed on.
        places: per max pool, the flat index of the position of each maximum.
        windows: positions per pooling window.
    """

    open: list[Tensor] = field(default_factory=list)
    places: list[Tensor] = field(default_factory=list)
    windows: list[int] = field(default_factory=list)

    @property
    def bits(self) -> int:
        """Bits that store them: one per rectified value, and the logarithm of the window size per maximum."""
        chosen = sum(where.numel() * (window - 1).bit_length() for where, window in zip(self.places, self.windows, strict=True))
        return sum(mask.numel() for mask in self.open) + chosen


class _Recorded(TorchFunctionMode):
    """Records the switches of a forward pass, or with ``replay`` applies recorded switches to another image."""

    def __init__(self, switches: Switches, *, replay: bool) -> None:
        super().__init__()
        self.switches, self.replay = switches, replay
        self._masks, self._places = iter(switches.open), iter(switches.places)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        rectified = _rectifier(func, args, kwargs)
        if rectified is not None:
            return self._rectify(*rectified)
        if getattr(func, "__name__", "") == "max_pool2d":
            args, kwargs = positional(args, kwargs)
            return self._pool(*args, **kwargs)
        return func(*args, **kwargs)

    def _rectify(self, inputs: Tensor, low: float | None, high: float | None, inplace: bool) -> Tensor:  # noqa: FBT001
        if self.replay:
            return inputs.mul_(next(self._masks)) if inplace else inputs * next(self._masks)
        self.switches.open.append((inputs > 0) if high is None else (inputs > 0) & (inputs < high))
        return inputs.clamp_(low, high) if inplace else inputs.clamp(low, high)

    def _pool(self, inputs: Tensor, kernel_size: Any, stride: Any = None, *rest: Any, **named: Any) -> Tensor:
        named.pop("return_indices", None)
        if not self.replay:
            pooled, indices = max_pool2d(inputs, kernel_size, stride, *rest[:3], return_indices=True, **named)
            self.switches.places.append(indices)
            self.switches.windows.append(kernel_size**2 if isinstance(kernel_size, int) else kernel_size[0] * kernel_size[1])
            return pooled
        indices = next(self._places)
        return inputs.flatten(2).gather(2, indices.flatten(2)).view(indices.shape)


def switches(phi: Representation, images: Num[Tensor, "batch channel height width"]) -> Switches:
    """Masks of all rectifiers and switches of all max pools.

    Args:
        phi: the representation.
        images: images ``(B, C, H, W)``, uint8 or in [0, 1].
    """
    recorded = Switches()
    with eval_mode(phi.backbone), torch.no_grad(), _Recorded(recorded, replay=False):
        phi.backbone(phi.normalise(images))
    return recorded


@contextmanager
def same_switches(found: Switches) -> Iterator[None]:
    """Apply recorded switches to all forward passes inside a ``with`` block, in the current thread.

    A network of convolutions, rectifiers and max pools is then affine, and its gradient for any input is that of the recorded images:
    a reversed network depends on an image through its masks and switches alone.
    """
    with _Recorded(found, replay=True):
        yield
