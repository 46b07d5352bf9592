"""JSON text that every parser reads: NaN and infinity are not valid JSON (RFC 8259, section 6). Torch-free."""

import json
import math
from collections.abc import Mapping
from typing import Any

__all__ = ["json_text"]


def json_text(
    content: object,
    *,
    indent: int | None = None,
    sort_keys: bool = False,
    ensure_ascii: bool = True,
    separators: tuple[str, str] | None = None,
) -> str:
    """A value as JSON, with ``null`` in place of NaN and infinite numbers.

    Args:
        content: dictionaries, lists, texts and numbers.
        indent: spaces per level; None: one line.
        sort_keys: whether keys are sorted.
        ensure_ascii: whether other characters are escaped.
        separators: of items, and of keys and values.

    Raises:
        TypeError: a value is not one of these.
    """
    options: dict[str, Any] = {"indent": indent, "sort_keys": sort_keys, "ensure_ascii": ensure_ascii, "separators": separators}
    return json.dumps(_without_nan(content), allow_nan=False, **options)


def _without_nan(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _without_nan(each) for name, each in value.items()}
    return [_without_nan(each) for each in value] if isinstance(value, list | tuple) else value
