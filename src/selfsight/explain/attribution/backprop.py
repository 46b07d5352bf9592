"""Networks run backwards: the gradient, the deconvolutional network and guided backpropagation, one engine with a switch at the rectifiers.

With x the input of a rectifier and p what comes from above, what goes on below is

    gradient (Simonyan et al. 2013, arXiv:1312.6034)            p · 1[x > 0]
    deconvolutional network (Zeiler & Fergus 2013, 1311.2901)   p · 1[p > 0]
    guided (Springenberg et al. 2014, arXiv:1412.6806)          p · 1[x > 0] · 1[p > 0]

Max pooling keeps its switches and everything else is transposed, in all three (Mahendran & Vedaldi 2016, "Salient deconvolutional
networks"). The switch is thrown at the functions that a network calls, in this thread and for the length of a ``with``: modules,
``F.relu``, ``x.relu()``, ``clamp``, in place or used twice are all the same to it, and the network itself is never touched.
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
from selfsight.core.representation import Representation
from selfsight.explain.targets import Target

__all__ = ["Reversed", "Rule", "Switches", "jacobian_bytes", "reverse", "ruled", "same_switches", "switches"]

Rule = Literal["gradient", "deconvnet", "guided"]
Clamp = tuple[Tensor, float | None, float | None, bool]
"""A rectifier's input, its lower and upper bound, and whether it works in place."""


def _relu(given: Tensor, inplace: bool = False) -> Clamp:  # noqa: FBT001, FBT002
    return given, 0.0, None, inplace


def _relu6(given: Tensor, inplace: bool = False) -> Clamp:  # noqa: FBT001, FBT002
    return given, 0.0, 6.0, inplace


