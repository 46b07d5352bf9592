"""Names that users type."""

import pytest

from selfsight.core.errors import UsageError
from selfsight.core.names import look_up


@pytest.mark.parametrize(
    ("name", "otherwise", "remedy"),
    [("simcrl", "", "Did you mean 'simclr'?"), ("xyz", "", "Choose one of simclr, byol."), ("xyz", "See methods.", "See methods.")],
)
def test_an_unknown_name_has_a_cause_and_a_remedy(name: str, otherwise: str, remedy: str) -> None:
    with pytest.raises(UsageError) as raised:
        look_up("method", name, ("simclr", "byol"), otherwise)
    assert f"There is no method {name!r}." in str(raised.value)
    assert remedy in str(raised.value)


def test_a_known_name_is_returned() -> None:
    assert look_up("method", "byol", ("simclr", "byol")) == "byol"
