"""Exceptions and their exit codes.

::

    SelfsightError            1
    ├── UsageError            2   an invalid option, name or combination
    │   ├── ResumeMismatch    2   the run was made with other options
    │   └── MissingHint       2   a method needs a hint that its view recipe does not record
    ├── DataError             3   the data cannot be read, or there is too little of it
    ├── Diverged              4   the loss is not finite
    ├── Collapsed             4   the representation has collapsed
    ├── EnvironmentFault      5   a missing extra, a full disk, an unavailable device
    │   └── MissingExtra      5   an optional package is not installed
    ├── Preempted            75   stopped by a signal; resumable
    └── Interrupted         130   stopped by Ctrl-C; resumable
"""

from typing import ClassVar

__all__ = [
    "Collapsed",
    "DataError",
    "Diverged",
    "EnvironmentFault",
    "Interrupted",
    "MissingExtra",
    "MissingHint",
    "Preempted",
    "ResumeMismatch",
    "SelfsightError",
    "UsageError",
]


class SelfsightError(Exception):
    """An error with one line for the cause and one for the remedy."""

    exit_code: ClassVar[int] = 1

    def __init__(self, cause: str, remedy: str = "") -> None:
        super().__init__(f"{cause}\n{remedy}" if remedy else cause)
        self.cause, self.remedy = cause, remedy


class UsageError(SelfsightError):
    """An option, a name or a combination is invalid."""

    exit_code = 2


class ResumeMismatch(UsageError):
    """The run to continue was made with other options."""


class MissingHint(UsageError):
    """A method needs a hint that its view recipe does not record."""


class DataError(SelfsightError):
    """The data cannot be read, or there is too little of it."""

    exit_code = 3


class Diverged(SelfsightError):
    """The loss was not finite for several steps."""

    exit_code = 4


class Collapsed(SelfsightError):
    """The representation has collapsed, and the user requested to stop in that case."""

    exit_code = 4


class EnvironmentFault(SelfsightError):
    """The machine cannot do what was requested: a full disk, an unavailable device."""

    exit_code = 5


class MissingExtra(EnvironmentFault):
    """An optional package is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package}, which is not installed.",
            f"Install it with: pip install 'selfsight[{extra}]'",
        )


class Preempted(SelfsightError):
    """A signal stopped the run; it was saved and can be resumed."""

    exit_code = 75


class Interrupted(SelfsightError):
    """Ctrl-C stopped the run; it was saved and can be resumed."""

    exit_code = 130
