"""Progress messages."""

from collections.abc import Callable

__all__ = ["ProgressCallback", "no_progress"]

ProgressCallback = Callable[[str], None]


def no_progress(words: str) -> None:
    """Ignore a message."""
