"""Capture or edit the activations of layers by dotted name, inside a ``with`` block."""

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

    Args:
        module: the network.
        name: dotted name.

    Raises:
        UsageError: there is none; the message suggests the most similar name.
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
    """Capture the outputs of some layers, and edit those of others, inside a ``with`` block; yields activations by layer.

    Hooks are removed at the end, even after an exception. Of a layer that runs several times the last output is kept.
    Forward passes in other threads are neither captured nor edited. The network goes on with a copy of a captured tensor, so that in-place
    operations after it, such as ``ReLU(inplace=True)``, do not overwrite what was captured; the captured tensor stays part of the graph.

    Args:
        module: the network.
        *retain: dotted names of layers to capture.
        edit: functions from a layer's output to its replacement, by name of the layer.
        inputs: capture the layers' first positional input instead of their output.

    Raises:
        UsageError: there is no such layer.
    """
    captured: dict[str, Any] = {}
    with ExitStack() as stack:
        for name, function in (edit or {}).items():
            stack.callback(find_layer(module, name).register_forward_hook(_edited(function)).remove)
        for name in retain:
            layer = find_layer(module, name)
            handle = (
                layer.register_forward_pre_hook(_captured_input(name, captured))
                if inputs
                else layer.register_forward_hook(_captured_output(name, captured))
            )
            stack.callback(handle.remove)
        yield captured


def _edited(function: Edit) -> Callable[..., Any]:
    own_thread = threading.get_ident()

    def hook(layer: nn.Module, arguments: tuple[Any, ...], output: Any) -> Any:  # noqa: ARG001
        return function(output) if threading.get_ident() == own_thread else None

    return hook


def _captured_output(name: str, captured: dict[str, Any]) -> Callable[..., Any]:
    own_thread = threading.get_ident()

    def hook(layer: nn.Module, arguments: tuple[Any, ...], output: Any) -> Any:  # noqa: ARG001
        if threading.get_ident() != own_thread:
            return None
        captured[name] = output
        return _copied(output)

    return hook


def _captured_input(name: str, captured: dict[str, Any]) -> Callable[..., Any]:
    own_thread = threading.get_ident()

    def hook(layer: nn.Module, arguments: tuple[Any, ...]) -> Any:  # noqa: ARG001
        if threading.get_ident() != own_thread:
            return None
        captured[name] = arguments[0]
        return (_copied(arguments[0]), *arguments[1:])

    return hook


def _copied(output: Any) -> Any:
    """The same structure with copies of its tensors."""
    if isinstance(output, Tensor):
        return output.clone()
    if isinstance(output, tuple | list):
        copies = [_copied(item) for item in output]
        return type(output)(*copies) if hasattr(output, "_fields") else type(output)(copies)
    if type(output) is dict:
        return {name: _copied(item) for name, item in output.items()}
    return output


@contextmanager
def eval_mode(network: nn.Module) -> Iterator[None]:
    """Set a network to evaluation mode inside a ``with`` block; the modes of all modules are restored afterwards."""
    training = [module for module in network.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def tensor_of(output: Any) -> Tensor:
    """The tensor in a layer's output."""
    while not isinstance(output, Tensor):
        output = getattr(output, "grid", None) if hasattr(output, "grid") else output[0]
    return output
