"""Parsed names of data sets."""

import difflib
from dataclasses import dataclass

from selfsight.core.errors import UsageError

__all__ = ["Spec", "nearest"]


@dataclass(frozen=True)
class Spec:
    """A parsed name of a data set: ``scheme:name?option=value&option=value``. Paths have the scheme ``path``.

    Attributes:
        text: the unparsed name.
        scheme: name of the reader.
        name: the part between colon and question mark, or the path.
        options: values by name.
    """

    text: str
    scheme: str
    name: str
    options: dict[str, str]

    def allow(self, *known: str) -> None:
        """Reject unknown options.

        Raises:
            UsageError: an option is unknown; the message names the most similar one.
        """
        for option in self.options:
            if option not in known:
                hint = nearest(option, known) or f"Known: {', '.join(known)}."
                raise UsageError(f"{self.text} has an unknown option {option!r}.", hint)

    def number(self, option: str, default: int) -> int:
        """An option as a whole number of 0 or more.

        Args:
            option: its name.
            default: its value if it is not given.

        Raises:
            UsageError: it is not such a number.
        """
        value = self.options.get(option, str(default))
        if not value.isdecimal():
            raise UsageError(f"{option}={value} in {self.text} is not a whole number.", f"Write for example {option}={default}.")
        return int(value)

    def flag(self, option: str, *, default: bool) -> bool:
        """An option as a boolean: ``1``, ``true`` and ``yes`` are true.

        Args:
            option: its name.
            default: its value if it is not given.
        """
        return self.options.get(option, str(default)).lower() in ("1", "true", "yes")


def nearest(word: str, known: tuple[str, ...] | list[str]) -> str:
    """A question that suggests the most similar known word; empty if none is similar.

    Args:
        word: what the user typed.
        known: the known words.
    """
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"Did you mean {close[0]}?" if close else ""
