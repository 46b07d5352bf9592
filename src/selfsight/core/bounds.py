"""Ranges of numbers that users set, by the name of the option. Torch-free."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, isfinite
from numbers import Real

from selfsight.core.errors import UsageError

__all__ = ["ABOVE_0", "AT_LEAST_0", "AT_LEAST_1", "BOUNDS", "FRACTION", "POSITIVE", "Bounds", "check_numbers"]


@dataclass(frozen=True)
class Bounds:
    """Range of a number, which is finite in any case.

    Attributes:
        least: smallest number.
        most: largest number.
        above: whether ``least`` itself is excluded.
    """

    least: float = 0
    most: float = inf
    above: bool = False

    def __str__(self) -> str:
        low = f"above {self.least:g}" if self.above else f"at least {self.least:g}"
        return low if self.most == inf else f"{low} and at most {self.most:g}"

    def fits(self, value: float) -> bool:
        """Whether a number is finite and within the range."""
        return isfinite(value) and (value > self.least if self.above else value >= self.least) and value <= self.most

    def require(self, name: str, value: float) -> None:
        """Check a number.

        Args:
            name: name of the option.
            value: the number.

        Raises:
            UsageError: it is infinite, NaN or outside of the range.
        """
        if not self.fits(value):
            raise UsageError(f"{name} is {value:g}, and must be {self}.", f"Set it with --{name.replace('_', '-')}, or omit it.")


AT_LEAST_0, AT_LEAST_1, POSITIVE, FRACTION = Bounds(0), Bounds(1), Bounds(0, above=True), Bounds(0, 1)
ABOVE_0, SIDE = Bounds(0, 1, above=True), Bounds(8, 8192)

BOUNDS: dict[str, Bounds] = {
    "adversarial_weight": AT_LEAST_0,
    "balance": AT_LEAST_0,
    "batch": AT_LEAST_1,
    "block": Bounds(-1024, 1024),
    "classes": AT_LEAST_1,
    "colour": AT_LEAST_0,
    "count": AT_LEAST_1,
    "depth": FRACTION,
    "diversity": AT_LEAST_0,
    "duplicate_threshold": Bounds(-1, 1),
    "epsilon": POSITIVE,
    "feature_weight": AT_LEAST_0,
    "fraction": ABOVE_0,
    "head": AT_LEAST_0,
    "heads": AT_LEAST_1,
    "limit": AT_LEAST_1,
    "mass": ABOVE_0,
    "min_area": FRACTION,
    "min_confidence": FRACTION,
    "minutes": POSITIVE,
    "neighbours": AT_LEAST_1,
    "objects": AT_LEAST_1,
    "parts": AT_LEAST_1,
    "port": Bounds(0, 65535),
    "rate": POSITIVE,
    "required_fraction": ABOVE_0,
    "restarts": AT_LEAST_1,
    "rings": AT_LEAST_0,
    "rounds": AT_LEAST_1,
    "seed": Bounds(0, 2**63 - 1),
    "seeds": AT_LEAST_1,
    "segments": AT_LEAST_1,
    "sharpness": POSITIVE,
    "side": SIDE,
    "size": SIDE,
    "steps": AT_LEAST_0,
    "stride": AT_LEAST_1,
    "temperature": POSITIVE,
    "threshold": Bounds(-1, 1),
    "vectors": AT_LEAST_0,
    "weight": POSITIVE,
    "width": AT_LEAST_1,
    "wrong": FRACTION,
}
"""Ranges of the options of verbs, and of the keywords of the functions that they call; methods have their own (``methods.limits``)."""


def check_numbers(options: Mapping[str, object], bounds: Mapping[str, Bounds] = BOUNDS) -> None:
    """Check the numbers among options; others, and options without a range, are ignored.

    Args:
        options: values by name; a sequence of numbers is checked number by number.
        bounds: ranges by name.

    Raises:
        UsageError: a number is infinite, NaN or outside of its range.
    """
    for name, value in options.items():
        for number in value if isinstance(value, tuple | list) else (value,):
            if name in bounds and isinstance(number, Real) and not isinstance(number, bool):
                bounds[name].require(name, float(number))
