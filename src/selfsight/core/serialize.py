"""Options as plain data: trees of frozen dataclasses to JSON and back; files cannot cause imports of other packages."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from importlib import import_module
from typing import Any

from selfsight.core.errors import UsageError

__all__ = ["differences", "from_json", "to_json"]

_TAG = "is"
_PACKAGE = "selfsight."
_MOVED = {
    "selfsight.data.views.banded:": "selfsight.data.views.image.banded:",
    "selfsight.data.views.blur:": "selfsight.data.views.image.blur:",
    "selfsight.data.views.changes:": "selfsight.data.views.image.changes:",
    "selfsight.data.views.colour:": "selfsight.data.views.image.colour:",
    "selfsight.data.views.damage:": "selfsight.data.views.image.damage:",
    "selfsight.data.views.geometry:": "selfsight.data.views.image.geometry:",
    "selfsight.data.views.masks:": "selfsight.data.views.image.masks:",
    "selfsight.data.views.puzzles:": "selfsight.data.views.image.puzzles:",
    "selfsight.data.views.recipes:": "selfsight.data.views.image.recipes:",
}
"""Where classes stand now that runs of version 0.1 name by their former module."""


def to_json(value: object) -> Any:
    """A value as JSON: numbers, strings, lists and objects; a dataclass becomes an object with the name of its class.

    Raises:
        UsageError: the value has another type.
    """
    if is_dataclass(value) and not isinstance(value, type):
        name = f"{type(value).__module__}:{type(value).__qualname__}"
        return {_TAG: name} | {item.name: to_json(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): to_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise UsageError(
        f"An option of type {type(value).__name__} cannot be saved.",
        "Use numbers, strings, sequences or frozen dataclasses of this package.",
    )


def from_json(value: Any) -> Any:
    """Inverse of ``to_json``; lists become tuples. Only dataclasses of this package are created.

    Raises:
        UsageError: the data names a class that is not a dataclass of this package.
    """
    if isinstance(value, list):
        return tuple(from_json(item) for item in value)
    if not isinstance(value, dict):
        return value
    if _TAG not in value:
        return {name: from_json(item) for name, item in value.items()}
    module, colon, name = str(value[_TAG]).partition(":")
    module = _MOVED.get(module + colon, module + colon).removesuffix(":")
    try:
        kind = getattr(import_module(module), name, None) if module.startswith(_PACKAGE) else None
    except ImportError:
        kind = None
    if not (isinstance(kind, type) and is_dataclass(kind)):
        raise UsageError(f"{value[_TAG]!r} is not a class of options.", "Only dataclasses of selfsight are allowed in a configuration.")
    return kind(**{name: from_json(item) for name, item in value.items() if name != _TAG})


def differences(old: object, new: object, path: str = "") -> list[str]:
    """One line ``path: old -> new`` for every difference of two plain values.

    Args:
        old: plain value.
        new: plain value.
        path: prefix of the paths.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        names = sorted(old.keys() | new.keys())
        return [line for name in names for line in differences(old.get(name), new.get(name), f"{path}.{name}" if path else name)]
    return [] if old == new else [f"{path}: {old} -> {new}"]
