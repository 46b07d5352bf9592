"""What is being done, in words, for whoever listens."""

from collections.abc import Callable

__all__ = ["ProgressCallback", "no_progress"]

ProgressCallback = Callable[[str], None]


def no_progress(words: str) -> None:
    """Say nothing."""
