"""selfsight: learn visual representations without labels, measure them, explain them, and put them to use."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selfsight.api import Run, compare, learn, load, open, wrap

__version__ = "0.1.0"
__all__ = ["Run", "compare", "learn", "load", "open", "wrap"]


def __getattr__(name: str) -> Any:
    """Load the Python API on first access (PEP 562): importing the package loads neither torch nor timm."""
    if name in __all__:
        return getattr(import_module("selfsight.api"), name)
    raise AttributeError(f"module 'selfsight' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
