"""Ranges of the numeric options of methods."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from selfsight.core.bounds import ABOVE_0, AT_LEAST_0, AT_LEAST_1, FRACTION, POSITIVE, Bounds, check_numbers
from selfsight.core.schedule import Constant, Cosine, Steps, Warmup
from selfsight.methods.table import method_class

__all__ = ["LIMITS", "check_options", "limit_of"]

LIMITS: dict[str, Bounds] = {
    "alone": FRACTION,
    "before": FRACTION,
    "epsilon": POSITIVE,
    "keep": FRACTION,
    "labelled": ABOVE_0,
    "mix": FRACTION,
    "momentum": FRACTION,
    "negatives": AT_LEAST_0,
    "power": POSITIVE,
    "queue": AT_LEAST_0,
    "queue_from": FRACTION,
    "rest": FRACTION,
    "scale": POSITIVE,
    "shares": POSITIVE,
    "sharpness": POSITIVE,
    "size": Bounds(8, 8192),
    "student_temperature": POSITIVE,
    "teacher_temperature": POSITIVE,
    "temperature": POSITIVE,
}
"""Ranges by option, of all methods that have it, unless a method has its own (``Method.limits``).

Other whole numbers are at least 1, other numbers at least 0.
"""


def limit_of(method: str, option: str, default: object) -> Bounds:
    """Range of a numeric option of a method.

    Args:
        method: name of the method.
        option: name of the option.
        default: its default, whose type decides where no range is written.
    """
    whole = isinstance(default, int) or (isinstance(default, tuple) and all(isinstance(one, int) for one in default))
    return method_class(method).limits.get(option) or LIMITS.get(option) or (AT_LEAST_1 if whole else AT_LEAST_0)


def check_options(method: str, options: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Check the numbers among a method's options, also those of schedules.

    Args:
        method: name of the method.
        options: values by name.
        defaults: defaults by name.

    Raises:
        UsageError: a number is infinite, NaN or outside of its range.
    """
    for name, value in options.items():
        limit = limit_of(method, name, defaults.get(name))
        if isinstance(value, Constant | Cosine | Warmup | Steps):
            parts = {item.name: getattr(value, item.name) for item in fields(value)}
            times = {part: parts.pop(part) for part in ("until", "at") if part in parts}
            for part, bounds in ((parts, limit), (times, FRACTION)):
                check_numbers(dict.fromkeys([name], tuple(_flat(part))), {name: bounds})
        elif not is_dataclass(value):
            check_numbers({name: value}, {name: limit})


def _flat(parts: Mapping[str, Any]) -> list[float]:
    return [number for value in parts.values() for number in (value if isinstance(value, tuple) else (value,))]
