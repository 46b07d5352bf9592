"""Names that users type."""

from collections.abc import Collection
from difflib import get_close_matches

from selfsight.core.errors import UsageError

__all__ = ["look_up", "unused_name"]


def look_up(kind: str, name: str, names: Collection[str], otherwise: str = "") -> str:
    """The name itself, where it is one of ``names``.

    Args:
        kind: what is named, such as ``method``.
        name: what was typed.
        names: those that there are.
        otherwise: the remedy where no name is near; by default all names.

    Raises:
        UsageError: there is none of that name.
    """
    if name in names:
        return name
    near = get_close_matches(name, names, n=1)
    raise UsageError(
        f"There is no {kind} {name!r}.", f"Did you mean {near[0]!r}?" if near else otherwise or f"Choose one of {', '.join(names)}."
    )


def unused_name(name: str, taken: Collection[str]) -> str:
    """The name, with as many underscores behind it as tell it from those taken; capital letters tell nothing."""
    used = {one.casefold() for one in taken}
    while name.casefold() in used:
        name += "_"
    return name