def _hardtanh(given: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Clamp:  # noqa: FBT001, FBT002
    return given, min_val, max_val, inplace


def _clamp(given: Tensor, min: Any = None, max: Any = None) -> Clamp:
    return given, min, max, False


def _threshold(given: Tensor, threshold: float, value: float, inplace: bool = False) -> Clamp:  # noqa: FBT001, FBT002
    return given, threshold if threshold == value else None, None, inplace


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


def _rectifier(function: Callable[..., Any], given: tuple[Any, ...], named: Mapping[str, Any]) -> Clamp | None:
    """What a call rectifies, if it cuts off at zero; a name that ends in ``_`` works in place."""
    name = getattr(function, "__name__", "")
    reads = _RECTIFIERS.get(name) or _RECTIFIERS.get(name.removesuffix("_"))
    if reads is None:
        return None
    named = {"given" if word == "input" else word: value for word, value in named.items()}
    tensor, low, high, inplace = reads(*given, **named)
    plain = isinstance(low, int | float) and low == 0 and (high is None or isinstance(high, int | float))
    return (tensor, 0.0, high, inplace or name.endswith("_")) if plain else None


class _Rectify(torch.autograd.Function):
    """A rectifier whose backward pass follows a rule."""

    @staticmethod
    def forward(ctx: Any, given: Tensor, high: float | None, rule: str, inplace: bool) -> Tensor:  # noqa: FBT001
        if inplace:
            ctx.mark_dirty(given)
        output = given.clamp_(0, high) if inplace else given.clamp(0, high)
        ctx.rule = rule
        if rule == "guided":
            ctx.save_for_backward((output > 0) if high is None else (output > 0) & (output < high))
        return output

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> Any:
        positive = above[0].clamp(min=0)
        if ctx.rule == "guided":
            positive = torch.where(ctx.saved_tensors[0], positive, 0)
        return positive, None, None, None


class _Ruled(TorchFunctionMode):
    def __init__(self, rule: Rule) -> None:
        super().__init__()
        self.rule, self.changed = rule, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = _rectifier(func, args, kwargs or {})
        if found is None:
            return func(*args, **(kwargs or {}))
        self.changed += 1
        return _Rectify.apply(found[0], found[2], self.rule, found[3])


@contextmanager
def ruled(rule: Rule) -> Iterator[None]:
    """Forward passes inside the ``with`` run backwards by a rule, in this thread.

    Raises:
        UsageError: the rule changes rectifiers, and none was met: the result would be the plain gradient under another name.
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
    """One backward pass: what the layers said, what came back to them, and the scores it began from.

    Attributes:
        score: the target's number, of each image.
        outputs, derivatives: by layer; ``""`` is the normalised images.
    """

    score: Float[Tensor, " batch"]
    outputs: Mapping[str, Tensor]
    derivatives: Mapping[str, Tensor]


def reverse(
    phi: Representation,
    images: Num[Tensor, "batch channel height width"],
    target: Target,
    *,
    at: tuple[str, ...] = ("",),
    rule: Rule = "gradient",
    rows: Int[Tensor, " batch"] | None = None,
    normalised: bool = False,
) -> Reversed:
    """Run the network forwards, then backwards from a target, by a rule; the network is left as it was.

    Args:
        phi: the representation.
        images: images, or with ``normalised`` what the network is given.
        target: where the backward pass begins.
        at: layers where its value is kept; ``""``: the normalised images.
        rule: what rectifiers do.
        rows: the image that each row shows, for targets that differ from image to image.
        normalised: the images are normalised already.

    Raises:
        UsageError: a layer is not there, the target does not depend on it, or a rule has nothing to change.
    """
    given = (images if normalised else phi.normalise(images)).detach().requires_grad_()
    names = [name for name in at if name]
    with eval_mode(phi.backbone), torch.enable_grad(), ruled(rule), capture_activations(phi.backbone, *names) as captured:
        score = target.score(phi, given, rows)
        outputs = {name: tensor_of(captured[name]) if name else given for name in at if name in captured or not name}
        found = torch.autograd.grad(score.sum(), list(outputs.values()), allow_unused=True) if outputs and score.requires_grad else ()
    reached = {name: value for name, value in zip(outputs, found, strict=False) if value is not None}
    lost = [name or "the images" for name in at if name not in reached]
    if lost:
        raise UsageError(f"{target.name} does not depend on {lost[0]}.", "Choose a layer that comes before what the target reads.")
    kept = {name: value.detach() for name, value in outputs.items()}
    return Reversed(score.detach(), kept, reached)


def jacobian_bytes(phi: Representation, layer: str, *, size: int | None = None) -> tuple[int, int]:
    """Bytes of a layer's whole Jacobian for one image, and of the one product with it that a backward pass needs, in float32.

    A backward pass never makes the Jacobian: it multiplies a vector by it (Vedaldi's lectures, "back-propagation").
    """
    side = size or phi.size
    with eval_mode(phi.backbone), torch.no_grad(), capture_activations(phi.backbone, layer) as captured:
        phi.backbone(torch.zeros(1, phi.backbone.channels, side, side, device=phi.device))
        outputs = tensor_of(captured[layer]).numel()
    inputs = phi.backbone.channels * side * side
    return 4 * outputs * inputs, 4 * inputs


@dataclass(frozen=True)
class Switches:
    """All that a backward pass has to know of an image: where rectifiers were open, and which place each maximum came from.

    ``windows``: how many places each pool chose from.
    """

    open: list[Tensor] = field(default_factory=list)
    places: list[Tensor] = field(default_factory=list)
    windows: list[int] = field(default_factory=list)

    @property
    def bits(self) -> int:
        """Bits that hold them: one a rectified number, and for a maximum the logarithm of its window."""
        chosen = sum(where.numel() * (window - 1).bit_length() for where, window in zip(self.places, self.windows, strict=True))
        return sum(mask.numel() for mask in self.open) + chosen


class _Recorded(TorchFunctionMode):
    """Notes the switches of a forward pass, or with ``replay`` imposes them on another image."""

    def __init__(self, found: Switches, *, replay: bool) -> None:
        super().__init__()
        self.found, self.replay = found, replay
        self._masks, self._places = iter(found.open), iter(found.places)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        rectified = _rectifier(func, args, kwargs)
        if rectified is not None:
            return self._rectify(*rectified)
        if getattr(func, "__name__", "") == "max_pool2d":
            return self._pool(*args, **kwargs)
        return func(*args, **kwargs)

    def _rectify(self, given: Tensor, low: float | None, high: float | None, inplace: bool) -> Tensor:  # noqa: FBT001
        if self.replay:
            return given.mul_(next(self._masks)) if inplace else given * next(self._masks)
        self.found.open.append((given > 0) if high is None else (given > 0) & (given < high))
        return given.clamp_(low, high) if inplace else given.clamp(low, high)

    def _pool(self, given: Tensor, kernel_size: Any, stride: Any = None, *rest: Any, **named: Any) -> Tensor:
        named.pop("return_indices", None)
        if not self.replay:
            pooled, where = max_pool2d(given, kernel_size, stride, *rest[:3], return_indices=True, **named)
            self.found.places.append(where)
            self.found.windows.append(kernel_size**2 if isinstance(kernel_size, int) else kernel_size[0] * kernel_size[1])
            return pooled
        where = next(self._places)
        return given.flatten(2).gather(2, where.flatten(2)).view(where.shape)


def switches(phi: Representation, images: Num[Tensor, "batch channel height width"]) -> Switches:
    """The masks of all rectifiers and the switches of all max pools, for some images."""
    found = Switches()
    with eval_mode(phi.backbone), torch.no_grad(), _Recorded(found, replay=False):
        phi.backbone(phi.normalise(images))
    return found


@contextmanager
def same_switches(found: Switches) -> Iterator[None]:
    """Forward passes inside the ``with`` have the switches of other images, in this thread.

    A network of convolutions, rectifiers and pools is then affine, and its gradient is that of the images the switches are of,
    whatever it is shown: masks and switches are all that the reversed network knows of an image.
    """
    with _Recorded(found, replay=True):
        yield
