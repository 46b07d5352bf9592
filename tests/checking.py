"""Type checks of every call in the tests: each argument and result once, shapes only where a signature names them."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from functools import partial
from typing import Any, ForwardRef, Literal, get_args, get_origin

import jaxtyping
from beartype import BeartypeConf, beartype
from jaxtyping import AbstractArray

_jaxtyped = jaxtyping.jaxtyped
_checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
"""Integers are accepted as floats (the numeric tower of PEP 484)."""


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its types checked; sizes of one name are equal within a call.

    ``jaxtyped`` alone checks every argument twice and keeps a table of sizes for signatures without any.
    """
    hints = list(_hints(*function.__annotations__.values()))
    if inspect.isgeneratorfunction(function) or any(isinstance(hint, str | ForwardRef) for hint in hints):
        return _jaxtyped(function, typechecker=_checked)
    if any(inspect.isclass(hint) and issubclass(hint, AbstractArray) for hint in hints):
        return _jaxtyped(_checked(function), typechecker=None)
    return _checked(function)


def _hints(*hints: Any) -> Iterator[Any]:
    """Type hints and their arguments at any depth."""
    for hint in hints:
        yield hint
        if get_origin(hint) is not Literal:
            yield from _hints(*get_args(hint))


def _jaxtyped_once(target: Any = None, *, typechecker: Any) -> Any:
    """What stands in for ``jaxtyping.jaxtyped`` in the imported package."""
    if target is None:
        return partial(_jaxtyped_once, typechecker=typechecker)
    if inspect.isclass(target):
        if is_dataclass(target) and "__init__" in vars(target):
            target.__init__ = checked(target.__init__)
        return target
    return checked(target) if inspect.isfunction(target) else _jaxtyped(target, typechecker=typechecker)


def install() -> None:
    """Check what is imported of selfsight from now on."""
    jaxtyping.jaxtyped = _jaxtyped_once
    jaxtyping.install_import_hook("selfsight", "checking.checked")
