"""Listen to the layers of a network, or change what they say, by dotted name and for as long as a ``with`` lasts."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from difflib import get_close_matches
from typing import Any

from torch import Tensor, nn

from selfsight.core.errors import UsageError

__all__ = ["capture_activations", "eval_mode", "find_layer", "tensor_of"]

Edit = Callable[[Any], Any]


def find_layer(module: nn.Module, name: str) -> nn.Module:
    """The layer of a dotted name.

    Raises:
        UsageError: there is none; the message offers the nearest.
    """
    layers = dict(module.named_modules())
    if name not in layers:
        near = get_close_matches(name, layers, n=3)
        raise UsageError(
            f"The network has no layer {name!r}.",
            f"Did you mean {' or '.join(near)}?" if near else "List them with: for name, _ in module.named_modules(): print(name)",
        )
    return layers[name]


@contextmanager
def capture_activations(
    module: nn.Module, *retain: str, edit: Mapping[str, Edit] | None = None, inputs: bool = False
) -> Iterator[dict[str, Any]]:
    """Retain the outputs of some layers, and edit those of others, inside a ``with``.

    The dictionary that it gives holds, after a forward pass, the output of each retained layer by name (the last, if the
    layer ran several times). ``edit`` maps names to functions from a layer's output to what it shall be instead.
    ``inputs``: retain the first positional input of the layers instead of their output.

    Everything is restored at the end, even after an exception. Forward passes of other threads are neither heard nor edited.

    Raises:
        UsageError: a layer is not there.
    """
    own_thread = threading.get_ident()
    captured: dict[str, Any] = {}

    def listen(name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, given: tuple[Any, ...], output: Any) -> None:  # noqa: ARG001
            if threading.get_ident() == own_thread:
                captured[name] = given[0] if inputs else output

        return hook

    def change(function: Edit) -> Callable[..., Any]:
        def hook(layer: nn.Module, given: tuple[Any, ...], output: Any) -> Any:  # noqa: ARG001
            return function(output) if threading.get_ident() == own_thread else None

        return hook

    with ExitStack() as stack:
        for name, function in (edit or {}).items():
            stack.callback(find_layer(module, name).register_forward_hook(change(function)).remove)
        for name in retain:
            stack.callback(find_layer(module, name).register_forward_hook(listen(name)).remove)
        yield captured


@contextmanager
def eval_mode(network: nn.Module) -> Iterator[None]:
    """The network in evaluation mode inside a ``with``; every module is in the mode that it had afterwards."""
    training = [module for module in network.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def tensor_of(output: Any) -> Tensor:
    """The tensor in what a layer returned."""
    while not isinstance(output, Tensor):
        output = getattr(output, "grid", None) if hasattr(output, "grid") else output[0]
    return output
