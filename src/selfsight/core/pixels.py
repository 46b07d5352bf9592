"""Raw pixels (uint8, or in [0, 1]) and a network's normalised input as different types for type checkers.

A raw image is any ``Tensor``; ``Representation.normalise`` makes it ``Normalised``. Functions that take normalised input declare so, and a type
checker rejects raw images there. At run time both are tensors.
"""

from typing import TYPE_CHECKING, NewType, cast

from torch import Tensor

__all__ = ["Normalised", "as_normalised"]

if TYPE_CHECKING:
    Normalised = NewType("Normalised", Tensor)
else:
    Normalised = Tensor


def as_normalised(values: Tensor) -> Normalised:
    """Declare that a tensor is normalised input: part of one, or one that is changed or synthetic."""
    return cast("Normalised", values)
