"""What is being done, in words, for whoever listens."""

from collections.abc import Callable

__all__ = ["Say", "quiet"]

Say = Callable[[str], None]


def quiet(words: str) -> None:
    """Say nothing."""
