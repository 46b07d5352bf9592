import numpy as np
import pytest

from selfsight.core.errors import DataError
from selfsight.core.finite import BLOCK, require_finite


def test_rows_that_are_no_numbers_are_counted_and_named():
    rows = np.zeros((BLOCK + 20, 2), dtype=np.float16)
    require_finite(rows, "test")
    rows[3, 1], rows[BLOCK + 2, 0] = np.nan, np.inf
    with pytest.raises(DataError, match=rf"2 of {len(rows):,} test samples are NaN or infinite: row 3, row {BLOCK + 2}\."):
        require_finite(rows, "test")
    rows[5:12] = -np.inf
    with pytest.raises(DataError, match=r"9 of .*: b3, b5, b6, b7, b8 and 4 more\."):
        require_finite(rows, "test", [f"b{row}" for row in range(len(rows))])
