"""Names and values that users type."""

import re
from collections.abc import Collection, Iterable, Sequence
from difflib import get_close_matches

from selfsight.core.errors import UsageError

__all__ = ["look_up", "one_per_line", "parse_value", "printable", "shortened", "unused_name"]

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def one_per_line(names: Iterable[str]) -> str:
    r"""Names as lines of a text file; control characters within a name, such as a line break, are written ``\n``, ``\t`` or ``\x1b``.

    Args:
        names: names of files.
    """
    return "".join(f"{printable(name)}\n" for name in names)


def printable(name: str) -> str:
    r"""A name on one line, without effect on a terminal: control characters are written ``\n``, ``\t`` or ``\x1b``.

    Args:
        name: name of a file or class.
    """
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], name)


def look_up(kind: str, name: str, names: Collection[str], otherwise: str = "") -> str:
    """Check that a name is known, and return it.

    Args:
        kind: what is named, such as ``method``.
        name: what was typed.
        names: the known names.
        otherwise: remedy if no name is similar; by default all names.

    Raises:
        UsageError: the name is unknown.
    """
    if name in names:
        return name
    near = get_close_matches(name, names, n=1)
    raise UsageError(
        f"There is no {kind} {name!r}.", f"Did you mean {near[0]!r}?" if near else otherwise or f"Choose one of {', '.join(names)}."
    )


def unused_name(name: str, taken: Collection[str]) -> str:
    """The name with underscores appended until it is not taken; case is ignored.

    Args:
        name: the wanted name.
        taken: names in use.
    """
    used = {other.casefold() for other in taken}
    while name.casefold() in used:
        name += "_"
    return name


def parse_value(text: str) -> bool | int | float | str:
    """The value of an option in a spec: true or false, a whole number, a number, or the text itself.

    Args:
        text: what the user typed.
    """
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def shortened(names: Sequence[str], most: int = 5) -> str:
    """Names as a list in a sentence: the first ones, and how many follow.

    Args:
        names: the names.
        most: number of names that are written out.
    """
    rest = len(names) - most
    return ", ".join(map(printable, names[:most])) + (f" and {rest:,} more" if rest > 0 else "")
