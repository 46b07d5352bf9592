"""Check that features are numbers. Torch-free."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from selfsight.core.errors import DataError
from selfsight.core.names import shortened

__all__ = ["refuse_samples", "require_finite"]

BLOCK = 16384
"""Rows that are checked at a time."""


def require_finite(rows: Float[np.ndarray, "sample *size"], part: str, names: Sequence[str] | None = None) -> None:
    """Check that features are numbers.

    Args:
        rows: features (N, …); read in blocks.
        part: what they are features of, for the message.
        names: names of the samples; None: row numbers.

    Raises:
        DataError: some are NaN or infinite; the message counts and names their samples.
    """
    wrong: list[int] = []
    for start in range(0, len(rows), BLOCK):
        finite = np.isfinite(rows[start : start + BLOCK])
        wrong += (start + np.flatnonzero(~finite.reshape(len(finite), -1).all(1))).tolist()
    if wrong:
        raise refuse_samples(wrong, len(rows), f"{part} samples", names)


def refuse_samples(wrong: Sequence[int], count: int, samples: str, names: Sequence[str] | None = None, what: str = "features") -> DataError:
    """The error that counts and names the samples for which a network's output is NaN or infinite.

    Args:
        wrong: rows of these samples.
        count: number of all samples.
        samples: what the samples are, in the plural.
        names: names of all samples; None: row numbers.
        what: what was computed of them.
    """
    shown = shortened([names[row] if names is not None else f"row {row}" for row in wrong])
    return DataError(
        f"The {what} of {len(wrong):,} of {count:,} {samples} are NaN or infinite: {shown}.",
        "The network diverged or overflowed: use another checkpoint, or full precision (--precision fp32; no --half).",
    )
