"""The table of published settings agrees with the settings in the code."""

import sys
from pathlib import Path

import pytest

from selfsight.methods.table import METHODS

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "docs"))
from published import PUBLISHED, own

sys.path.pop(0)
TEXT = ("loss", "run")
ROWS = [(method, row) for method, code in PUBLISHED.items() for row in code.rows if row.name not in TEXT]


@pytest.mark.parametrize(("method", "row"), ROWS, ids=[f"{method}-{row.name}" for method, row in ROWS])
def test_ours_is_the_published_one_or_says_why_not(method, row) -> None:
    assert (own(method)[row.name] == row.value) == (not row.differs)


def test_every_setting_is_cited() -> None:
    for method, code in PUBLISHED.items():
        assert method in METHODS
        assert {row.name for row in code.rows} >= {"loss", "large crops", "rate"}
        assert not code.repository or (len(code.commit) == 40 and all("#L" in row.where for row in code.rows))
