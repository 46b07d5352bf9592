"""Names of data sets, taken apart."""

import difflib
from dataclasses import dataclass

from selfsight.core.errors import UsageError

__all__ = ["Spec", "nearest"]


@dataclass(frozen=True)
class Spec:
    """A data set's name taken apart: ``scheme:name?option=value&option=value``. Paths have the scheme ``path``."""

    text: str
    scheme: str
    name: str
    options: dict[str, str]

    def allow(self, *known: str) -> None:
        """Refuse options that nobody reads.

        Raises:
            UsageError: naming the nearest known option.
        """
        for option in self.options:
            if option not in known:
                hint = nearest(option, known) or f"Known: {', '.join(known)}."
                raise UsageError(f"{self.text} has an unknown option {option!r}.", hint)

    def number(self, option: str, default: int) -> int:
        """An option as a whole number of 0 or more.

        Raises:
            UsageError: it is something else.
        """
        value = self.options.get(option, str(default))
        if not value.isdecimal():
            raise UsageError(f"{option}={value} in {self.text} is not a whole number.", f"Write for example {option}={default}.")
        return int(value)

    def flag(self, option: str, *, default: bool) -> bool:
        """An option as yes or no."""
        return self.options.get(option, str(default)).lower() in ("1", "true", "yes")


def nearest(word: str, known: tuple[str, ...] | list[str]) -> str:
    """A question that offers the known word that looks most like this one; empty if none does."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"Did you mean {close[0]}?" if close else ""
