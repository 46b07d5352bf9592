"""The tests check types and shapes of calls into the package."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import Float, TypeCheckError
from torch import Tensor

from selfsight.core.clock import Clock, key
from selfsight.core.views import Images

from checking import checked


@checked
def product(left: Float[Tensor, "n d"], right: Float[Tensor, "m d"], scale: float = 1.0) -> Float[Tensor, "n m"]:
    return left @ right.T * scale


@checked
def square(rows: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n n"], int]:
    return rows, 1


def test_right_calls_pass() -> None:
    for n in (2, 5):  # a size holds within one call only
        assert product(torch.ones(n, 3), torch.ones(4, 3), 2).shape == (n, 4)
    assert square(torch.ones(3, 3))[1] == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda: product(torch.ones(2, 3), torch.ones(4, 2)),
        lambda: product(torch.ones(3), torch.ones(4, 3)),
        lambda: product(torch.ones(2, 3, dtype=torch.long), torch.ones(4, 3)),
        lambda: product(torch.ones(2, 3), torch.ones(4, 3), "1"),  # pyright: ignore[reportArgumentType]
        lambda: square(torch.ones(2, 3)),
        lambda: key("1"),  # pyright: ignore[reportArgumentType]
        lambda: Clock("1", 0, 1, 1),  # pyright: ignore[reportArgumentType]
        lambda: Images(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(3, dtype=torch.long)),
    ],
)
def test_wrong_calls_are_rejected(call: Callable[[], Any]) -> None:
    with pytest.raises((BeartypeCallHintViolation, TypeCheckError)):
        call()
