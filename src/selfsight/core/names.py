"""Names and values that users type."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches

from selfsight.core.errors import UsageError

__all__ = ["look_up", "one_per_line", "parse_value", "require_at_least", "shortened", "unused_name"]


def one_per_line(names: Iterable[str]) -> str:
    r"""Names as lines of a text file; a line break within a name is written ``\n`` or ``\r``.

    Args:
        names: names of files.
    """
    return "".join(f"{name}\n" for name in (name.replace("\n", r"\n").replace("\r", r"\r") for name in names))


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


def require_at_least(least: float, values: Mapping[str, float | None]) -> None:
    """Check that numbers are finite and not below a limit.

    Args:
        least: the limit.
        values: numbers by the name of their option; None is not checked.

    Raises:
        UsageError: a number is smaller, infinite or NaN.
    """
    for name, value in values.items():
        if value is not None and not least <= value < float("inf"):
            raise UsageError(
                f"{name} is {value:g}, and must be at least {least:g}.", f"Set it with --{name.replace('_', '-')}, or omit it."
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
    return ", ".join(names[:most]) + (f" and {rest:,} more" if rest > 0 else "")
