"""Everything that can go wrong, and the exit code that says so.

::

    SelfsightError            1
    ├── UsageError            2   an option, a name or a combination that cannot be meant
    │   ├── ResumeMismatch    2   the run was made with other options
    │   └── MissingHint       2   a method needs something that its view recipe did not record
    ├── DataError             3   the data cannot be read, or too little of it
    ├── Diverged              4   the loss stopped being a number
    ├── Collapsed             4   the representation lost its information
    ├── EnvironmentFault      5   a missing extra, a full disk, a device that is not there
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
    """What happened in one line, and what to do about it in another."""

    exit_code: ClassVar[int] = 1

    def __init__(self, cause: str, remedy: str = "") -> None:
        super().__init__(f"{cause}\n{remedy}" if remedy else cause)
        self.cause, self.remedy = cause, remedy


class UsageError(SelfsightError):
    """An option, a name or a combination that cannot be meant."""

    exit_code = 2


class ResumeMismatch(UsageError):
    """The run to be continued was made with other options."""


class MissingHint(UsageError):
    """A method needs something that its view recipe did not record."""


class DataError(SelfsightError):
    """The data cannot be read, or there is too little of it."""

    exit_code = 3


class Diverged(SelfsightError):
    """The loss stopped being a number and did not recover."""

    exit_code = 4


class Collapsed(SelfsightError):
    """The representation lost its information and the user asked to be stopped by that."""

    exit_code = 4


class EnvironmentFault(SelfsightError):
    """The machine cannot do what was asked: a full disk, a device that is not there."""

    exit_code = 5


class MissingExtra(EnvironmentFault):
    """An optional package is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package}, which is not installed.",
            f"Install it with: pip install 'selfsight[{extra}]'",
        )


class Preempted(SelfsightError):
    """A signal asked the run to stop; it saved itself and can be resumed."""

    exit_code = 75


class Interrupted(SelfsightError):
    """Ctrl-C asked the run to stop; it saved itself and can be resumed."""

    exit_code = 130
