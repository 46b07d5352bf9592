"""Names that users type."""

import pytest

from selfsight.core.errors import UsageError
from selfsight.core.names import look_up, one_per_line, printable, shortened


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


def test_control_characters_of_names_have_no_effect():
    name = "a\nb\tc\x1b[31m\u202ed é猫"
    assert printable(name) == r"a\nb\tc\x1b[31m\u202ed é猫"
    assert one_per_line([name, "x"]).splitlines() == [r"a\nb\tc\x1b[31m\u202ed é猫", "x"]
    assert shortened([name]) == printable(name)
